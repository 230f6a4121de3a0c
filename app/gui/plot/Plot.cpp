#include "app/gui/plot/Plot.h"

#include <QApplication>
#include <QClipboard>
#include <QFileDialog>
#include <QFileInfo>
#include <QMenu>
#include <QMimeData>

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr int click_tolerance = 3;

QString unitOf(const QCPAxis* axis) {
    return axis->property("unit").toString();
}

QString withUnit(double value, const QString& unit) {
    return unit.isEmpty() ? significant(value) : significant(value) + thin_space + unit;
}

/// The value of a graph at x: of the step it stands on, interpolated between points of a line, NaN outside or in a gap.
double valueAt(const QCPGraph& graph, double x) {
    const auto& data = *graph.data();
    if (data.isEmpty())
        return qQNaN();
    auto next = data.findBegin(x, false);
    const bool step = graph.lineStyle() == QCPGraph::lsStepLeft;
    if (step) {
        if (next == data.constBegin() && next->key > x)
            return qQNaN();
        if (next == data.constEnd() || next->key > x)
            --next;
        return next + 1 == data.constEnd() && x > next->key ? qQNaN() : next->value;
    }
    if (next == data.constEnd())
        return qQNaN();
    if (next->key == x || next == data.constBegin())
        return next->key == x ? next->value : qQNaN();
    const auto before = next - 1;
    const double t = (x - before->key) / (next->key - before->key);
    return before->value + t * (next->value - before->value);
}

} // namespace

Plot::Plot(QWidget* parent) : QCustomPlot(parent) {
    plotLayout()->clear();
    plotLayout()->setRowSpacing(0);
    setAutoAddPlottableToLegend(false);
    setInteractions(QCP::iRangeDrag | QCP::iRangeZoom);
    setFocusPolicy(Qt::StrongFocus);
    setMouseTracking(true);
    setNoAntialiasingOnDrag(false);
    setMinimumSize(240, 160);

    keys_ = new Legend(this);
    plotLayout()->addElement(0, 0, keys_);
    overlay_ = new Overlay(this);
    margins_ = new QCPMarginGroup(this);

    connect(&Theme::instance(), &Theme::changed, this, &Plot::applyTheme);
    // New data under a cursor that rests are read off anew.
    connect(this, &QCustomPlot::beforeReplot, this, [this] {
        if (cursor_)
            updateReadout();
    });
    connect(this, &QCustomPlot::afterReplot, this, [this] { painted_ = true; });
    applyTheme();
}

// --- layout

QCPAxisRect* Plot::addPane(int row) {
    QCPAxisRect* pane = addPane(plotLayout(), row, 0);
    pane->setMarginGroup(QCP::msLeft | QCP::msRight, margins_);
    return pane;
}

QCPAxisRect* Plot::addPane(QCPLayoutGrid* grid, int row, int column) {
    auto* pane = new QCPAxisRect(this, true);
    grid->addElement(row, column, pane);
    setUpPane(pane);
    return pane;
}

void Plot::setUpPane(QCPAxisRect* pane) {
    pane->setupFullAxesBox(false);
    for (const auto side : {QCPAxis::atTop, QCPAxis::atRight})
        pane->axis(side)->setVisible(false);
    pane->setMinimumMargins(QMargins(8, 4, 14, 4));
    pane->setRangeDrag(Qt::Horizontal);
    pane->setRangeZoom(Qt::Horizontal);
    pane->setRangeZoomFactor(0.85);
    for (const auto side : {QCPAxis::atBottom, QCPAxis::atLeft}) {
        QCPAxis* axis = pane->axis(side);
        axis->setLayer("axes");
        axes_[axis] = {};
        connect(axis, qOverload<const QCPRange&>(&QCPAxis::rangeChanged), this, [this, axis] { keepInside(axis); });
        makeTicker(axis);
        styleAxis(axis);
    }
}

QCPMarginGroup* Plot::makeMargins() {
    return extraMargins_.emplace_back(std::make_unique<QCPMarginGroup>(this)).get();
}

void Plot::clearPanes() {
    overlay_->hideReadout();
    axes_.clear();
    clearItems();
    clearPlottables();
    plotLayout()->take(keys_);
    plotLayout()->clear();
    plotLayout()->addElement(0, 0, keys_);
    extraMargins_.clear();
    zoomed_ = false;
}

