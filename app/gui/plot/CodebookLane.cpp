#include "app/gui/plot/CodebookLane.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

CodebookLane::CodebookLane(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

void CodebookLane::setReport(std::shared_ptr<const BinsReport> report) {
    report_ = std::move(report);
    block_ = nullptr;
    weights_ = std::accumulate(report_->usage.begin(), report_->usage.end(), std::uint64_t{0});
    error_ = std::accumulate(report_->error.begin(), report_->error.end(), 0.0);
}

void CodebookLane::setBlock(std::shared_ptr<const BlockBins> block, std::uint64_t element) {
    setReport(std::shared_ptr<const BinsReport>(block, &block->bins));
    block_ = std::move(block);
    element_ = element;
}

QCPRange CodebookLane::bin(std::size_t level) const {
    const auto& levels = report_->codebook.levels;
    const auto& boundaries = report_->codebook.boundaries;
    if (boundaries.empty())
        return {-1, 1};
    const double low = level == 0 ? 2 * levels.front().value - boundaries.front() : boundaries[level - 1];
    const double high = level + 1 == size() ? 2 * levels.back().value - boundaries.back() : boundaries[level];
    return {low, high};
}

double CodebookLane::weightShare(std::size_t level) const {
    return weights_ == 0 ? 0 : static_cast<double>(report_->usage[level]) / static_cast<double>(weights_);
}

double CodebookLane::errorShare(std::size_t level) const {
    return error_ > 0 ? report_->error[level] / error_ : 0;
}

double CodebookLane::largestWeightShare() const {
    double largest = 0;
    for (std::size_t i = 0; i < size(); ++i)
        largest = std::max(largest, weightShare(i));
    return largest;
}

double CodebookLane::largestErrorShare() const {
    double largest = 0;
    for (std::size_t i = 0; i < size(); ++i)
        largest = std::max(largest, errorShare(i));
    return largest;
}

std::optional<std::size_t> CodebookLane::levelAt(double position) const {
    if (size() == 0 || position < bin(0).lower || position > bin(size() - 1).upper)
        return std::nullopt;
    return probe(report_->codebook, position).level;
}

QRectF CodebookLane::rectOf(std::size_t level) const {
    const QCPRange range = bin(level);
    return QRectF(coordsToPixels(range.lower, 100 * weightShare(level)), coordsToPixels(range.upper, 0)).normalized();
}

void CodebookLane::draw(QCPPainter* painter) {
    if (!report_)
        return;
    const QRectF shown = clipRect();
    painter->setAntialiasing(true);
    for (std::size_t i = 0; i < size(); ++i) {
        QRectF rect = rectOf(i);
        if (report_->usage[i] == 0 || rect.right() < shown.left() || rect.left() > shown.right())
            continue;
        // A bin that holds anything is seen, however few or narrow.
        rect.setTop(std::min(rect.top(), rect.bottom() - 1.5));
        if (rect.width() < 1)
            rect.setWidth(1);
        painter->fillRect(rect, Theme::sequential(topError_ > 0 ? std::min(1.0, errorShare(i) / topError_) : 0));
        // The dark end of the map is near the ground of the dark theme.
        if (Theme::instance().dark()) {
            painter->setPen(QPen(Theme::instance().mutedText(), 1));
            painter->drawLine(rect.topLeft(), rect.topRight());
        }
    }
    drawBoundaries(painter);
    drawLevels(painter);
    if (block_)
        drawWeights(painter);
    if (marked_) {
        painter->setPen(QPen(Theme::instance().accent(), 1.5));
        painter->setBrush(Qt::NoBrush);
        QRectF rect = rectOf(*marked_);
        rect.setTop(shown.top());
        painter->drawRect(rect);
    }
}

void CodebookLane::drawBoundaries(QCPPainter* painter) const {
    const QRectF shown = clipRect();
    QColor colour = Theme::instance().mutedText();
    double before = -1e9;
    painter->setAntialiasing(false);
    for (std::size_t i = 0; i < report_->codebook.boundaries.size(); ++i) {
        const double x = keyAxis()->coordToPixel(report_->codebook.boundaries[i]);
        const double apart = x - before;
        before = x;
        if (x < shown.left() || x > shown.right() || apart < 1.5)
            continue;
        // Where boundaries crowd together they fade, so that the fills can be seen.
        colour.setAlphaF(static_cast<float>(std::clamp(apart / 40, 0.10, 0.55)));
        painter->setPen(QPen(colour, 1));
        painter->drawLine(QPointF(x, shown.top()), QPointF(x, shown.bottom()));
    }
}

void CodebookLane::drawLevels(QCPPainter* painter) const {
    const QRectF shown = clipRect();
    const bool crowded = size() > 64;
    const double length = crowded ? 4 : 8;
    double before = -1e9;
    painter->setAntialiasing(!crowded);
    painter->setPen(QPen(tick_, crowded ? 1 : 2));
    for (const Level& level : report_->codebook.levels) {
        const double x = keyAxis()->coordToPixel(level.value);
        if (x < shown.left() || x > shown.right() || x - before < 1)
            continue;
        before = x;
        painter->drawLine(QPointF(x, shown.bottom()), QPointF(x, shown.bottom() - length));
    }
}

void CodebookLane::drawWeights(QCPPainter* painter) const {
    const QRectF shown = clipRect();
    const std::size_t count = block_->weights.size();
    QColor colour = Theme::instance().text();
    // Where there are many they fade, so that their density can be seen.
    colour.setAlphaF(count <= 64 ? 0.75F : count <= 512 ? 0.35F : 0.12F);
    const auto tick = [&](float weight, double length) {
        const double x = keyAxis()->coordToPixel(weight);
        if (x >= shown.left() && x <= shown.right())
            painter->drawLine(QPointF(x, shown.top()), QPointF(x, shown.top() + length));
    };
    painter->setAntialiasing(true);
    painter->setPen(QPen(colour, 1));
    for (const BlockWeight& each : block_->weights)
        if (std::isfinite(each.weight))
            tick(each.weight, 6);
    if (element_ >= block_->block.begin && element_ < block_->block.begin + count) {
        painter->setPen(QPen(Theme::instance().accent(), 2));
        tick(block_->weights[static_cast<std::size_t>(element_ - block_->block.begin)].weight, 9);
    }
}

} // namespace qs::gui
