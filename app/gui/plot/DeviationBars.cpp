#include "app/gui/plot/DeviationBars.h"

#include <algorithm>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr double half_height = 0.3;
constexpr double label_gap = 8;

} // namespace

std::optional<std::size_t> DeviationBars::barAt(double value) const {
    const auto row = std::lround(value);
    return row >= 0 && row < static_cast<long>(bars_.size()) ? std::optional(static_cast<std::size_t>(row))
                                                             : std::nullopt;
}

QCPRange DeviationBars::shown(bool log, double room) const {
    std::optional<QCPRange> range;
    const auto add = [&](double value) {
        if (std::isfinite(value) && (!log || value > 0))
            range = range ? range->expanded(QCPRange(value, value)) : QCPRange(value, value);
    };
    for (const Bar& bar : bars_) {
        add(bar.value);
        add(bar.value - (log ? 0 : bar.error));
        add(bar.value + bar.error);
    }
    add(base_);
    if (line_) {
        add(line_->value - line_->error);
        add(line_->value + line_->error);
    }
    if (!range)
        return log ? QCPRange(0.1, 1) : QCPRange(0, 1);
    if (log) {
        // Where bars begin at the end of the axis the smallest one is seen too.
        const double lower = base_ > 0 ? range->lower / std::pow(range->upper / range->lower, 0.06) : range->lower / 2;
        return {lower, range->upper * std::max(1.02, std::pow(range->upper / lower, room))};
    }
    if (range->size() == 0 && range->upper == 0)
        return {0, 1};
    const double size = range->size() > 0 ? range->size() : std::abs(range->upper);
    const double margin = range->lower == base_ && base_ == 0 ? 0 : 0.06 * size;
    return {range->lower - margin, range->upper + room * size};
}

double DeviationBars::pixelOf(double value) const {
    const QCPAxis* axis = keyAxis();
    const bool log = axis->scaleType() == QCPAxis::stLogarithmic;
    return axis->coordToPixel(log && value <= 0 ? axis->range().lower : value);
}

void DeviationBars::draw(QCPPainter* painter) {
    drawGroups(painter);
    drawLine(painter);
    for (std::size_t i = 0; i < bars_.size(); ++i)
        drawBar(painter, i);
}

void DeviationBars::drawGroups(QCPPainter* painter) const {
    painter->setAntialiasing(false);
    painter->setPen(QPen(Theme::instance().grid(), 1));
    for (std::size_t i = 1; i < bars_.size(); ++i)
        if (bars_[i].begins) {
            const double y = valueAxis()->coordToPixel(static_cast<double>(i) - 0.5);
            painter->drawLine(QPointF(clipRect().left(), y), QPointF(clipRect().right(), y));
        }
}

void DeviationBars::drawLine(QCPPainter* painter) const {
    if (!line_)
        return;
    const QRect room = clipRect();
    QColor band = Theme::instance().original();
    band.setAlphaF(0.18F);
    painter->setAntialiasing(false);
    painter->fillRect(QRectF(QPointF(pixelOf(line_->value - line_->error), room.top()),
                             QPointF(pixelOf(line_->value + line_->error), room.bottom())),
                      band);
    painter->setAntialiasing(true);
    painter->setPen(QPen(Theme::instance().original(), 1.5, Qt::DashLine));
    const double x = pixelOf(line_->value);
    painter->drawLine(QPointF(x, room.top()), QPointF(x, room.bottom()));
}

void DeviationBars::drawBar(QCPPainter* painter, std::size_t index) const {
    const Bar& bar = bars_[index];
    const double row = static_cast<double>(index);
    const double top = valueAxis()->coordToPixel(row - half_height);
    const double bottom = valueAxis()->coordToPixel(row + half_height), middle = (top + bottom) / 2;
    double end = pixelOf(base_);
    if (std::isfinite(bar.value)) {
        const double from = pixelOf(base_), to = pixelOf(bar.value);
        QRectF rect = QRectF(QPointF(from, top), QPointF(to, bottom)).normalized();
        rect.setWidth(std::max(rect.width(), 1.5));
        painter->setAntialiasing(false);
        painter->fillRect(rect, bar.colour);
        end = std::max(from, to);
        if (bar.error > 0) {
            const double left = pixelOf(bar.value - bar.error), right = pixelOf(bar.value + bar.error);
            painter->setAntialiasing(true);
            painter->setPen(QPen(Theme::instance().text(), 1.2));
            painter->drawLine(QPointF(left, middle), QPointF(right, middle));
            for (const double cap : {left, right})
                painter->drawLine(QPointF(cap, middle - 3), QPointF(cap, middle + 3));
            end = std::max(end, right);
        }
    }
    QFont font = mParentPlot->font();
    font.setBold(bar.strong);
    const QFontMetricsF metrics(font);
    QRectF place(end + label_gap, middle - metrics.height() / 2, metrics.horizontalAdvance(bar.label) + 4,
                 metrics.height());
    if (line_) {
        const double line = pixelOf(line_->value + line_->error);
        if (line > place.left() - 4 && pixelOf(line_->value - line_->error) < place.right())
            place.moveLeft(line + label_gap);
    }
    painter->setFont(font);
    painter->setPen(Theme::instance().text());
    painter->drawText(place, Qt::AlignVCenter | Qt::AlignLeft, bar.label);
}

} // namespace qs::gui
