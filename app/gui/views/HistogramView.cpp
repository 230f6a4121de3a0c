#include "app/gui/views/HistogramView.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QStackedWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/Theme.h"
#include "core/formats/registry.h"

namespace qs::gui {

namespace {

constexpr std::size_t quantile_points = 2000;
constexpr double default_tail = 0.005; ///< share of the weights outside the default range, on each side
constexpr std::size_t strip_values = 1200;
constexpr std::size_t rug_bins = 240;
constexpr int refine_delay_ms = 120;
/// Larger tensors show their weights first and the reconstructions when they are there.
constexpr std::uint64_t two_steps_from = 4'000'000;
const QString weights_key = QStringLiteral("weights");
const QString normal_key = QStringLiteral("normal");

/// Bins whose width is a power of two and whose edges lie half a bin off its multiples: zero falls into the middle of a
/// bin, and each bin holds as many values of a 16-bit float's grid as its neighbour, so that the grid makes no comb.
struct Bins {
    double low, high;
    std::size_t count;
};

Bins chooseBins(double from, double to, std::uint64_t weights) {
    const double wanted = std::clamp(4 * std::cbrt(static_cast<double>(weights)), 48.0, 160.0);
    const double width = std::exp2(std::round(std::log2((to - from) / wanted)));
    const double first = std::floor(from / width + 0.5) - 0.5, last = std::ceil(to / width - 0.5) + 0.5;
    return {first * width, last * width, static_cast<std::size_t>(std::lround(last - first))};
}

void setSteps(QCPGraph* graph, const Histogram& histogram) {
    QVector<QCPGraphData> data;
    data.reserve(static_cast<qsizetype>(histogram.counts.size()) + 2);
    for (std::size_t i = 0; i < histogram.counts.size(); ++i)
        data.append({histogram.edge(i), static_cast<double>(histogram.counts[i])});
    if (!histogram.counts.empty())
        data.append({histogram.high, static_cast<double>(histogram.counts.back())});
    graph->data()->set(data, true);
}

std::uint64_t largest(const Histogram& histogram) {
    return histogram.counts.empty() ? 0 : *std::ranges::max_element(histogram.counts);
}

void addOccupied(const Histogram& histogram, std::vector<double>& positions) {
    for (std::size_t i = 0; i < histogram.counts.size(); ++i)
        if (histogram.counts[i] > 0)
            positions.push_back((histogram.edge(i) + histogram.edge(i + 1)) / 2);
}

/// Where weights lie beyond 6σ, to a resolution finer than a pixel.
std::vector<double> outlierPositions(Device& device, const TensorView& view, const Statistics& statistics,
                                     JobControl& job) {
    std::vector<double> positions;
    if (statistics.beyond_6_sigma == 0)
        return positions;
    const double low = statistics.mean - 6 * statistics.std, high = statistics.mean + 6 * statistics.std;
    if (statistics.min < low)
        addOccupied(device.histogram(view, {}, statistics.min, low, rug_bins, job).weights, positions);
    if (statistics.max > high)
        addOccupied(device.histogram(view, {}, high, statistics.max, rug_bins, job).weights, positions);
    return positions;
}

QToolButton* makeToggle(const QString& text, const QString& help, const QString& name) {
    auto* button = new QToolButton;
    button->setText(text);
    button->setToolTip(help);
    button->setAccessibleName(text);
    button->setObjectName(name);
    button->setCheckable(true);
    button->setProperty("framed", true);
    return button;
}

} // namespace

HistogramView::HistogramView(Session* session, QWidget* parent)
    : View(session, parent), stack_(new QStackedWidget), plot_(new Plot), quantilePlot_(new Plot),
      caption_(new Caption) {
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 6, 8, 2);
    controls->setSpacing(8);
    buildControls(controls);
    column->addLayout(controls);
    stack_->addWidget(plot_);
    stack_->addWidget(quantilePlot_);
    column->addWidget(stack_, 1);
    plot_->setObjectName("histogram");
    quantilePlot_->setObjectName("quantiles");
    adopt(plot_);
    adopt(quantilePlot_);
    buildHistogram();
    buildQuantiles();

