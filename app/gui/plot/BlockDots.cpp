#include "app/gui/plot/BlockDots.h"

#include <algorithm>
#include <cmath>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

BlockDots::BlockDots(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

void BlockDots::setBlock(std::shared_ptr<const BlockBins> block, std::uint64_t marked) {
    block_ = std::move(block);
    marked_ = marked;
}

std::optional<std::size_t> BlockDots::placeAt(double value) const {
    const double place = std::round(value);
    if (!block_ || place < 0 || place >= static_cast<double>(block_->weights.size()))
        return std::nullopt;
    return static_cast<std::size_t>(place);
}

void BlockDots::draw(QCPPainter* painter) {
    if (!block_ || block_->weights.empty())
        return;
    const Theme& theme = Theme::instance();
    const double apart = std::abs(valueAxis()->coordToPixel(1) - valueAxis()->coordToPixel(0));
    const double radius = std::clamp(apart / 2 - 0.2, 1.5, 3.0);
    painter->setAntialiasing(true);
    for (std::size_t place = 0; place < block_->weights.size(); ++place) {
        const auto& [weight, level] = block_->weights[place];
        if (!std::isfinite(weight))
            continue;
        const bool marked = place == marked_;
        const QPointF from = coordsToPixels(weight, static_cast<double>(place));
        const QPointF to = coordsToPixels(block_->bins.codebook.levels[level].value, static_cast<double>(place));
        painter->setPen(QPen(colour_, marked ? 2 : 1.2));
        painter->drawLine(from, to);
        if (apart > 4)
            painter->drawLine(to - QPointF(0, radius), to + QPointF(0, radius));
        painter->setPen(Qt::NoPen);
        painter->setBrush(marked ? theme.accent() : theme.original());
        painter->drawEllipse(from, marked ? radius + 1.5 : radius, marked ? radius + 1.5 : radius);
    }
}

} // namespace qs::gui
