#pragma once

#include <QWidget>

#include <vector>

#include "app/gui/Session.h"

class QHBoxLayout;
class QScrollArea;
class QToolButton;

namespace qs::gui {

class FormatChip;
class FormatPicker;

/// The formats that are compared: a chip each and a button that opens the picker. Scrolls where they need more room
/// than there is.
class FormatsBar : public QWidget {
    Q_OBJECT
public:
    explicit FormatsBar(Session* session, QWidget* parent = nullptr);

    std::vector<FormatChip*> chips() const { return chips_; }
    FormatPicker* picker() const { return picker_; }
    /// Opens the picker to add a format.
    void pick();
    QSize sizeHint() const override;
    QSize minimumSizeHint() const override;

protected:
    void resizeEvent(QResizeEvent* event) override;
    bool eventFilter(QObject* watched, QEvent* event) override;

private:
    void rebuild();
    void markSelected();
    void remove(const FormatSpec& spec);
    void replace(const FormatSpec& before, const FormatSpec& after);
    void updateArrows();
    void scrollBy(int pixels);

    Session* session_;
    QToolButton* left_;
    QScrollArea* area_;
    QToolButton* right_;
    QHBoxLayout* row_;
    QToolButton* add_;
    FormatPicker* picker_;
    std::vector<FormatChip*> chips_;
};

} // namespace qs::gui
