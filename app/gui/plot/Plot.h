#pragma once

#include <qcustomplot.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Session.h"
#include "app/gui/plot/Legend.h"
#include "app/gui/plot/Overlay.h"
#include "app/gui/plot/Ticks.h"

namespace qs::gui {

/// What every plot of the program shares on top of QCustomPlot: panes with themed axes, round ticks, a linear/log
/// switch on the axis name, zoom and pan by mouse and keyboard, hair line and readout, a legend outside the data, a
/// draggable marker, and export. The layout is one column of rows; a view fills it with addPane() and addRow().
class Plot : public QCustomPlot {
    Q_OBJECT
public:
    explicit Plot(QWidget* parent = nullptr);

    // --- layout
    /// A pane in a row of the layout, its left and right edges aligned with those of the other rows; or in a cell of a
    /// grid inside the layout, by itself.
    QCPAxisRect* addPane(int row);
    QCPAxisRect* addPane(QCPLayoutGrid* grid, int row, int column);
    /// A group for aligning the edges of panes in a grid; lives until clearPanes().
    QCPMarginGroup* makeMargins();
    /// Takes everything out of the layout but the legend, which stays in row 0. What the panes held is gone too.
    void clearPanes();
    Legend* keys() { return keys_; }
    /// Makes `follower` show the same range as `leader`, whichever of the two is moved.
    void link(QCPAxis* leader, QCPAxis* follower);

    /// The plot is higher than what shows it: the wheel is left to that, and zooms only with Ctrl.
    void setWheelScrolls(bool scrolls) { wheelScrolls_ = scrolls; }

    // --- axes
    /// "name (unit)" beside the axis; the unit may be empty.
    void nameAxis(QCPAxis* axis, const QString& name, const QString& unit = {});
    /// How ticks are written (plainTick() if not set).
    void setTickText(QCPAxis* axis, TickText text);
    /// A ticker that the log switch and themes leave alone.
    void setFixedTicker(QCPAxis* axis, QSharedPointer<QCPAxisTicker> ticker);
    /// At most this many ticks on a linear axis (8 if not set).
    void setMostTicks(QCPAxis* axis, int most);
    /// Lets a click on the axis name switch between linear and logarithmic.
    void setLogSwitch(QCPAxis* axis, bool allowed);
    void setLog(QCPAxis* axis, bool log);
    static bool isLog(const QCPAxis* axis) { return axis->scaleType() == QCPAxis::stLogarithmic; }
    /// The range shown at first and after a double click, and the widest one, which a second double click shows.
    void setHome(QCPAxis* axis, const QCPRange& home, const std::optional<QCPRange>& all = {});
    /// Shows the home ranges, unless the user has zoomed or panned since; `always` even then.
    void goHome(bool always = false);
    bool zoomed() const { return zoomed_; }

    // --- reading off
    /// Content of the readout for a position over a pane; nothing where there is nothing to read. The default lists
    /// every visible graph of the pane with its value at that x.
    using ReadoutSource = std::function<std::optional<ReadoutText>(QCPAxisRect* pane, QPointF position)>;
    void setReadout(ReadoutSource source) { readoutSource_ = std::move(source); }
    /// The readout as it is shown now, for tests and assistive technology.
    const ReadoutText& readout() const { return overlay_->readout(); }

    /// A vertical line across all panes, which the mouse drags; nullopt takes it away.
    void setMarker(std::optional<double> x);
    std::optional<double> marker() const { return overlay_->marker(); }

    // --- writing out
    void setData(std::function<QByteArray()> csv) { csv_ = std::move(csv); }
    /// Writes picture or data by the extension of `path`; complete or not at all.
    bool exportTo(const QString& path, QString* error);
    QMenu* makeContextMenu();

    /// A sentence in the middle of the plot (nothing to show, failed); empty for none.
    void setNote(const QString& text) { overlay_->setNote(text); }
    /// The sentence alone, in place of all panes: axes without data say nothing. Empty shows them again.
    void setEmpty(const QString& sentence);

signals:
    /// Colours have to be set again; the axes have theirs already.
    void themed();
    void scaleSwitched(QCPAxis* axis, bool log);
    void legendToggled(const QString& key, bool on);
    void legendHovered(const QString& key);
    /// A click (no drag) on a pane, in axis coordinates.
    void paneClicked(QCPAxisRect* pane, QPointF position);
    void markerMoved(double x);
    /// The user zoomed or panned, or went home.
    void viewChanged();
    void failed(const qs::gui::Failure& failure);

protected:
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void contextMenuEvent(QContextMenuEvent* event) override;
    void changeEvent(QEvent* event) override;

private:
    struct Home {
        QCPRange home, all;
    };

    void applyTheme();
    void styleAxis(QCPAxis* axis);
    void makeTicker(QCPAxis* axis);
    void setUpPane(QCPAxisRect* pane);
    void keepInside(QCPAxis* axis);
    bool isAll() const;
    QList<QCPAxis*> draggedAxes(Qt::Orientation orientation) const;
    QCPAxis* switchAt(const QPoint& position) const;
    void updateCursor(const QPoint& position);
    bool overMarker(const QPoint& position) const;
    void dragMarkerTo(const QPoint& position);
    void updateReadout();
    void drawOverlay();
    ReadoutText graphsAt(QCPAxisRect* pane, QPointF position) const;
    void toggleHome();
    void pan(double x, double y);
    void zoom(double factor);
    void userChanged();
    void exportWithDialog(const QString& extension);
    void copyPicture();
    void copyData();

    Legend* keys_;
    Overlay* overlay_;
    QCPMarginGroup* margins_;
    std::vector<std::unique_ptr<QCPMarginGroup>> extraMargins_;
    bool zoomed_ = false;
    bool settingRanges_ = false;
    struct AxisState {
        TickText text = plainTick;
        int mostTicks = 8;
        bool fixedTicker = false;
        bool logSwitch = false;
        bool follows = false;
        std::optional<Home> home;
    };
    std::map<QCPAxis*, AxisState> axes_;
    ReadoutSource readoutSource_;
    std::function<QByteArray()> csv_;
    bool moved_ = false;
    bool draggingMarker_ = false;
    bool wheelScrolls_ = false;
    bool pressedOnLegend_ = false;
    QPoint pressed_;
    std::optional<QPoint> cursor_; ///< while the mouse is over the plot
    bool painted_ = false;
};

} // namespace qs::gui
