#pragma once

#include <QAbstractButton>

#include "core/formats/format_spec.h"

namespace qs::gui {

/// One format of the comparison, in its colour: a click selects it, × removes it, a double click edits its parameters.
/// By keyboard: Space, Delete, F2.
class FormatChip : public QAbstractButton {
    Q_OBJECT
public:
    explicit FormatChip(FormatSpec spec, QWidget* parent = nullptr);

    const FormatSpec& spec() const { return spec_; }
    /// Where a click removes the format.
    QRect crossRect() const;
    QSize sizeHint() const override;

signals:
    void removeRequested();
    void editRequested();

protected:
    void paintEvent(QPaintEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    FormatSpec spec_;
    bool pressedOnCross_ = false;
    bool overCross_ = false;
};

} // namespace qs::gui
