#pragma once

#include <QComboBox>

namespace qs::gui {

/// A combo box that shortens a long entry with "…" where it is narrower than the entry; the list shows all of it.
class ElidedCombo : public QComboBox {
public:
    using QComboBox::QComboBox;

protected:
    void paintEvent(QPaintEvent* event) override;
};

} // namespace qs::gui
