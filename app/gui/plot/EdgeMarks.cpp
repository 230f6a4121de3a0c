#include "app/gui/plot/EdgeMarks.h"

#include "app/gui/plot/Theme.h"

namespace qs::gui {

EdgeMarks::EdgeMarks(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

void EdgeMarks::setBorders(const QString& left, const QString& right) {
    left_ = left;
    right_ = right;
}

void EdgeMarks::setCutOff(std::vector<Tick> peaks, const QColor& colour) {
    cutOff_ = std::move(peaks);
    cutOffColour_ = colour;
}

void EdgeMarks::draw(QCPPainter* painter) {
    painter->setFont(mParentPlot->font());
    drawRug(painter);
    drawTicks(painter);
    drawBorders(painter);
    drawCutOff(painter);
}

void EdgeMarks::drawTicks(QCPPainter* painter) const {
    const QRectF room = clipRect();
    const QFontMetricsF metrics(mParentPlot->font());
    const QColor colour = Theme::instance().mutedText();
    double textEnd = room.left();
    for (const Tick& tick : ticks_) {
        const double x = keyAxis()->coordToPixel(tick.key);
        if (x < room.left() || x > room.right())
            continue;
        painter->setAntialiasing(false);
        painter->setPen(QPen(colour, 1));
        painter->drawLine(QPointF(x, room.top()), QPointF(x, room.top() + 7));
        const double half = metrics.horizontalAdvance(tick.name) / 2 + 1;
        if (x - half < textEnd || x + half > room.right())
            continue;
        textEnd = x + half + 4;
        painter->drawText(QRectF(x - half, room.top() + 8, 2 * half, metrics.height()), Qt::AlignCenter, tick.name);
    }
}

void EdgeMarks::drawRug(QCPPainter* painter) const {
    const QRectF room = clipRect();
    QColor colour = Theme::instance().text();
    colour.setAlphaF(0.75F);
    painter->setAntialiasing(false);
    painter->setPen(QPen(colour, 1));
    for (const double key : rug_) {
        const double x = keyAxis()->coordToPixel(key);
        if (x >= room.left() && x <= room.right())
            painter->drawLine(QPointF(x, room.bottom()), QPointF(x, room.bottom() - 10));
    }
}

void EdgeMarks::drawBorders(QCPPainter* painter) const {
    const QFontMetricsF metrics(mParentPlot->font());
    const QRectF room = QRectF(clipRect()).adjusted(6, 12 + metrics.height(), -6, 0);
    painter->setPen(Theme::instance().mutedText());
    painter->drawText(room, Qt::AlignLeft | Qt::AlignTop, left_);
    painter->drawText(room, Qt::AlignRight | Qt::AlignTop, right_);
}

void EdgeMarks::drawCutOff(QCPPainter* painter) const {
    const QRectF room = clipRect();
    const QFontMetricsF metrics(mParentPlot->font());
    painter->setAntialiasing(true);
    for (const Tick& peak : cutOff_) {
        const double x = keyAxis()->coordToPixel(peak.key);
        if (x < room.left() || x > room.right())
            continue;
        // Below what the borders say, which can be four lines.
        const double top = room.top() + 16 + 4 * metrics.height();
        painter->setPen(Qt::NoPen);
        painter->setBrush(cutOffColour_);
        painter->drawPolygon(QPolygonF({QPointF(x + 8, top + 8), QPointF(x + 16, top + 8), QPointF(x + 12, top)}));
        painter->setPen(cutOffColour_);
        painter->drawText(QPointF(x + 20, top + metrics.ascent() - 3), peak.name);
    }
}

} // namespace qs::gui
