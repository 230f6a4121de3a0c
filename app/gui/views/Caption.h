#pragma once

#include <QWidget>

namespace qs::gui {

/// A line of text that gives way: elided where there is no room for it, whole in the tooltip.
class Caption : public QWidget {
    Q_OBJECT
public:
    explicit Caption(QWidget* parent = nullptr);

    void setText(const QString& text);
    QString text() const { return text_; }
    /// Shown whole or not at all, for what is said elsewhere too.
    void setOptional(bool optional) { optional_ = optional; }

    QSize sizeHint() const override;
    QSize minimumSizeHint() const override;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    QString text_;
    bool optional_ = false;
};

} // namespace qs::gui
