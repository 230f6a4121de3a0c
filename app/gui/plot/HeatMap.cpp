#include "app/gui/plot/HeatMap.h"

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

HeatMap::HeatMap(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

void HeatMap::setValues(std::vector<std::vector<double>> values, bool logarithmic) {
    values_ = std::move(values);
    range_.reset();
    for (const auto& row : values_)
        for (const double value : row) {
            if (!std::isfinite(value) || (logarithmic && value <= 0))
                continue;
            range_ = range_ ? std::pair(std::min(range_->first, value), std::max(range_->second, value))
                            : std::pair(value, value);
        }
    logarithmic_ = logarithmic;
}

QRectF HeatMap::rectOf(int row, int column) const {
    const double left = (column - 0.5) * columnWidth_, right = (column + 0.5) * columnWidth_;
    return QRectF(coordsToPixels(left, row - 0.5), coordsToPixels(right, row + 0.5)).normalized();
}

QColor HeatMap::colourOf(double value) const {
    const auto [low, high] = *range_;
    double t = 0.5;
    if (value == std::numeric_limits<double>::infinity())
        t = 1;
    else if (high > low)
        t = logarithmic_ ? (value > 0 ? std::log(value / low) / std::log(high / low) : 0)
                         : (value - low) / (high - low);
    return Theme::sequential(std::clamp(t, 0.0, 1.0));
}

std::optional<HeatMap::Cell> HeatMap::cellAt(QPointF pixel) const {
    if (values_.empty())
        return std::nullopt;
    double key = 0, value = 0;
    pixelsToCoords(pixel, key, value);
    const Cell cell{static_cast<int>(std::lround(value)), static_cast<int>(std::lround(key / columnWidth_))};
    const bool inside = cell.row >= 0 && cell.row < static_cast<int>(values_.size()) && cell.column >= 0 &&
                        cell.column < static_cast<int>(values_.front().size());
    return inside ? std::optional(cell) : std::nullopt;
}

void HeatMap::draw(QCPPainter* painter) {
    if (!range_)
        return;
    painter->setAntialiasing(false);
    painter->setPen(Qt::NoPen);
    const QRectF shown = clipRect();
    for (int row = 0; row < static_cast<int>(values_.size()); ++row)
        for (int column = 0; column < static_cast<int>(values_[static_cast<std::size_t>(row)].size()); ++column) {
            QRectF cell = rectOf(row, column);
            const double value = this->value({row, column});
            if (std::isnan(value) || !cell.intersects(shown))
                continue;
            // Wide cells are set apart by a hair of background; narrow ones touch, without seams between them.
            if (cell.width() > 6 && cell.height() > 6)
                cell.adjust(0.5, 0.5, -0.5, -0.5);
            else
                cell = QRectF(QPointF(std::floor(cell.left()), cell.top()),
                              QPointF(std::ceil(cell.right()), cell.bottom()));
            painter->fillRect(cell, colourOf(value));
        }
    drawNumbers(painter);
    if (marked_) {
        painter->setPen(QPen(Theme::instance().text(), 2));
        painter->setBrush(Qt::NoBrush);
        painter->drawRect(rectOf(marked_->row, marked_->column).adjusted(1, 1, -1, -1));
    }
}

void HeatMap::drawNumbers(QCPPainter* painter) const {
    const QRectF first = rectOf(0, 0);
    QFont font = mParentPlot->font();
    font.setPointSizeF(font.pointSizeF() * 0.9);
    const QFontMetricsF metrics(font);
    if (first.width() < metrics.horizontalAdvance(QStringLiteral("0.0000")) || first.height() < metrics.height() + 2)
        return;
    painter->setFont(font);
    for (int row = 0; row < static_cast<int>(values_.size()); ++row)
        for (int column = 0; column < static_cast<int>(values_[static_cast<std::size_t>(row)].size()); ++column) {
            const double value = this->value({row, column});
            const QString text = significant(value);
            const QRectF cell = rectOf(row, column);
            if (std::isnan(value) || metrics.horizontalAdvance(text) > cell.width() - 4)
                continue;
            const QColor ground = colourOf(value);
            const double luminance = 0.2126 * ground.redF() + 0.7152 * ground.greenF() + 0.0722 * ground.blueF();
            painter->setPen(luminance > 0.45 ? QColor(0x10, 0x14, 0x18) : QColor(0xff, 0xff, 0xff));
            painter->drawText(cell, Qt::AlignCenter, text);
        }
}

} // namespace qs::gui
