#include "app/gui/views/ElidedCombo.h"

#include <QStyleOptionComboBox>
#include <QStylePainter>

namespace qs::gui {

void ElidedCombo::paintEvent(QPaintEvent*) {
    QStylePainter painter(this);
    QStyleOptionComboBox option;
    initStyleOption(&option);
    painter.drawComplexControl(QStyle::CC_ComboBox, option);
    const int room = style()->subControlRect(QStyle::CC_ComboBox, &option, QStyle::SC_ComboBoxEditField, this).width();
    constexpr int padding = 6;
    option.currentText = fontMetrics().elidedText(option.currentText, Qt::ElideRight, room - padding);
    painter.drawControl(QStyle::CE_ComboBoxLabel, option);
}

} // namespace qs::gui