void Plot::link(QCPAxis* leader, QCPAxis* follower) {
    axes_[follower].follows = true;
    const auto range = qOverload<const QCPRange&>(&QCPAxis::rangeChanged);
    connect(leader, range, follower, qOverload<const QCPRange&>(&QCPAxis::setRange));
    connect(follower, range, leader, qOverload<const QCPRange&>(&QCPAxis::setRange));
    follower->setRange(leader->range());
}

// --- axes

void Plot::nameAxis(QCPAxis* axis, const QString& name, const QString& unit) {
    axis->setLabel(unit.isEmpty() ? name : name + QStringLiteral(" (") + unit + ')');
    axis->setProperty("unit", unit);
    axis->setProperty("name", name);
}

void Plot::setTickText(QCPAxis* axis, TickText text) {
    axes_[axis].text = std::move(text);
    makeTicker(axis);
}

void Plot::setMostTicks(QCPAxis* axis, int most) {
    axes_[axis].mostTicks = most;
    makeTicker(axis);
}

void Plot::setFixedTicker(QCPAxis* axis, QSharedPointer<QCPAxisTicker> ticker) {
    axes_[axis].fixedTicker = true;
    axis->setTicker(std::move(ticker));
}

void Plot::setLogSwitch(QCPAxis* axis, bool allowed) {
    axes_[axis].logSwitch = allowed;
    styleAxis(axis);
}

void Plot::setLog(QCPAxis* axis, bool log) {
    axis->setScaleType(log ? QCPAxis::stLogarithmic : QCPAxis::stLinear);
    makeTicker(axis);
}

void Plot::makeTicker(QCPAxis* axis) {
    const AxisState& state = axes_[axis];
    if (state.fixedTicker)
        return;
    if (isLog(axis))
        axis->setTicker(QSharedPointer<QCPAxisTicker>(new LogTicker(state.text)));
    else
        axis->setTicker(QSharedPointer<QCPAxisTicker>(new RoundTicker(state.text, state.mostTicks)));
}

void Plot::setHome(QCPAxis* axis, const QCPRange& home, const std::optional<QCPRange>& all) {
    axes_[axis].home = Home{home, all.value_or(home)};
}

void Plot::goHome(bool always) {
    if (zoomed_ && !always)
        return;
    zoomed_ = false;
    settingRanges_ = true;
    for (auto& [axis, state] : axes_)
        if (state.home)
            axis->setRange(state.home->home);
    settingRanges_ = false;
}

bool Plot::isAll() const {
    return std::ranges::all_of(axes_, [](const auto& entry) {
        const auto& [axis, state] = entry;
        return !state.home || axis->range() == state.home->all;
    });
}

void Plot::toggleHome() {
    if (!zoomed_ && !isAll()) {
        settingRanges_ = true;
        for (auto& [axis, state] : axes_)
            if (state.home)
                axis->setRange(state.home->all);
        settingRanges_ = false;
        zoomed_ = true;
    } else {
        goHome(true);
    }
    emit viewChanged();
    replot(rpQueuedReplot);
}

/// Nobody gets lost: what the user can show is at most the whole range and a little.
void Plot::keepInside(QCPAxis* axis) {
    const auto found = axes_.find(axis);
    if (settingRanges_ || found == axes_.end() || !found->second.home || found->second.follows)
        return;
    QCPRange widest = found->second.home->all;
    widest.expand(found->second.home->home);
    if (isLog(axis)) {
        widest = QCPRange(widest.lower / 1.3, widest.upper * 1.3);
    } else {
        const double margin = 0.06 * widest.size();
        widest = QCPRange(widest.lower - margin, widest.upper + margin);
    }
    const QCPRange inside = axis->range().bounded(widest.lower, widest.upper);
    if (inside != axis->range())
        axis->setRange(inside);
}

void Plot::styleAxis(QCPAxis* axis) {
    const Theme& theme = Theme::instance();
    const QPen line(theme.mutedText(), 1);
    axis->setBasePen(line);
    axis->setTickPen(line);
    axis->setSubTickPen(line);
    axis->setTickLength(0, 4);
    axis->setSubTickLength(0, 2);
    axis->setTickLabelColor(theme.mutedText());
    axis->setLabelColor(theme.text());
    axis->setTickLabelFont(font());
    QFont name = font();
    // The line under the name says that it can be clicked.
    name.setUnderline(axes_[axis].logSwitch);
    axis->setLabelFont(name);
    axis->setLabelPadding(4);
    axis->setTickLabelPadding(4);
    axis->grid()->setPen(QPen(theme.grid(), 1));
    axis->grid()->setZeroLinePen(QPen(theme.grid(), 1));
    axis->grid()->setSubGridVisible(false);
    axis->grid()->setAntialiased(false);
}