    refine_.setSingleShot(true);
    refine_.setInterval(refine_delay_ms);
    connect(&refine_, &QTimer::timeout, this, &HistogramView::measureBins);
    for (Background* job : {&shapeJob_, &binsJob_, &stripJob_})
        connect(job, &Background::failed, this, [this](const Failure& failure) {
            plot_->setNote(tr("The weights could not be read: %1").arg(failure.what));
            plot_->replot(QCustomPlot::rpQueuedReplot);
            emit failed(failure);
        });
    for (const auto signal : {&Session::checkpointChanged, &Session::tensorSelected, &Session::formatsChanged,
                              &Session::formatSelected, &Session::deviceChanged})
        connect(session, signal, this, &HistogramView::refreshLater);
    for (Plot* plot : {plot_, quantilePlot_})
        connect(plot, &Plot::themed, this, &HistogramView::applyColours);
    applyColours();
}

void HistogramView::buildControls(QLayout* layout) {
    auto* row = static_cast<QHBoxLayout*>(layout);
    logButton_ =
        makeToggle(tr("Log counts"), tr("Count weights on a logarithmic scale, which shows the tails"), "logCounts");
    quantileButton_ = makeToggle(
        tr("Q–Q"), tr("Quantiles of the weights against those of a normal distribution: a straight line is normal"),
        "quantileToggle");
    stripChoice_ = new QComboBox;
    stripChoice_->setObjectName("stripChoice");
    stripChoice_->setAccessibleName(tr("absmax per"));
    stripChoice_->setSizeAdjustPolicy(QComboBox::AdjustToContents);
    stripChoice_->setToolTip(tr("absmax, the largest magnitude, of each block that shares a scale"));
    row->addWidget(caption_, 1);
    row->addWidget(new QLabel(tr("absmax per")));
    row->addWidget(stripChoice_);
    row->addWidget(logButton_);
    row->addWidget(quantileButton_);
    connect(quantileButton_, &QToolButton::toggled, this, [this](bool on) {
        stack_->setCurrentIndex(on ? 1 : 0);
        logButton_->setEnabled(!on);
    });
    connect(logButton_, &QToolButton::toggled, this, [this](bool on) {
        plot_->setLog(pane_->axis(QCPAxis::atLeft), on);
        fitCounts();
        plot_->replot(QCustomPlot::rpQueuedReplot);
    });
    connect(stripChoice_, &QComboBox::activated, this, &HistogramView::measureStrip);
}

