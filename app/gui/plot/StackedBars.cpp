#include "app/gui/plot/StackedBars.h"

#include <algorithm>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr double half_height = 0.32;
constexpr double label_gap = 14;

QColor fitsColour() {
    return Theme::instance().dark() ? QColor(0x3f, 0xb9, 0x8f) : QColor(0x00, 0x7a, 0x58);
}
QColor exceedsColour() {
    return Theme::instance().dark() ? QColor(0xff, 0x9b, 0x73) : QColor(0xb0, 0x3a, 0x10);
}

} // namespace

double StackedBars::Bar::total() const {
    double sum = 0;
    for (const Segment& segment : segments)
        sum += segment.size;
    return sum;
}

StackedBars::StackedBars(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

void StackedBars::setLimit(std::optional<double> limit, const QString& name) {
    limit_ = limit;
    limitName_ = name;
}

QRectF StackedBars::span(std::size_t bar, double from, double to) const {
    const auto row = static_cast<double>(bar);
    const double left = keyAxis()->coordToPixel(from), right = keyAxis()->coordToPixel(to);
    const double top = valueAxis()->coordToPixel(row - half_height),
                 bottom = valueAxis()->coordToPixel(row + half_height);
    return QRectF(QPointF(left, top), QPointF(right, bottom)).normalized();
}

QRectF StackedBars::rectOf(std::size_t bar, std::size_t segment) const {
    double from = 0;
    for (std::size_t i = 0; i < segment; ++i)
        from += bars_[bar].segments[i].size;
    return span(bar, from, from + bars_[bar].segments[segment].size);
}

std::optional<StackedBars::Hit> StackedBars::hitAt(QPointF pixel) const {
    for (std::size_t bar = 0; bar < bars_.size(); ++bar)
        for (std::size_t segment = 0; segment < bars_[bar].segments.size(); ++segment)
            if (rectOf(bar, segment).contains(pixel))
                return Hit{bar, segment};
    return std::nullopt;
}

void StackedBars::draw(QCPPainter* painter) {
    const QColor ground = Theme::instance().background();
    for (std::size_t bar = 0; bar < bars_.size(); ++bar) {
        painter->setAntialiasing(false);
        for (std::size_t i = 0; i < bars_[bar].segments.size(); ++i) {
            const QRectF rect = rectOf(bar, i);
            painter->fillRect(rect, bars_[bar].segments[i].colour);
            if (rect.width() > 3) {
                painter->setPen(QPen(ground, 1));
                painter->drawLine(rect.topRight(), rect.bottomRight());
            }
        }
        drawEnd(painter, bar);
        drawLabel(painter, bar);
    }
    drawLimit(painter);
}

void StackedBars::drawEnd(QCPPainter* painter, std::size_t bar) const {
    const double total = bars_[bar].total();
    painter->setAntialiasing(false);
    if (limit_ && total > *limit_) {
        const QRectF beyond = span(bar, *limit_, total);
        QColor veil = Theme::instance().background();
        veil.setAlphaF(0.55F);
        painter->fillRect(beyond, veil);
        painter->fillRect(beyond, QBrush(exceedsColour(), Qt::BDiagPattern));
        painter->setPen(QPen(exceedsColour(), 1));
        painter->setBrush(Qt::NoBrush);
        painter->drawRect(beyond);
    } else if (limit_) {
        QRectF end = span(bar, total, total);
        end.setWidth(4);
        painter->fillRect(end, fitsColour());
    }
    if (bars_[bar].mark > 0) {
        const QRectF tick = span(bar, bars_[bar].mark, bars_[bar].mark).adjusted(0, -5, 0, 5);
        painter->setAntialiasing(true);
        painter->setPen(QPen(Theme::instance().background(), 4));
        painter->drawLine(tick.topLeft(), tick.bottomLeft());
        painter->setPen(QPen(Theme::instance().text(), 2));
        painter->drawLine(tick.topLeft(), tick.bottomLeft());
    }
}

void StackedBars::drawLabel(QCPPainter* painter, std::size_t bar) const {
    QFont font = mParentPlot->font();
    font.setBold(bars_[bar].strong);
    const QFontMetricsF metrics(font);
    const double total = bars_[bar].total();
    const bool fits = !limit_ || total <= *limit_;
    const QString text =
        limit_ ? (fits ? QStringLiteral("✓ ") : QStringLiteral("✗ ")) + bars_[bar].label : bars_[bar].label;
    const double width = metrics.horizontalAdvance(text) + 4;
    QRectF place = span(bar, std::max(total, bars_[bar].mark), std::max(total, bars_[bar].mark));
    place.setLeft(place.left() + label_gap);
    place.setWidth(width);
    if (limit_) {
        // Not across the limit's line.
        const double line = keyAxis()->coordToPixel(*limit_);
        if (line > place.left() - 6 && line < place.right() + 4)
            place.moveLeft(line + 10);
    }
    painter->setFont(font);
    painter->setPen(!limit_ ? Theme::instance().text() : fits ? fitsColour() : exceedsColour());
    painter->drawText(place, Qt::AlignVCenter | Qt::AlignLeft, text);
}

void StackedBars::drawLimit(QCPPainter* painter) const {
    if (!limit_ || !keyAxis()->range().contains(*limit_))
        return;
    const QRect room = clipRect();
    const double x = keyAxis()->coordToPixel(*limit_);
    painter->setAntialiasing(true);
    painter->setPen(QPen(Theme::instance().text(), 1.5, Qt::DashLine));
    painter->drawLine(QPointF(x, room.top()), QPointF(x, room.bottom()));
    const QFontMetricsF metrics(mParentPlot->font());
    const double width = metrics.horizontalAdvance(limitName_) + 4;
    const bool toTheLeft = x + 8 + width > room.right();
    painter->setFont(mParentPlot->font());
    painter->setPen(Theme::instance().text());
    painter->drawText(QRectF(toTheLeft ? x - 8 - width : x + 8, room.top() + 2, width, metrics.height()),
                      Qt::AlignVCenter | Qt::AlignLeft, limitName_);
}

} // namespace qs::gui
