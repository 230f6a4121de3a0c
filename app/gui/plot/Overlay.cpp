#include "app/gui/plot/Overlay.h"

#include <algorithm>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

QString ReadoutText::plainText() const {
    QStringList lines{title};
    for (const Row& row : rows)
        lines << row.name + QStringLiteral(": ") + row.value;
    if (!note.isEmpty())
        lines << note;
    return lines.join('\n');
}

Overlay::Overlay(QCustomPlot* plot) : QCPLayerable(plot, "overlay") {}

void Overlay::showReadout(const ReadoutText& text, QCPAxisRect* pane, const QPointF& cursor) {
    readout_ = text;
    pane_ = pane;
    cursor_ = cursor;
}

void Overlay::hideReadout() {
    readout_ = {};
    pane_ = nullptr;
}

std::optional<double> Overlay::markerPixel() const {
    const QList<QCPAxisRect*> panes = mParentPlot->axisRects();
    if (!marker_ || panes.isEmpty())
        return std::nullopt;
    const QCPAxis* axis = panes.front()->axis(QCPAxis::atBottom);
    if (!axis->range().contains(*marker_))
        return std::nullopt;
    return axis->coordToPixel(*marker_);
}

void Overlay::applyDefaultAntialiasingHint(QCPPainter* painter) const {
    painter->setAntialiasing(true);
}

QRect Overlay::clipRect() const {
    return mParentPlot->viewport();
}

void Overlay::draw(QCPPainter* painter) {
    drawMarker(painter);
    if (!note_.isEmpty())
        drawNote(painter);
    if (exporting_ || !pane_ || readout_.title.isEmpty())
        return;
    if (readout_.hairLine)
        drawHairLine(painter);
    drawCard(painter);
}

void Overlay::drawMarker(QCPPainter* painter) const {
    const auto x = markerPixel();
    if (!x)
        return;
    const QColor colour = Theme::instance().accent();
    painter->setPen(QPen(colour, 1.5));
    for (const QCPAxisRect* pane : mParentPlot->axisRects())
        painter->drawLine(QPointF(*x, pane->top()), QPointF(*x, pane->bottom()));
    const double top = mParentPlot->axisRects().front()->top();
    painter->setBrush(colour);
    painter->setPen(Qt::NoPen);
    painter->drawPolygon(QPolygonF({QPointF(*x - 7, top - 1), QPointF(*x + 7, top - 1), QPointF(*x, top + 9)}));
}

void Overlay::drawHairLine(QCPPainter* painter) const {
    QColor colour = Theme::instance().mutedText();
    colour.setAlphaF(0.7F);
    painter->setAntialiasing(false);
    painter->setPen(QPen(colour, 1));
    const double x = readout_.hairPixel.value_or(cursor_.x());
    painter->drawLine(QPointF(x, pane_->top()), QPointF(x, pane_->bottom()));
    painter->setAntialiasing(true);
}

void Overlay::drawCard(QCPPainter* painter) const {
    const Theme& theme = Theme::instance();
    const QFont font = mParentPlot->font();
    const QFontMetricsF metrics(font);
    constexpr double pad = 8, swatch = 14, column = 14, away = 14;
    double names = 0, values = 0;
    for (const auto& row : readout_.rows) {
        names = std::max(names, metrics.horizontalAdvance(row.name) + (row.colour ? swatch : 0));
        values = std::max(values, metrics.horizontalAdvance(row.value));
    }
    constexpr double widest_note = 380;
    const double inner = std::max({names + column + values, metrics.horizontalAdvance(readout_.title),
                                   std::min(widest_note, metrics.horizontalAdvance(readout_.note) + 2)});
    const QRectF note = readout_.note.isEmpty()
                            ? QRectF()
                            : metrics.boundingRect(QRectF(0, 0, inner, 1000), Qt::TextWordWrap, readout_.note);
    const double lines = 1 + static_cast<double>(readout_.rows.size());
    const QSizeF size(inner + 2 * pad, lines * metrics.height() + note.height() + 2 * pad);
    const QRectF room = mParentPlot->viewport();
    double left = cursor_.x() + away, top = cursor_.y() - size.height() / 2;
    if (left + size.width() > room.right())
        left = cursor_.x() - away - size.width();
    left = std::clamp(left, room.left() + 2, std::max(room.left() + 2, room.right() - size.width() - 2));
    top = std::clamp(top, room.top() + 2, std::max(room.top() + 2, room.bottom() - size.height() - 2));

    const QRectF card(QPointF(left, top), size);
    QColor ground = theme.panel();
    ground.setAlphaF(0.96F);
    painter->setPen(QPen(theme.grid(), 1));
    painter->setBrush(ground);
    painter->drawRoundedRect(card, 4, 4);
    painter->setFont(font);
    double y = top + pad;
    const auto line = [&](const QColor& colour, const QString& text, double from, Qt::Alignment align) {
        painter->setPen(colour);
        painter->drawText(QRectF(from, y, card.right() - pad - from, metrics.height()), align | Qt::AlignVCenter, text);
    };
    line(theme.text(), readout_.title, left + pad, Qt::AlignLeft);
    for (const auto& row : readout_.rows) {
        y += metrics.height();
        if (row.colour)
            painter->fillRect(QRectF(left + pad, y + metrics.height() / 2 - 4, 8, 8), *row.colour);
        line(theme.mutedText(), row.name, left + pad + (row.colour ? swatch : 0), Qt::AlignLeft);
        line(theme.text(), row.value, left + pad, Qt::AlignRight);
    }
    y += metrics.height();
    painter->setPen(theme.mutedText());
    painter->drawText(QRectF(left + pad, y, inner, note.height() + 1), Qt::TextWordWrap, readout_.note);
}

void Overlay::drawNote(QCPPainter* painter) const {
    const QList<QCPAxisRect*> panes = mParentPlot->axisRects();
    const QRect room = panes.isEmpty() ? mParentPlot->viewport() : panes.front()->rect();
    painter->setFont(mParentPlot->font());
    painter->setPen(Theme::instance().mutedText());
    painter->drawText(room.adjusted(20, 10, -20, -10), Qt::AlignCenter | Qt::TextWordWrap, note_);
}

} // namespace qs::gui