void HistogramView::buildHistogram() {
    pane_ = plot_->addPane(1);
    QCPAxis *x = pane_->axis(QCPAxis::atBottom), *y = pane_->axis(QCPAxis::atLeft);
    plot_->nameAxis(x, tr("weight"));
    plot_->nameAxis(y, tr("weights per bin"));
    plot_->setTickText(y, countTick);
    plot_->setLogSwitch(y, true);
    weights_ = new QCPGraph(x, y);
    weights_->setLineStyle(QCPGraph::lsStepLeft);
    weights_->setName(tr("weights"));
    normal_ = new QCPGraph(x, y);
    normal_->setName(tr("fitted normal"));
    edges_ = new EdgeMarks(x, y);

    stripScale_ = new ColourScale(plot_);
    plot_->plotLayout()->addElement(2, 0, stripScale_);
    stripPane_ = plot_->addPane(3);
    stripPane_->setMinimumSize(10, 22);
    stripPane_->setMaximumSize(QWIDGETSIZE_MAX, 22);
    stripPane_->setRangeDrag({});
    stripPane_->setRangeZoom({});
    QCPAxis *blocks = stripPane_->axis(QCPAxis::atBottom), *lane = stripPane_->axis(QCPAxis::atLeft);
    lane->setRange(-0.5, 0.5);
    lane->setTicks(false);
    lane->grid()->setVisible(false);
    blocks->grid()->setVisible(false);
    plot_->setTickText(blocks, countTick);
    stripMap_ = new HeatMap(blocks, lane);

    plot_->setReadout([this](QCPAxisRect* pane, QPointF position) -> std::optional<ReadoutText> {
        return pane == stripPane_ ? stripReadout(position) : binReadout(position);
    });
    connect(plot_, &Plot::viewChanged, &refine_, qOverload<>(&QTimer::start));
    connect(plot_, &Plot::scaleSwitched, this, [this](QCPAxis*, bool log) {
        const QSignalBlocker quiet(logButton_);
        logButton_->setChecked(log);
        fitCounts();
    });
    connect(plot_, &Plot::legendToggled, this, [this](const QString& key, bool on) {
        if (key == normal_key)
            normal_->setVisible(on);
        else if (key == weights_key)
            weights_->setVisible(on);
        else
            chosen_[key] = on;
        applyVisibility();
        fitCounts();
    });
    connect(plot_, &Plot::legendHovered, this, &HistogramView::applyColours);
}

void HistogramView::buildQuantiles() {
    QCPAxisRect* pane = quantilePlot_->addPane(1);
    pane->setRangeDrag(Qt::Horizontal | Qt::Vertical);
    pane->setRangeZoom(Qt::Horizontal | Qt::Vertical);
    QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
    quantilePlot_->nameAxis(x, tr("quantile of a normal distribution"), QStringLiteral("σ"));
    quantilePlot_->nameAxis(y, tr("quantile of the weights"));
    quantileLine_ = new QCPGraph(x, y);
    quantileLine_->setName(tr("normal"));
    quantiles_ = new QCPGraph(x, y);
    quantiles_->setName(tr("weights"));
    quantilePlot_->setReadout(
        [this](QCPAxisRect*, QPointF position) -> std::optional<ReadoutText> { return quantileReadout(position); });
}

Plot* HistogramView::activePlot() {
    return quantileButton_->isChecked() ? quantilePlot_ : plot_;
}

bool HistogramView::idle() const {
    return session()->device() && !shapeJob_.busy() && !binsJob_.busy() && !stripJob_.busy() && !refine_.isActive();
}

// --- following the session

