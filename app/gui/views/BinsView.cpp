#include "app/gui/views/BinsView.h"

#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/Theme.h"
#include "core/analysis/pipeline.h"

namespace qs::gui {

namespace {

constexpr double first_marker = 0.3;
constexpr std::size_t most_cached = 96;

} // namespace

BinsView::BinsView(Session* session, QWidget* parent)
    : View(session, parent), plot_(new Plot), caption_(new Caption), note_(new QLabel), value_(new QDoubleSpinBox) {
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 6, 8, 2);
    controls->setSpacing(8);
    buildControls(controls);
    column->addLayout(controls);
    column->addWidget(plot_, 1);
    note_->setContentsMargins(8, 2, 8, 6);
    note_->setWordWrap(true);
    note_->setObjectName("binsNote");
    column->addWidget(note_);
    plot_->setObjectName("bins");
    adopt(plot_);
    plot_->setMarker(first_marker);
    plot_->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });

    connect(plot_, &Plot::markerMoved, this, &BinsView::setMarker);
    connect(plot_, &Plot::themed, this, &BinsView::applyColours);
    connect(plot_, &Plot::paneClicked, this, [this](QCPAxisRect* pane, QPointF position) {
        setMarker(position.x());
        for (const Lane& lane : lanes_)
            if (lane.pane == pane) {
                selectFormat(lane.spec);
                return;
            }
    });
    connect(&job_, &Background::failed, this, [this](const Failure& failure) {
        queue_.clear();
        plot_->setNote(tr("The bins could not be measured: %1").arg(failure.what));
        plot_->replot(QCustomPlot::rpQueuedReplot);
        emit failed(failure);
    });
    for (const auto signal : {&Session::checkpointChanged, &Session::tensorSelected, &Session::formatsChanged})
        connect(session, signal, this, &BinsView::refreshLater);
    connect(session, &Session::formatSelected, this, [this] {
        fillDensity();
        showHeadings();
        plot_->replot(QCustomPlot::rpQueuedReplot);
    });
}

void BinsView::buildControls(QLayout* layout) {
    auto* row = static_cast<QHBoxLayout*>(layout);
    value_->setRange(-2, 2);
    value_->setDecimals(4);
    value_->setSingleStep(0.01);
    value_->setValue(first_marker);
    value_->setObjectName("markerValue");
    value_->setAccessibleName(tr("Value at the marker"));
    value_->setToolTip(tr("A weight divided by its block's scale; drag the marker or type a value and see what each "
                          "format makes of it"));
    row->addWidget(caption_, 1);
    auto* label = new QLabel(tr("&Marker at"));
    label->setBuddy(value_);
    row->addWidget(label);
    row->addWidget(value_);
    connect(value_, &QDoubleSpinBox::valueChanged, this, &BinsView::setMarker);
}

double BinsView::marker() const {
    return value_->value();
}

void BinsView::setMarker(double value) {
    const QSignalBlocker quiet(value_);
    value_->setValue(value);
    showMarker();
}

std::vector<const CodebookLane*> BinsView::lanes() const {
    std::vector<const CodebookLane*> all;
    for (const Lane& lane : lanes_)
        all.push_back(lane.plottable);
    return all;
}

// --- following the session

void BinsView::refresh() {
    const auto tensor =
        tensorToShow(tr("Open a checkpoint to see its weights fall into the bins of a format."),
                     tr("Select a tensor in the tree to see its weights fall into the bins of each format."));
    if (!tensor)
        return;
    const TensorInfo& info = session()->checkpoint()->tensors[*tensor];
    if (session()->formats().empty()) {
        showEmpty(tr("Choose formats above to see their levels on the weights of %1.")
                      .arg(QString::fromStdString(info.name)));
        return;
    }
    checkpoint_ = session()->checkpoint();
    tensor_ = tensor;
    std::erase_if(cache_, [this](const auto& entry) { return entry.first.checkpoint != checkpoint_.get(); });
    if (cache_.size() > most_cached)
        cache_.clear();
    caption_->setText(tr("%1 · %2 weights, each divided by its scale")
                          .arg(QString::fromStdString(info.name), count(static_cast<double>(info.elements()))));
    plot_->setNote({});

    job_.cancel();
    queue_.clear();
    for (const FormatSpec& spec : session()->formats())
        if (!known(spec))
            queue_.push_back(spec);
    rebuild();
    measureNext();
}

