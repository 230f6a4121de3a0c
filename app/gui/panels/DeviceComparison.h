#pragma once

#include <QTimer>
#include <QWidget>

#include "app/gui/Background.h"
#include "app/gui/Session.h"
#include "core/analysis/compare.h"

class QLabel;
class QProgressBar;
class QPushButton;
class QTableWidget;

namespace qs::gui {

/// Runs the session's analysis on another device and shows how far its results are from those of the present one.
class DeviceComparison : public QWidget {
    Q_OBJECT
public:
    /// Begins at once.
    DeviceComparison(Session* session, const QString& other, QWidget* parent = nullptr);

    bool running() const { return job_.busy(); }
    /// What is shown as tab-separated text, unrounded.
    QString text() const;

private:
    struct Outcome {
        Comparison comparison;
        std::vector<std::string> notes;
    };

    void start(Session* session, const QString& other);
    void show(const Outcome& outcome);
    void addRow(const QString& name, const Agreement& agreement);
    void showProgress();

    std::shared_ptr<const Checkpoint> checkpoint_;
    QString first_;
    Background job_;
    QTimer ticks_;
    QLabel* title_;
    QProgressBar* progress_;
    QLabel* verdict_;
    QLabel* notes_;
    QTableWidget* table_;
    QPushButton* copy_;
};

} // namespace qs::gui
