#include "app/gui/panels/HeatDelegate.h"

#include <QApplication>
#include <QPainter>

#include "app/gui/models/CheckpointModel.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

void HeatDelegate::paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const {
    QStyleOptionViewItem view = option;
    initStyleOption(&view, index);
    view.text.clear();
    const QStyle* style = view.widget ? view.widget->style() : QApplication::style();
    style->drawControl(QStyle::CE_ItemViewItem, &view, painter, view.widget);

    constexpr int gap = 6;
    const QString number = index.data(Qt::DisplayRole).toString();
    const QRect cell = option.rect.adjusted(gap, 0, -gap, 0);
    const int reserved = QFontMetrics(option.font).horizontalAdvance("−00.0");
    const bool selected = option.state & QStyle::State_Selected;
    const Theme& theme = Theme::instance();
    painter->save();
    const QRect track(cell.left(), cell.center().y() - 4, cell.width() - reserved - gap, 9);
    if (const QVariant heat = index.data(CheckpointModel::HeatRole); heat.isValid() && track.width() > 8) {
        const double t = heat.toDouble();
        painter->fillRect(track, theme.grid());
        const int length = std::max(3, static_cast<int>(t * track.width()));
        painter->fillRect(QRect(track.left(), track.top(), length, track.height()), Theme::sequential(t));
    }
    painter->setFont(option.font);
    painter->setPen(selected ? option.palette.color(QPalette::HighlightedText) : theme.text());
    painter->drawText(cell, Qt::AlignRight | Qt::AlignVCenter, number);
    painter->restore();
}

} // namespace qs::gui