std::optional<BinsView::Report> BinsView::known(const FormatSpec& spec) const {
    const auto found = cache_.find({checkpoint_.get(), *tensor_, spec});
    return found == cache_.end() ? std::nullopt : std::optional(found->second);
}

/// One format after the other, so that each lane comes as soon as it is there.
void BinsView::measureNext() {
    if (queue_.empty())
        return;
    const FormatSpec spec = queue_.front();
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
    const Key key{checkpoint_.get(), *tensor_, spec};
    job_.start(
        [checkpoint = checkpoint_, view, spec](JobControl& job) -> Report {
            auto report = measure_bins(view, spec, job);
            return report ? std::make_shared<const BinsReport>(std::move(*report)) : nullptr;
        },
        [this, key](Report report) {
            cache_[key] = std::move(report);
            queue_.pop_front();
            rebuild();
            measureNext();
        });
}

// --- drawing

/// What is there stays until the first new lane has come: while another tensor is measured the old lanes are shown.
void BinsView::rebuild() {
    std::vector<std::pair<FormatSpec, Report>> shown;
    QStringList without;
    for (const FormatSpec& spec : session()->formats())
        if (const auto report = known(spec)) {
            if (*report)
                shown.emplace_back(spec, *report);
            else
                without << nameOf(spec);
        }
    note_->setText(without.isEmpty() ? QString()
                                     : tr("%1: no codebook of at most 256 levels; every weight is rounded on its own.")
                                           .arg(without.join(QStringLiteral(", "))));
    note_->setVisible(!without.isEmpty());
    if (shown.empty() && !queue_.empty())
        return;

    const auto marker = plot_->marker();
    const bool zoomed = plot_->zoomed() && densityPane_;
    const QCPRange range = zoomed ? densityPane_->axis(QCPAxis::atBottom)->range() : QCPRange();
    lanes_.clear();
    plot_->clearPanes();
    densityPane_ = plot_->addPane(1);
    density_ = new QCPGraph(densityPane_->axis(QCPAxis::atBottom), densityPane_->axis(QCPAxis::atLeft));
    density_->setLineStyle(QCPGraph::lsStepLeft);
    plot_->nameAxis(densityPane_->axis(QCPAxis::atLeft), QStringLiteral("%"));
    plot_->setMostTicks(densityPane_->axis(QCPAxis::atLeft), 4);
    plot_->plotLayout()->setRowStretchFactor(1, 0.8);
    densityPane_->axis(QCPAxis::atBottom)->setTickLabels(shown.empty());
    int row = 2;
    for (std::size_t i = 0; i < shown.size(); ++i, row += 2)
        addLane(shown[i].first, shown[i].second, row);
    if (!shown.empty())
        addAxis(row++);
    scale_ = new ColourScale(plot_);
    plot_->plotLayout()->addElement(row, 0, scale_);
    if (shown.empty())
        plot_->setNote(tr("None of the chosen formats has a codebook of at most 256 levels; add nf4, int8 or q4_0."));
    plot_->setMarker(shown.empty() ? std::nullopt : marker ? marker : std::optional(value_->value()));

    fillLanes();
    fillDensity();
    applyColours();
    plot_->goHome(true);
    if (zoomed)
        densityPane_->axis(QCPAxis::atBottom)->setRange(range);
    showMarker();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

void BinsView::addLane(const FormatSpec& spec, Report report, int row) {
    auto* heading = new TextRow(plot_);
    plot_->plotLayout()->addElement(row, 0, heading);
    QCPAxisRect* pane = plot_->addPane(row + 1);
    QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
    pane->setMinimumSize(40, 24);
    x->setTickLabels(false);
    x->grid()->setVisible(false);
    plot_->nameAxis(y, QStringLiteral("%"));
    plot_->setMostTicks(y, 3);
    plot_->link(densityPane_->axis(QCPAxis::atBottom), x);
    auto* lane = new CodebookLane(x, y);
    lane->setReport(std::move(report));
    lanes_.push_back({spec, heading, pane, lane});
}

/// The axis of all lanes, in a row of its own so that the lanes are equally high.
void BinsView::addAxis(int row) {
    QCPAxisRect* pane = plot_->addPane(row);
    pane->setMinimumSize(10, 1);
    pane->setMaximumSize(QWIDGETSIZE_MAX, 1);
    pane->setMinimumMargins(QMargins(8, 0, 14, 0));
    pane->axis(QCPAxis::atLeft)->setVisible(false);
    QCPAxis* x = pane->axis(QCPAxis::atBottom);
    x->grid()->setVisible(false);
    plot_->nameAxis(x, tr("weight ÷ scale of its block"));
    plot_->link(densityPane_->axis(QCPAxis::atBottom), x);
}

void BinsView::fillLanes() {
    double topError = 0, low = -1, high = 1;
    for (const Lane& lane : lanes_) {
        topError = std::max(topError, lane.plottable->largestErrorShare());
        lane.pane->axis(QCPAxis::atLeft)->setRange(0, std::max(1e-6, 115 * lane.plottable->largestWeightShare()));
        const CodebookLane& bins = *lane.plottable;
        // Bins at the ends that no weight is in (int4's code −8) do not widen the picture.
        for (std::size_t i = 0; i < bins.size(); ++i)
            if (bins.report().usage[i] > 0) {
                low = std::min(low, bins.bin(i).lower);
                high = std::max(high, bins.bin(i).upper);
            }
    }
    for (const Lane& lane : lanes_)
        lane.plottable->setTopError(topError);
    scale_->setRange(lanes_.empty() ? QString()
                                    : tr("height: share of the weights (%) · colour: share of the squared error"),
                     QStringLiteral("0"), percent(topError));
    if (densityPane_)
        plot_->setHome(densityPane_->axis(QCPAxis::atBottom), QCPRange(low - 0.02, high + 0.02));
}

/// The lane of the selected format, or the first: whose normalised weights the density shows.
std::optional<std::size_t> BinsView::densityLane() const {
    if (lanes_.empty())
        return std::nullopt;
    const auto spec = session()->selectedSpec();
    const auto found = std::ranges::find_if(lanes_, [&](const Lane& lane) { return lane.spec == spec; });
    return found == lanes_.end() ? 0 : static_cast<std::size_t>(found - lanes_.begin());
}

void BinsView::fillDensity() {
    const auto shown = densityLane();
    if (!shown || !density_)
        return;
    const Histogram& positions = lanes_[*shown].plottable->report().positions;
    double total = 0, top = 0;
    for (const std::uint64_t value : positions.counts)
        total += static_cast<double>(value);
    total += static_cast<double>(positions.below + positions.above);
    // Few weights are shown in wider bins: some forty weights a bin keep the noise below the shape.
    std::size_t wide = 1;
    while (wide < 16 && total * static_cast<double>(wide) < 40.0 * static_cast<double>(positions.counts.size()))
        wide *= 2;
    QVector<QCPGraphData> data;
    for (std::size_t i = 0; i < positions.counts.size() && total > 0; i += wide) {
        const std::size_t end = std::min(i + wide, positions.counts.size());
        double share = 0;
        for (std::size_t j = i; j < end; ++j)
            share += 100 * static_cast<double>(positions.counts[j]) / total;
        data.append({positions.edge(i), share});
        if (end == positions.counts.size())
            data.append({positions.edge(end), share});
        // The extremes of the blocks pile up at ±1; the curve's height is set by what lies between.
        if (std::abs(positions.edge(i)) < 0.9)
            top = std::max(top, share);
    }
    density_->data()->set(data, true);
    density_->setName(nameOf(lanes_[*shown].spec));
    densityPane_->axis(QCPAxis::atLeft)->setRange(0, top > 0 ? 1.2 * top : 1);
    plot_->keys()->setEntries({{"density", tr("weights ÷ scale of %1").arg(nameOf(lanes_[*shown].spec)),
                                Theme::instance().original(), LegendEntry::Mark::area, false}});
}

void BinsView::applyColours() {
    const Theme& theme = Theme::instance();
    if (density_) {
        QColor fill = theme.original();
        density_->setPen(QPen(fill, 1.2));
        fill.setAlphaF(0.22F);
        density_->setBrush(fill);
    }
    for (const Lane& lane : lanes_)
        lane.plottable->setTickColour(theme.format(lane.spec));
    fillDensity();
    showHeadings();
}

void BinsView::showHeadings() {
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
        const Lane& lane = lanes_[i];
        const BinsReport& report = lane.plottable->report();
        const std::size_t levels = report.codebook.levels.size();
        QString name = nameOf(lane.spec);
        if (report.spec != lane.spec)
            name += tr(" (as %1: its block does not divide the row)").arg(nameOf(report.spec));
        const QString facts = tr("%1 of %2 levels · entropy %3 bits · %4 bits/weight")
                                  .arg(report.levels_used)
                                  .arg(levels)
                                  .arg(significant(report.entropy), significant(report.bits_per_weight));
        lane.heading->setParts(
            {{name, Theme::instance().format(lane.spec), lane.spec == session()->selectedSpec(), true},
             {facts, Theme::instance().mutedText()},
             {reading(i), Theme::instance().accent(), false, false, true}});
    }
}