void Plot::applyTheme() {
    setBackground(QBrush(Theme::instance().background()));
    for (auto& [axis, state] : axes_)
        styleAxis(axis);
    emit themed();
    replot(rpQueuedReplot);
}

void Plot::changeEvent(QEvent* event) {
    QCustomPlot::changeEvent(event);
    if (event->type() == QEvent::FontChange)
        applyTheme();
}

// --- mouse

QCPAxis* Plot::switchAt(const QPoint& position) const {
    for (const auto& [axis, state] : axes_)
        if (state.logSwitch && axis->getPartAt(position) == QCPAxis::spAxisLabel)
            return axis;
    return nullptr;
}

bool Plot::overMarker(const QPoint& position) const {
    const auto x = overlay_->markerPixel();
    const QList<QCPAxisRect*> panes = axisRects();
    return x && std::abs(*x - position.x()) <= 5 && position.y() >= panes.front()->top() - 8 &&
           position.y() <= panes.back()->bottom();
}

void Plot::setMarker(std::optional<double> x) {
    overlay_->setMarker(x);
    drawOverlay();
}

void Plot::dragMarkerTo(const QPoint& position) {
    const QCPAxisRect* pane = axisRects().front();
    const QCPAxis* axis = pane->axis(QCPAxis::atBottom);
    const double x = axis->pixelToCoord(std::clamp(position.x(), pane->left(), pane->right()));
    cursor_.reset();
    overlay_->hideReadout();
    setMarker(x);
    emit markerMoved(x);
}

void Plot::mousePressEvent(QMouseEvent* event) {
    pressed_ = event->pos();
    moved_ = false;
    if (event->button() == Qt::LeftButton) {
        pressedOnLegend_ = keys_->entryAt(event->pos()) != nullptr;
        draggingMarker_ = !pressedOnLegend_ && overMarker(event->pos());
        if (pressedOnLegend_ || draggingMarker_)
            return;
    }
    QCustomPlot::mousePressEvent(event);
}

void Plot::mouseMoveEvent(QMouseEvent* event) {
    if (draggingMarker_) {
        dragMarkerTo(event->pos());
        return;
    }
    if (pressedOnLegend_)
        return;
    if ((event->buttons() & Qt::LeftButton) && (event->pos() - pressed_).manhattanLength() > click_tolerance)
        moved_ = true;
    QCustomPlot::mouseMoveEvent(event);
    updateCursor(event->pos());
    if (event->buttons() != Qt::NoButton)
        return;
    cursor_ = event->pos();
    updateReadout();
    drawOverlay();
}

void Plot::mouseReleaseEvent(QMouseEvent* event) {
    if (draggingMarker_) {
        draggingMarker_ = false;
        return;
    }
    if (pressedOnLegend_) {
        pressedOnLegend_ = false;
        const LegendEntry* entry = keys_->entryAt(event->pos());
        if (entry && entry->toggles) {
            const QString key = entry->key;
            const bool on = !keys_->isOn(key);
            keys_->setOn(key, on);
            emit legendToggled(key, on);
            replot(rpQueuedReplot);
        }
        return;
    }
    QCustomPlot::mouseReleaseEvent(event);
    if (event->button() != Qt::LeftButton)
        return;
    if (moved_) {
        userChanged();
    } else if (QCPAxis* axis = switchAt(event->pos())) {
        setLog(axis, !isLog(axis));
        emit scaleSwitched(axis, isLog(axis));
        replot(rpQueuedReplot);
    } else if (QCPAxisRect* pane = axisRectAt(event->pos()); pane && pane->rect().contains(event->pos())) {
        emit paneClicked(pane, QPointF(pane->axis(QCPAxis::atBottom)->pixelToCoord(event->pos().x()),
                                       pane->axis(QCPAxis::atLeft)->pixelToCoord(event->pos().y())));
    }
}

