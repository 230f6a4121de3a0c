#pragma once

#include <QWidget>

#include "app/gui/Background.h"
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

private:
    void refresh();
    void showThroughput();
    void measureBandwidth();

    Session* session_;
    Background measuring_;
    QProgressBar* bar_;
    QLabel* text_;
    QToolButton* cancel_;
    QToolButton* throughput_;
    QString deviceName_;
    double bandwidth_ = 0; ///< of the device's memory in bytes a second, once measured
};

} // namespace qs::gui
