#include "app/gui/panels/FormatChip.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>

#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Theme.h"
#include "core/formats/registry.h"

namespace qs::gui {

namespace {

constexpr int padding = 9;
constexpr int cross = 16;

/// Black or white, whichever reads better on `ground`.
QColor readable(const QColor& ground) {
    const auto linear = [](float c) { return c <= 0.04045F ? c / 12.92F : std::pow((c + 0.055F) / 1.055F, 2.4F); };
    const float luminance =
        0.2126F * linear(ground.redF()) + 0.7152F * linear(ground.greenF()) + 0.0722F * linear(ground.blueF());
    return luminance > 0.179F ? QColor(0x16191d) : QColor(Qt::white);
}

} // namespace

FormatChip::FormatChip(FormatSpec spec, QWidget* parent) : QAbstractButton(parent), spec_(std::move(spec)) {
    const Format& entry = format(spec_.id);
    setText(QString::fromStdString(spec_.text()));
    setCheckable(true);
    setMouseTracking(true);
    setFocusPolicy(Qt::StrongFocus);
    setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed);
    setAccessibleName(text());
    const QString bits = significant(entry.nominal_bits(spec_)) + thin_space + "bits/weight";
    setAccessibleDescription(QString::fromStdString(entry.title) + ", " + bits);
    setToolTip(QString::fromStdString(entry.title) + ", " + bits +
               QStringLiteral(". Click to select, double click to change its parameters."));
    connect(&Theme::instance(), &Theme::changed, this, qOverload<>(&QWidget::update));
}

QSize FormatChip::sizeHint() const {
    const QFontMetrics metrics(font());
    return {padding + metrics.horizontalAdvance(text()) + 4 + cross + 4, metrics.height() + 9};
}

QRect FormatChip::crossRect() const {
    return {width() - cross - 3, (height() - cross) / 2, cross, cross};
}

void FormatChip::paintEvent(QPaintEvent*) {
    const Theme& theme = Theme::instance();
    const QColor colour = theme.format(spec_);
    QPainter painter(this);
    painter.setRenderHint(QPainter::Antialiasing);

    QColor fill = colour;
    if (!isChecked())
        fill.setAlphaF(underMouse() ? 0.26F : 0.14F);
    painter.setBrush(fill);
    painter.setPen(QPen(hasFocus() ? theme.text() : colour, hasFocus() ? 2 : 1));
    const qreal inset = hasFocus() ? 1 : 0.5;
    painter.drawRoundedRect(QRectF(rect()).adjusted(inset, inset, -inset, -inset), 5, 5);

    painter.setPen(isChecked() ? readable(colour) : theme.text());
    painter.drawText(QRect(padding, 0, width() - padding - cross, height()), Qt::AlignVCenter | Qt::AlignLeft, text());

    const QRectF box(crossRect());
    if (overCross_) {
        QColor ring = painter.pen().color();
        ring.setAlphaF(0.18F);
        painter.save();
        painter.setPen(Qt::NoPen);
        painter.setBrush(ring);
        painter.drawEllipse(box);
        painter.restore();
    }
    QPen pen = painter.pen();
    pen.setWidthF(1.4);
    painter.setPen(pen);
    const QRectF x = box.adjusted(5, 5, -5, -5);
    painter.drawLine(x.topLeft(), x.bottomRight());
    painter.drawLine(x.topRight(), x.bottomLeft());
}

void FormatChip::mousePressEvent(QMouseEvent* event) {
    pressedOnCross_ = event->button() == Qt::LeftButton && crossRect().contains(event->pos());
    if (!pressedOnCross_)
        QAbstractButton::mousePressEvent(event);
}

void FormatChip::mouseReleaseEvent(QMouseEvent* event) {
    if (!pressedOnCross_)
        return QAbstractButton::mouseReleaseEvent(event);
    pressedOnCross_ = false;
    if (crossRect().contains(event->pos()))
        emit removeRequested();
}

void FormatChip::mouseDoubleClickEvent(QMouseEvent* event) {
    if (event->button() == Qt::LeftButton && !crossRect().contains(event->pos()))
        emit editRequested();
}

void FormatChip::mouseMoveEvent(QMouseEvent* event) {
    overCross_ = crossRect().contains(event->pos());
    update();
    QAbstractButton::mouseMoveEvent(event);
}

void FormatChip::leaveEvent(QEvent* event) {
    overCross_ = false;
    update();
    QAbstractButton::leaveEvent(event);
}

void FormatChip::keyPressEvent(QKeyEvent* event) {
    if (event->key() == Qt::Key_Delete || event->key() == Qt::Key_Backspace)
        emit removeRequested();
    else if (event->key() == Qt::Key_F2 || event->key() == Qt::Key_Return)
        emit editRequested();
    else
        QAbstractButton::keyPressEvent(event);
}

} // namespace qs::gui
