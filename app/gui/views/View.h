#pragma once

#include <QString>
#include <QWidget>

#include <functional>
#include <optional>

#include "app/gui/Session.h"
#include "app/gui/plot/Plot.h"

class QLabel;
class QPushButton;
class QStackedLayout;

namespace qs::gui {

/// A format as it is written on the screen.
QString nameOf(const FormatSpec& spec);

/// A tab of the main window: plots over one Session. Computes only while it is shown; what changed meanwhile is
/// caught up with when it is shown again.
class View : public QWidget {
    Q_OBJECT
public:
    explicit View(Session* session, QWidget* parent = nullptr);

    /// The text of the tab.
    virtual QString title() const = 0;
    /// The plot that an export writes.
    virtual Plot* activePlot() = 0;
    /// What is plotted, unrounded, with a header line.
    virtual QByteArray csv() const = 0;

    /// Writes the active plot (.png at twice the size, .svg, .pdf) or its data (.csv), by the extension; complete or
    /// not at all. False with a reason in `error` when that fails.
    bool exportTo(const QString& path, QString* error);

    /// True when nothing is left to be computed or drawn for what the session holds now.
    bool settled() const { return !stale_ && !scheduled_ && idle(); }

signals:
    void failed(const qs::gui::Failure& failure);
    /// The button of the empty state: the main window shows its dialog for opening a checkpoint.
    void openRequested();

protected:
    Session* session() const { return session_; }

    /// Brings plots up to date with the session; called when shown and after refreshLater(), never while hidden.
    virtual void refresh() = 0;
    /// No computation of this view is under way.
    virtual bool idle() const = 0;
    /// Asks for a refresh once, at the end of the current events, however often it is called.
    void refreshLater();

    /// What a view shows when it has data.
    QWidget* content() { return content_; }
    /// Connects a plot's export, data and failures to this view.
    void adopt(Plot* plot);

    /// Puts one sentence and a button that helps in place of the content. `help` may be empty: no button.
    void showEmpty(const QString& sentence, const QString& help = {}, std::function<void()> action = {});
    void showContent();
    /// The tensor to plot: the selected one, with its content shown. Where there is none that can be read, nothing, and
    /// the empty state says why: `open` where no checkpoint is open, `select` where no tensor is selected.
    std::optional<std::size_t> tensorToShow(const QString& open, const QString& select);

    /// Selects a format by its spec, if it is among those compared.
    void selectFormat(const FormatSpec& spec);

    void showEvent(QShowEvent* event) override;

private:
    Session* session_;
    QStackedLayout* pages_;
    QWidget* content_;
    QLabel* sentence_;
    QPushButton* help_;
    std::function<void()> action_;
    bool stale_ = true;
    bool scheduled_ = false;
};

} // namespace qs::gui
