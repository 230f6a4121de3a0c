#pragma once

#include <QStyledItemDelegate>

namespace qs::gui {

/// Paints an error as a bar on the sequential map with the number beside it, so that colour is never alone.
class HeatDelegate : public QStyledItemDelegate {
public:
    using QStyledItemDelegate::QStyledItemDelegate;
    void paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const override;
};

} // namespace qs::gui