void Plot::mouseDoubleClickEvent(QMouseEvent* event) {
    QCPAxisRect* pane = axisRectAt(event->pos());
    if (event->button() == Qt::LeftButton && pane && pane->rect().contains(event->pos()))
        toggleHome();
    else
        QCustomPlot::mouseDoubleClickEvent(event);
}

void Plot::wheelEvent(QWheelEvent* event) {
    if (wheelScrolls_ && !event->modifiers().testFlag(Qt::ControlModifier))
        return event->ignore(); // for what holds the plot
    QCustomPlot::wheelEvent(event);
    userChanged();
}

void Plot::leaveEvent(QEvent* event) {
    QCustomPlot::leaveEvent(event);
    cursor_.reset();
    overlay_->hideReadout();
    if (!keys_->hovered().isEmpty()) {
        keys_->setHovered({});
        emit legendHovered({});
        replot(rpQueuedReplot);
    }
    drawOverlay();
}

void Plot::updateCursor(const QPoint& position) {
    const LegendEntry* entry = keys_->entryAt(position);
    const QString hovered = entry ? entry->key : QString();
    QCPAxis* axis = switchAt(position);
    if ((entry && entry->toggles) || axis)
        setCursor(Qt::PointingHandCursor);
    else if (overMarker(position))
        setCursor(Qt::SplitHCursor);
    else
        unsetCursor();
    setToolTip(axis ? (isLog(axis) ? tr("Click for a linear scale") : tr("Click for a logarithmic scale")) : QString());
    if (hovered != keys_->hovered()) {
        keys_->setHovered(hovered);
        emit legendHovered(hovered);
        replot(rpQueuedReplot);
    }
}

void Plot::userChanged() {
    zoomed_ = true;
    emit viewChanged();
}

// --- keyboard

QList<QCPAxis*> Plot::draggedAxes(Qt::Orientation orientation) const {
    QList<QCPAxis*> axes;
    for (const QCPAxisRect* pane : axisRects()) {
        QCPAxis* axis = pane->axis(orientation == Qt::Horizontal ? QCPAxis::atBottom : QCPAxis::atLeft);
        const auto found = axes_.find(axis);
        if (pane->rangeDrag().testFlag(orientation) && found != axes_.end() && !found->second.follows)
            axes << axis;
    }
    return axes;
}

void Plot::pan(double x, double y) {
    const auto move = [](QCPAxis* axis, double share) {
        const QCPRange range = axis->range();
        if (isLog(axis)) {
            const double factor = std::pow(range.upper / range.lower, share);
            axis->setRange(range.lower * factor, range.upper * factor);
        } else {
            axis->moveRange(share * range.size());
        }
    };
    for (QCPAxis* axis : draggedAxes(Qt::Horizontal))
        move(axis, x);
    for (QCPAxis* axis : draggedAxes(Qt::Vertical))
        move(axis, y);
}

void Plot::zoom(double factor) {
    for (const auto orientation : {Qt::Horizontal, Qt::Vertical})
        for (QCPAxis* axis : draggedAxes(orientation)) {
            const QCPRange range = axis->range();
            axis->scaleRange(factor, isLog(axis) ? std::sqrt(range.lower * range.upper) : range.center());
        }
}

void Plot::keyPressEvent(QKeyEvent* event) {
    constexpr double step = 0.1, closer = 0.8;
    switch (event->key()) {
    case Qt::Key_Left:
        pan(-step, 0);
        break;
    case Qt::Key_Right:
        pan(step, 0);
        break;
    case Qt::Key_Up:
        pan(0, step);
        break;
    case Qt::Key_Down:
        pan(0, -step);
        break;
    case Qt::Key_Plus:
    case Qt::Key_Equal:
        zoom(closer);
        break;
    case Qt::Key_Minus:
        zoom(1 / closer);
        break;
    case Qt::Key_Home:
    case Qt::Key_0:
        toggleHome();
        return;
    default:
        QCustomPlot::keyPressEvent(event);
        return;
    }
    userChanged();
    replot(rpQueuedReplot);
}

// --- reading off

