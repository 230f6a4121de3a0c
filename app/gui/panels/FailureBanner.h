#pragma once

#include <QFrame>

#include "app/gui/Session.h"

class QLabel;
class QToolButton;

namespace qs::gui {

/// What failed, where and what to do, above the views and never in the way; the newest failure stands for all.
class FailureBanner : public QFrame {
    Q_OBJECT
public:
    explicit FailureBanner(QWidget* parent = nullptr);

    void showFailure(const Failure& failure);
    /// "file: reason; remedy", as Copy puts it on the clipboard.
    QString text() const;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    void showDetails(bool on);

    Failure failure_;
    QLabel* summary_;
    QLabel* details_;
    QToolButton* detailsButton_;
};

} // namespace qs::gui