QString BinsView::reading(std::size_t lane) const {
    if (lanes_.size() <= lane)
        return {};
    const Codebook& codebook = lanes_[lane].plottable->report().codebook;
    const Probe found = probe(codebook, marker());
    return tr("code %1 · level %2 · error %3")
        .arg(QString::number(found.code), significant(found.value), significant(found.error));
}

void BinsView::showMarker() {
    for (const Lane& lane : lanes_)
        lane.plottable->setMarked(lane.plottable->levelAt(marker()));
    showHeadings();
    if (plot_->marker())
        plot_->setMarker(marker());
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

// --- reading off

std::optional<ReadoutText> BinsView::readoutAt(QCPAxisRect* pane, QPointF position) const {
    const double x = pane->axis(QCPAxis::atBottom)->pixelToCoord(position.x());
    ReadoutText text;
    text.title = tr("weight ÷ scale %1").arg(significant(x));
    for (const Lane& lane : lanes_) {
        const CodebookLane& bins = *lane.plottable;
        const auto level = bins.levelAt(x);
        const QColor colour = Theme::instance().format(lane.spec);
        if (lane.pane != pane) {
            text.rows.push_back(
                {colour, nameOf(lane.spec),
                 level ? tr("level %1").arg(significant(bins.report().codebook.levels[*level].value)) : tr("clipped")});
            continue;
        }
        if (!level)
            continue;
        const Level& found = bins.report().codebook.levels[*level];
        text.rows.push_back({colour, nameOf(lane.spec),
                             tr("code %1, level %2").arg(QString::number(found.code), significant(found.value))});
        text.rows.push_back(
            {std::nullopt, tr("bin"),
             tr("%1 … %2").arg(significant(bins.bin(*level).lower), significant(bins.bin(*level).upper))});
        text.rows.push_back({std::nullopt, tr("weights in it"),
                             tr("%1 (%2)").arg(count(static_cast<double>(bins.report().usage[*level])),
                                               percent(bins.weightShare(*level)))});
        text.rows.push_back({std::nullopt, tr("of the error"), percent(bins.errorShare(*level))});
    }
    return text;
}

QByteArray BinsView::csv() const {
    QByteArray text = "format,code,level,bin_low,bin_high,weights,squared_error\n";
    for (const Lane& lane : lanes_) {
        const BinsReport& report = lane.plottable->report();
        for (std::size_t i = 0; i < report.codebook.levels.size(); ++i) {
            const QCPRange bin = lane.plottable->bin(i);
            text += csvText(nameOf(lane.spec)) + ',' + QByteArray::number(report.codebook.levels[i].code) + ',' +
                    csvNumber(report.codebook.levels[i].value) + ',' + csvNumber(bin.lower) + ',' +
                    csvNumber(bin.upper) + ',' + QByteArray::number(report.usage[i]) + ',' +
                    csvNumber(report.error[i]) + '\n';
        }
    }
    return text;
}

} // namespace qs::gui