ReadoutText Plot::graphsAt(QCPAxisRect* pane, QPointF position) const {
    const QCPAxis* bottom = pane->axis(QCPAxis::atBottom);
    const double x = bottom->pixelToCoord(position.x());
    ReadoutText text;
    text.title = bottom->property("name").toString() + ' ' + withUnit(x, unitOf(bottom));
    for (const QCPGraph* graph : pane->graphs()) {
        if (!graph->visible() || graph->name().isEmpty())
            continue;
        const double value = valueAt(*graph, x);
        if (!std::isnan(value))
            text.rows.push_back({graph->pen().color(), graph->name(), withUnit(value, unitOf(graph->valueAxis()))});
    }
    return text;
}

void Plot::updateReadout() {
    QCPAxisRect* pane = axisRectAt(*cursor_);
    std::optional<ReadoutText> text;
    if (pane && pane->rect().contains(*cursor_))
        text = readoutSource_ ? readoutSource_(pane, *cursor_) : graphsAt(pane, *cursor_);
    if (text)
        overlay_->showReadout(*text, pane, *cursor_);
    else
        overlay_->hideReadout();
}

void Plot::drawOverlay() {
    if (painted_)
        layer("overlay")->replot();
}

// --- writing out

void Plot::setEmpty(const QString& sentence) {
    setNote(sentence);
    for (QCPAxisRect* pane : axisRects())
        pane->setVisible(sentence.isEmpty());
}

bool Plot::exportTo(const QString& path, QString* error) {
    const QString extension = QFileInfo(path).suffix().toLower();
    overlay_->setExporting(true);
    QByteArray data;
    if (extension == "png")
        data = toPng(*this);
    else if (extension == "svg")
        data = toSvg(*this);
    else if (extension == "pdf")
        data = toPdf(*this);
    else if (extension == "csv" && csv_)
        data = csv_();
    overlay_->setExporting(false);
    replot(rpQueuedReplot);
    if (data.isEmpty()) {
        if (error)
            *error = tr("“.%1” is not something a plot can be written as; use .png, .svg, .pdf or .csv").arg(extension);
        return false;
    }
    return writeWhole(path, data, error);
}

void Plot::exportWithDialog(const QString& extension) {
    const QString name = property("fileName").toString();
    QString path = QFileDialog::getSaveFileName(this, tr("Export as %1").arg(extension.toUpper()),
                                                (name.isEmpty() ? "plot" : name) + '.' + extension,
                                                tr("%1 files (*.%2)").arg(extension.toUpper(), extension));
    if (path.isEmpty())
        return;
    if (QFileInfo(path).suffix().toLower() != extension)
        path += '.' + extension;
    QString error;
    if (!exportTo(path, &error))
        emit failed({path, error, tr("choose another place or name")});
}

void Plot::copyPicture() {
    overlay_->setExporting(true);
    QApplication::clipboard()->setPixmap(toPixmap(width(), height(), 2.0));
    overlay_->setExporting(false);
    replot(rpQueuedReplot);
}

void Plot::copyData() {
    if (csv_)
        QApplication::clipboard()->setText(QString::fromUtf8(csv_()));
}

QMenu* Plot::makeContextMenu() {
    auto* menu = new QMenu(this);
    menu->setAttribute(Qt::WA_DeleteOnClose);
    menu->addAction(tr("Copy picture"), this, &Plot::copyPicture);
    menu->addAction(tr("Copy data"), this, &Plot::copyData)->setEnabled(csv_ != nullptr);
    menu->addSeparator();
    for (const QString extension : {"png", "svg", "pdf", "csv"})
        menu->addAction(extension == "png" ? tr("Export PNG (2×)…") : tr("Export %1…").arg(extension.toUpper()), this,
                        [this, extension] { exportWithDialog(extension); });
    menu->addSeparator();
    for (const auto& [axis, state] : axes_) {
        if (!state.logSwitch)
            continue;
        QAction* action = menu->addAction(tr("Logarithmic: %1").arg(axis->property("name").toString()));
        action->setCheckable(true);
        action->setChecked(isLog(axis));
        connect(action, &QAction::toggled, this, [this, axis = axis](bool log) {
            setLog(axis, log);
            emit scaleSwitched(axis, log);
            replot(rpQueuedReplot);
        });
    }
    menu->addAction(tr("Reset or show everything"), this, &Plot::toggleHome);
    return menu;
}

void Plot::contextMenuEvent(QContextMenuEvent* event) {
    makeContextMenu()->popup(event->globalPos());
}

} // namespace qs::gui