void HistogramView::refresh() {
    const auto tensor = tensorToShow(tr("Open a checkpoint to see how its weights are distributed."),
                                     tr("Select a tensor in the tree to see the distribution of its weights."));
    if (!tensor)
        return;
    if (!session()->device())
        return; // still being made; deviceChanged() comes
    const bool other = session()->checkpoint() != checkpoint_ || tensor != tensor_;
    checkpoint_ = session()->checkpoint();
    tensor_ = tensor;
    updateStripChoices();
    if (other) {
        measureShape();
    } else if (shape_) {
        if (shownFormats_ != session()->formats() || shownDevice_ != session()->device())
            measureBins();
        measureStrip();
    }
    makeSeries();
    applyColours();
    applyVisibility();
    fitCounts();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

void HistogramView::measureShape() {
    shape_.reset();
    binsJob_.cancel();
    stripJob_.cancel();
    refine_.stop();
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
    std::optional<Statistics> known;
    if (const TensorReport* report = session()->report(*tensor_))
        known = report->statistics;
    shapeJob_.start(
        [checkpoint = checkpoint_, device = session()->device(), view, known](JobControl& job) {
            Shape shape;
            shape.statistics = known ? *known : device->analyze(view, {}, job).statistics;
            shape.quantiles = quantile_quantile(view, quantile_points, job);
            shape.outliers = outlierPositions(*device, view, shape.statistics, job);
            return shape;
        },
        [this](Shape shape) { takeShape(std::move(shape)); });
}

void HistogramView::takeShape(Shape shape) {
    shape_ = std::move(shape);
    const Statistics& statistics = shape_->statistics;
    if (shape_->quantiles.empty()) {
        plot_->setNote(tr("All %1 weights are NaN or infinite.").arg(count(static_cast<double>(statistics.count))));
        plot_->replot(QCustomPlot::rpQueuedReplot);
        return;
    }
    plot_->setNote({});
    const auto& points = shape_->quantiles;
    const auto tail = static_cast<std::size_t>(default_tail * static_cast<double>(points.size()));
    double low = points[tail].weight, high = points[points.size() - 1 - tail].weight;
    double least = statistics.min, most = statistics.max;
    if (!(low < high)) {
        low = least;
        high = most;
    }
    if (!(low < high)) {
        // One value only: a range around it.
        const double around = low == 0 ? 1 : std::abs(low) / 2;
        low = least = low - around;
        high = most = high + around;
    }
    const double margin = 0.12 * (high - low);
    const QCPRange home(std::max(least, low - margin), std::min(most, high + margin));
    const double beyond = 0.02 * (most - least);
    plot_->setHome(pane_->axis(QCPAxis::atBottom), home, QCPRange(least - beyond, most + beyond));
    plot_->goHome(true);
    const TensorInfo& info = checkpoint_->tensors[*tensor_];
    caption_->setText(
        tr("%1 · %2 weights").arg(QString::fromStdString(info.name), count(static_cast<double>(statistics.count))));
    showQuantiles();
    measureBins();
    measureStrip();
}

void HistogramView::measureBins() {
    if (!shape_ || shape_->quantiles.empty())
        return;
    const QCPRange range = pane_->axis(QCPAxis::atBottom)->range();
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
    const Bins bins = chooseBins(range.lower, range.upper, view.shape.count());
    shownFormats_ = session()->formats();
    shownDevice_ = session()->device();
    const auto measure = [this, view, bins](std::vector<FormatSpec> specs, auto then) {
        binsJob_.start(
            [checkpoint = checkpoint_, device = session()->device(), view, bins, specs](JobControl& job) {
                return device->histogram(view, specs, bins.low, bins.high, bins.count, job);
            },
            [this, specs, then](HistogramSet set) {
                showBins(std::move(set), specs);
                then();
            });
    };
    if (view.shape.count() < two_steps_from)
        measure(shownFormats_, [] {});
    else
        measure({}, [measure, formats = shownFormats_] { measure(formats, [] {}); });
}

void HistogramView::measureStrip() {
    if (!shape_)
        return;
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
    const std::size_t block = stripBlock();
    if (!strip_.absmax.empty() && strip_.block == block && strip_.of == view.data)
        return;
    stripJob_.start(
        [checkpoint = checkpoint_, view, block](JobControl& job) {
            const std::uint64_t length = block == 0 ? view.shape.columns : block;
            return Strip{view.data, block, (view.shape.count() + length - 1) / length,
                         block_absmax(view, block, strip_values, job)};
        },
        [this](Strip strip) { showStrip(std::move(strip)); });
}

// --- drawing

void HistogramView::makeSeries() {
    const auto& formats = session()->formats();
    const bool same = std::ranges::equal(series_, formats, {}, &Series::spec);
    if (!same) {
        for (const Series& series : series_)
            plot_->removePlottable(series.graph);
        series_.clear();
        for (const FormatSpec& spec : formats) {
            auto* graph = new QCPGraph(pane_->axis(QCPAxis::atBottom), pane_->axis(QCPAxis::atLeft));
            graph->setLineStyle(QCPGraph::lsStepLeft);
            graph->setName(nameOf(spec));
            series_.push_back({spec, graph});
        }
    }
    const Theme& theme = Theme::instance();
    std::vector<LegendEntry> entries{
        {weights_key, tr("weights"), theme.original(), LegendEntry::Mark::area},
        {normal_key, tr("fitted normal"), theme.text(), LegendEntry::Mark::line, true, false, Qt::DashLine}};
    for (const FormatSpec& spec : formats)
        entries.push_back({nameOf(spec), nameOf(spec), theme.format(spec), LegendEntry::Mark::line, true,
                           spec == session()->selectedSpec()});
    plot_->keys()->setEntries(std::move(entries));
}

/// The selected format is shown; others once they are chosen in the legend.
bool HistogramView::seriesOn(const FormatSpec& spec) const {
    const auto found = chosen_.find(nameOf(spec));
    return found == chosen_.end() ? spec == session()->selectedSpec() : found->second;
}

void HistogramView::applyVisibility() {
    for (const Series& series : series_) {
        const bool on = seriesOn(series.spec);
        series.graph->setVisible(on);
        plot_->keys()->setOn(nameOf(series.spec), on);
    }
}

void HistogramView::applyColours() {
    const Theme& theme = Theme::instance();
    QColor area = theme.original();
    weights_->setPen(QPen(area, 1.2));
    area.setAlphaF(0.22F);
    weights_->setBrush(area);
    normal_->setPen(QPen(theme.text(), 1, Qt::DashLine));
    const QString hovered = plot_->keys()->hovered();
    constexpr std::size_t most_prominent = 6;
    for (std::size_t i = 0; i < series_.size(); ++i) {
        QColor colour = theme.format(series_[i].spec);
        const bool selected = series_[i].spec == session()->selectedSpec();
        const bool raised = selected || hovered == nameOf(series_[i].spec);
        QColor fill = colour;
        fill.setAlphaF(selected ? 0.2F : 0.0F);
        if (!raised)
            colour.setAlphaF(i < most_prominent ? 0.8F : 0.3F);
        series_[i].graph->setPen(QPen(colour, raised ? 1.8 : 1.2));
        series_[i].graph->setBrush(fill.alpha() ? QBrush(fill) : QBrush(Qt::NoBrush));
    }
    quantiles_->setPen(QPen(theme.original(), 2));
    quantileLine_->setPen(QPen(theme.text(), 1, Qt::DashLine));
    quantilePlot_->keys()->setEntries({{weights_key, tr("weights"), theme.original(), LegendEntry::Mark::line, false},
                                       {normal_key, tr("normal with the same mean and σ"), theme.text(),
                                        LegendEntry::Mark::line, false, false, Qt::DashLine}});
    makeSeries();
    showEdges();
}

void HistogramView::showBins(HistogramSet set, std::vector<FormatSpec> specs) {
    set_ = std::move(set);
    setSpecs_ = std::move(specs);
    setStatistics_ = shape_->statistics;
    setSteps(weights_, set_.weights);
    for (const Series& series : series_) {
        const auto found = std::ranges::find(setSpecs_, series.spec);
        if (found != setSpecs_.end())
            setSteps(series.graph, set_.reconstructions[static_cast<std::size_t>(found - setSpecs_.begin())]);
    }
    showNormal();
    fitCounts();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

/// How many weights a bin of the present width would hold around x if they were normal.
double HistogramView::normalCount(double x) const {
    const Statistics& s = setStatistics_;
    const double finite = static_cast<double>(s.count - s.nan - s.inf);
    const double width = set_.weights.edge(1) - set_.weights.edge(0);
    const double z = (x - s.mean) / s.std;
    return finite * width / (s.std * std::sqrt(2 * std::numbers::pi)) * std::exp(-z * z / 2);
}

void HistogramView::showNormal() {
    QVector<QCPGraphData> curve;
    if (shape_->statistics.std > 0) {
        constexpr int points = 400;
        const double low = set_.weights.low, step = (set_.weights.high - low) / points;
        for (int i = 0; i <= points; ++i)
            curve.append({low + i * step, normalCount(low + i * step)});
    }
    normal_->data()->set(curve, true);
}

/// The counts' axis follows the weights: a spike of a reconstruction may pass its top, and is then named there.
void HistogramView::fitCounts() {
    if (!shape_ || set_.weights.counts.empty())
        return;
    QCPAxis* y = pane_->axis(QCPAxis::atLeft);
    const double weights = static_cast<double>(std::max<std::uint64_t>(1, largest(set_.weights)));
    double highest = weights;
    for (std::size_t i = 0; i < setSpecs_.size() && i < set_.reconstructions.size(); ++i)
        if (seriesOn(setSpecs_[i]))
            highest = std::max(highest, static_cast<double>(largest(set_.reconstructions[i])));
    if (Plot::isLog(y))
        y->setRange(0.7, 4 * highest);
    else
        y->setRange(0, 1.2 * std::min(highest, 2.2 * weights));
    showEdges();
}

void HistogramView::showEdges() {
    if (!shape_ || set_.weights.counts.empty())
        return;
    const Statistics& s = setStatistics_;
    std::vector<EdgeMarks::Tick> sigmas;
    if (s.std > 0)
        for (const int k : {-6, -3, -1, 1, 3, 6})
            sigmas.push_back(
                {s.mean + k * s.std, (k < 0 ? QStringLiteral("−%1σ") : QStringLiteral("+%1σ")).arg(std::abs(k))});
    edges_->setTicks(std::move(sigmas));
    edges_->setRug(shape_->outliers);

    const auto border = [&](std::uint64_t outside, const QString& arrow, bool left) {
        if (outside == 0)
            return QString();
        const QString number = tr("%1 (%2) outside")
                                   .arg(count(static_cast<double>(outside)),
                                        percent(static_cast<double>(outside) / static_cast<double>(s.count)));
        return left ? arrow + ' ' + number : number + ' ' + arrow;
    };
    QString left = border(set_.weights.below, QStringLiteral("◂"), true);
    QString right = border(set_.weights.above, QStringLiteral("▸"), false);
    if (s.beyond_6_sigma > 0)
        right += (right.isEmpty() ? QString() : QStringLiteral("\n")) +
                 tr("%1 beyond 6σ").arg(count(static_cast<double>(s.beyond_6_sigma)));
    if (!left.isEmpty() && s.min < set_.weights.low)
        left += '\n' + tr("down to %1").arg(significant(s.min));
    if (!right.isEmpty() && s.max > set_.weights.high)
        right += '\n' + tr("up to %1").arg(significant(s.max));
    edges_->setBorders(left, right);

    std::vector<EdgeMarks::Tick> peaks;
    QColor colour;
    const auto spec = session()->selectedSpec();
    const auto found = spec ? std::ranges::find(setSpecs_, *spec) : setSpecs_.end();
    if (found != setSpecs_.end() && seriesOn(*found)) {
        const Histogram& steps = set_.reconstructions[static_cast<std::size_t>(found - setSpecs_.begin())];
        const double top = pane_->axis(QCPAxis::atLeft)->range().upper;
        for (std::size_t i = 0; i < steps.counts.size() && peaks.size() < 3; ++i)
            if (static_cast<double>(steps.counts[i]) > top)
                peaks.push_back({(steps.edge(i) + steps.edge(i + 1)) / 2,
                                 tr("%1 at %2")
                                     .arg(count(static_cast<double>(steps.counts[i])),
                                          significant((steps.edge(i) + steps.edge(i + 1)) / 2))});
        colour = Theme::instance().format(*found);
    }
    edges_->setCutOff(std::move(peaks), colour);
}

void HistogramView::updateStripChoices() {
    const QVariant before = stripChoice_->currentData();
    const QSignalBlocker quiet(stripChoice_);
    stripChoice_->clear();
    const auto spec = session()->selectedSpec();
    const std::size_t block = spec ? format(spec->id).block(*spec) : 0;
    if (block > 1)
        stripChoice_->addItem(tr("block of %1 (%2)").arg(block).arg(nameOf(*spec)), QVariant::fromValue(block));
    stripChoice_->addItem(tr("row"), QVariant::fromValue(std::size_t{0}));
    for (const std::size_t size : {std::size_t{32}, std::size_t{64}, std::size_t{128}})
        if (size != block)
            stripChoice_->addItem(tr("block of %1").arg(size), QVariant::fromValue(size));
    // A choice stays while the format does; another format brings its own blocks.
    if (before.isValid() && spec == stripSpec_)
        stripChoice_->setCurrentIndex(std::max(0, stripChoice_->findData(before)));
    stripSpec_ = spec;
}

std::size_t HistogramView::stripBlock() const {
    return stripChoice_->currentData().value<std::size_t>();
}

void HistogramView::showStrip(Strip strip) {
    strip_ = std::move(strip);
    stripMap_->setValues({std::vector<double>(strip_.absmax.begin(), strip_.absmax.end())}, false);
    QCPAxis* x = stripPane_->axis(QCPAxis::atBottom);
    const auto merged = static_cast<double>(mergedBlocks());
    stripMap_->setColumnWidth(merged);
    x->setRange(-0.5 * merged, (static_cast<double>(strip_.absmax.size()) - 0.5) * merged);
    const QString what = strip_.block == 0 ? tr("row") : tr("block of %1 weights").arg(strip_.block);
    plot_->nameAxis(x, what);
    const auto range = stripMap_->range();
    stripScale_->setRange(tr("absmax per %1").arg(what), range ? significant(range->first) : QString(),
                          range ? significant(range->second) : QString());
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

/// Blocks that a cell of the strip stands for.
std::uint64_t HistogramView::mergedBlocks() const {
    const std::uint64_t cells = std::max<std::uint64_t>(1, strip_.absmax.size());
    return std::max<std::uint64_t>(1, (strip_.blocks + cells - 1) / cells);
}

void HistogramView::showQuantiles() {
    const auto& points = shape_->quantiles;
    QVector<QCPGraphData> data;
    for (const QuantilePoint& point : points)
        data.append({point.normal, point.weight});
    quantiles_->data()->set(data, true);
    quantiles_->setScatterStyle(points.size() < 200 ? QCPScatterStyle(QCPScatterStyle::ssDisc, 4)
                                                    : QCPScatterStyle(QCPScatterStyle::ssNone));
    const Statistics& s = shape_->statistics;
    const double edge = std::max(std::abs(points.front().normal), std::abs(points.back().normal)) * 1.05;
    quantileLine_->data()->set({{-edge, s.mean - edge * s.std}, {edge, s.mean + edge * s.std}}, true);
    QCPAxisRect* pane = quantilePlot_->axisRects().front();
    quantilePlot_->setHome(pane->axis(QCPAxis::atBottom), QCPRange(-edge, edge));
    const double low = std::min(points.front().weight, s.mean - edge * s.std);
    const double high = std::max(points.back().weight, s.mean + edge * s.std);
    const double margin = 0.04 * (high - low) + (high > low ? 0 : 1);
    quantilePlot_->setHome(pane->axis(QCPAxis::atLeft), QCPRange(low - margin, high + margin));
    quantilePlot_->goHome(true);
    quantilePlot_->replot(QCustomPlot::rpQueuedReplot);
}

// --- reading off

ReadoutText HistogramView::binReadout(QPointF position) const {
    const double x = pane_->axis(QCPAxis::atBottom)->pixelToCoord(position.x());
    ReadoutText text;
    text.title = tr("weight %1").arg(significant(x));
    const Histogram& bins = set_.weights;
    if (bins.counts.empty() || x < bins.low || x > bins.high)
        return text;
    const double t = (x - bins.low) / (bins.high - bins.low);
    const auto bin =
        std::min(static_cast<std::size_t>(t * static_cast<double>(bins.counts.size())), bins.counts.size() - 1);
    text.title = tr("bin %1 … %2").arg(significant(bins.edge(bin)), significant(bins.edge(bin + 1)));
    const auto number = [](std::uint64_t value) { return count(static_cast<double>(value)); };
    text.rows.push_back({weights_->pen().color(), tr("weights"), number(bins.counts[bin])});
    if (normal_->visible() && setStatistics_.std > 0)
        text.rows.push_back({normal_->pen().color(), tr("fitted normal"), count(normalCount(x))});
    for (std::size_t i = 0; i < setSpecs_.size(); ++i)
        if (seriesOn(setSpecs_[i]))
            text.rows.push_back({Theme::instance().format(setSpecs_[i]), nameOf(setSpecs_[i]),
                                 number(set_.reconstructions[i].counts[bin])});
    return text;
}

ReadoutText HistogramView::stripReadout(QPointF position) const {
    ReadoutText text;
    const auto cell = stripMap_->cellAt(position);
    if (!cell)
        return text;
    const std::uint64_t merged = mergedBlocks();
    const std::uint64_t first = static_cast<std::uint64_t>(cell->column) * merged;
    const std::uint64_t last = std::min(first + merged, strip_.blocks) - 1;
    const QString name = strip_.block == 0 ? tr("row") : tr("block");
    text.title = first == last ? tr("%1 %2").arg(name).arg(first) : tr("%1 %2 … %3").arg(name).arg(first).arg(last);
    text.rows.push_back({std::nullopt, tr("absmax"), significant(stripMap_->value(*cell))});
    return text;
}

ReadoutText HistogramView::quantileReadout(QPointF position) const {
    ReadoutText text;
    if (!shape_ || shape_->quantiles.empty())
        return text;
    const double x = quantilePlot_->axisRects().front()->axis(QCPAxis::atBottom)->pixelToCoord(position.x());
    const auto& points = shape_->quantiles;
    const auto next = std::ranges::lower_bound(points, x, {}, &QuantilePoint::normal);
    const QuantilePoint& point = next == points.end() ? points.back() : *next;
    const Statistics& s = shape_->statistics;
    const double share = std::erfc(-point.normal / std::numbers::sqrt2) / 2;
    text.title = tr("quantile %1 (%2σ)").arg(percent(share), significant(point.normal));
    text.rows.push_back({quantiles_->pen().color(), tr("weights"), significant(point.weight)});
    text.rows.push_back({quantileLine_->pen().color(), tr("normal"), significant(s.mean + point.normal * s.std)});
    return text;
}

QByteArray HistogramView::csv() const {
    QByteArray text;
    if (quantileButton_->isChecked()) {
        text = "normal_sigma,weight\n";
        if (shape_)
            for (const QuantilePoint& point : shape_->quantiles)
                text += csvNumber(point.normal) + ',' + csvNumber(point.weight) + '\n';
        return text;
    }
    text = "bin_low,bin_high,weights,fitted_normal";
    for (const FormatSpec& spec : setSpecs_)
        text += ',' + csvText(nameOf(spec));
    text += '\n';
    const Histogram& bins = set_.weights;
    for (std::size_t i = 0; i < bins.counts.size(); ++i) {
        text += csvNumber(bins.edge(i)) + ',' + csvNumber(bins.edge(i + 1)) + ',' + QByteArray::number(bins.counts[i]);
        text += ',' +
                (setStatistics_.std > 0 ? csvNumber(normalCount((bins.edge(i) + bins.edge(i + 1)) / 2)) : QByteArray());
        for (const Histogram& steps : set_.reconstructions)
            text += ',' + QByteArray::number(steps.counts[i]);
        text += '\n';
    }
    return text;
}

} // namespace qs::gui
