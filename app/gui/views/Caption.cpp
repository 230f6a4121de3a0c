#include "app/gui/views/Caption.h"

#include <QPainter>

namespace qs::gui {

Caption::Caption(QWidget* parent) : QWidget(parent) {
    setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
}

void Caption::setText(const QString& text) {
    text_ = text;
    setToolTip(text);
    setAccessibleName(text);
    update();
}

QSize Caption::sizeHint() const {
    return {fontMetrics().horizontalAdvance(text_), fontMetrics().height() + 4};
}
QSize Caption::minimumSizeHint() const {
    return {0, sizeHint().height()};
}

void Caption::paintEvent(QPaintEvent*) {
    if (optional_ && sizeHint().width() > width())
        return;
    QPainter painter(this);
    painter.setPen(palette().color(QPalette::WindowText));
    painter.drawText(rect(), Qt::AlignLeft | Qt::AlignVCenter,
                     fontMetrics().elidedText(text_, Qt::ElideMiddle, width()));
}

} // namespace qs::gui
