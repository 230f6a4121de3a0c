#pragma once

#include <QWidget>

#include "app/gui/Session.h"

class QLabel;
class QProgressBar;
class QToolButton;

namespace qs::gui {

/// The status bar's content: how far the analysis is, how fast, what it takes still, and on what it runs.
class JobBar : public QWidget {
    Q_OBJECT
public:
    explicit JobBar(Session* session, QWidget* parent = nullptr);

    /// Does not keep the window wide: with less room it says less.
    QSize minimumSizeHint() const override { return {420, QWidget::minimumSizeHint().height()}; }

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void refresh();
    void fit();

    Session* session_;
    QProgressBar* bar_;
    QLabel* text_;
    QToolButton* cancel_;
    QToolButton* throughput_;
    QStringList texts_, throughputs_; ///< the same in ever fewer words
};

} // namespace qs::gui
