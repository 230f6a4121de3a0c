#include "app/gui/views/BinsView.h"

#include <QComboBox>
#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QSpinBox>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"
#include "core/analysis/pipeline.h"
#include "core/formats/load.h"

namespace qs::gui {

namespace {

constexpr double first_marker = 0.3;
constexpr std::size_t most_cached = 256;
/// Blocks of more weights are drawn as a density.
constexpr std::size_t most_dots = 512;
/// The axis shows the weights of blocks up to this size; larger ones reach beyond it.
constexpr std::uint64_t small_block = 256;

/// The scale of a block and where its levels begin.
QString scaleText(const BlockBins& block) {
    if (block.lowest() == block.highest())
        return BinsView::tr("all levels are %1").arg(significant(block.lowest()));
    if (std::isnan(block.step) || block.bins.codebook.levels.size() < 3)
        return BinsView::tr("levels from %1 to %2").arg(significant(block.lowest()), significant(block.highest()));
    return BinsView::tr("scale %1, minimum %2").arg(significant(block.step), significant(block.lowest()));
}

/// Which weights a block holds.
QString placeText(const BlockBins& block) {
    if (block.blocks == 1)
        return BinsView::tr("all %1 weights").arg(count(static_cast<double>(block.block.count())));
    return BinsView::tr("weights %1 … %2 · block %3 of %4")
        .arg(block.block.begin)
        .arg(block.block.end - 1)
        .arg(block.block.index)
        .arg(block.blocks);
}

} // namespace

BinsView::BinsView(Session* session, QWidget* parent)
    : View(session, parent), plot_(new Plot), caption_(new Caption), note_(new QLabel), part_(new QComboBox),
      number_(new QSpinBox), value_(new QDoubleSpinBox), marker_(first_marker), wholeMarker_(first_marker) {
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 6, 8, 2);
    controls->setSpacing(8);
    buildControls(controls);
    column->addLayout(controls);
    column->addWidget(new PlotScroll(plot_), 1);
    note_->setContentsMargins(8, 2, 8, 6);
    note_->setWordWrap(true);
    note_->setObjectName("binsNote");
    column->addWidget(note_);
    plot_->setObjectName("bins");
    adopt(plot_);
    plot_->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });

    connect(plot_, &Plot::markerMoved, this, &BinsView::setMarker);
    connect(plot_, &Plot::themed, this, &BinsView::applyColours);
    connect(plot_, &Plot::paneClicked, this, &BinsView::clickPane);
    connect(&job_, &Background::failed, this, [this](const Failure& failure) {
        queue_.clear();
        plot_->setNote(tr("The bins could not be measured: %1").arg(failure.what));
        plot_->replot(QCustomPlot::rpQueuedReplot);
        emit failed(failure);
    });
    for (const auto signal : {&Session::checkpointChanged, &Session::tensorSelected, &Session::formatsChanged})
        connect(session, signal, this, &BinsView::refreshLater);
    connect(session, &Session::elementSelected, this, [this] {
        if (showsBlock())
            refreshLater();
    });
    connect(session, &Session::formatSelected, this, [this] {
        fillTop();
        showHeadings();
        showSelector();
        plot_->replot(QCustomPlot::rpQueuedReplot);
    });
}

void BinsView::buildControls(QLayout* layout) {
    auto* row = static_cast<QHBoxLayout*>(layout);
    part_->addItems({tr("Whole tensor"), tr("One block")});
    part_->setObjectName("binsPart");
    part_->setAccessibleName(tr("What is shown"));
    part_->setToolTip(tr("The levels on all weights, each divided by its scale, or those of one block as they are"));
    number_->setObjectName("binsBlock");
    number_->setKeyboardTracking(false);
    number_->setAccelerated(true);
    number_->hide();
    value_->setObjectName("markerValue");
    value_->setAccessibleName(tr("Value at the marker"));
    row->addWidget(caption_, 1);
    row->addWidget(part_);
    row->addWidget(number_);
    auto* label = new QLabel(tr("&Marker at"));
    label->setBuddy(value_);
    row->addWidget(label);
    row->addWidget(value_);
    connect(part_, &QComboBox::currentIndexChanged, this, &BinsView::refreshLater);
    connect(number_, &QSpinBox::valueChanged, this, &BinsView::chooseBlock);
    connect(value_, &QDoubleSpinBox::valueChanged, this, &BinsView::setMarker);
}

bool BinsView::showsBlock() const {
    return part_->currentIndex() == 1;
}

void BinsView::setMarker(double value) {
    marker_ = value;
    if (!structure_.block)
        wholeMarker_ = value;
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

QString BinsView::heading(std::size_t lane) const {
    const Lane& shown = lanes_[lane];
    return shown.facts ? shown.heading->text() + '\n' + shown.facts->text() : shown.heading->text();
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
    if (checkpoint_ != session()->checkpoint() || tensor_ != tensor)
        markedElement_.reset();
    checkpoint_ = session()->checkpoint();
    tensor_ = tensor;
    element_ = showsBlock() ? std::optional(session()->selectedElement().value_or(0)) : std::nullopt;
    std::erase_if(cache_, [this](const auto& entry) { return entry.first.checkpoint != checkpoint_.get(); });
    if (cache_.size() > most_cached)
        cache_.clear();
    const QString name = QString::fromStdString(info.name), weights = count(static_cast<double>(info.elements()));
    caption_->setText(element_ ? tr("%1 · weight %2").arg(name).arg(*element_)
                               : tr("%1 · %2 weights, each divided by its scale").arg(name, weights));
    plot_->setNote({});

    job_.cancel();
    queue_.clear();
    for (const FormatSpec& spec : session()->formats())
        if (known(spec) == nullptr)
            queue_.push_back(spec);
    showSelector();
    rebuild();
    measureNext();
}

TensorShape BinsView::shape() const {
    return view_of(*checkpoint_, checkpoint_->tensors[*tensor_]).shape;
}

BinsView::Key BinsView::keyOf(const FormatSpec& spec) const {
    return {checkpoint_.get(), *tensor_, spec,
            element_ ? std::optional(BlockNumbers(spec, shape()).at(*element_).index) : std::nullopt};
}

const BinsView::Measured* BinsView::known(const FormatSpec& spec) const {
    const auto found = cache_.find(keyOf(spec));
    return found == cache_.end() ? nullptr : &found->second;
}

void BinsView::chooseBlock(int number) {
    if (tensor_ && !lanes_.empty())
        session()->selectElement(
            BlockNumbers(lanes_[leadingLane()].spec, shape()).first(static_cast<std::uint64_t>(number)));
}

/// Of the whole tensor one format after the other, so that each lane comes as soon as it is there; blocks, which take
/// little time, all at once, so that stepping through them does not flicker.
void BinsView::measureNext() {
    if (queue_.empty())
        return;
    const std::vector<FormatSpec> specs(queue_.begin(), element_ ? queue_.end() : queue_.begin() + 1);
    std::vector<Key> keys;
    for (const FormatSpec& spec : specs)
        keys.push_back(keyOf(spec));
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
    job_.start(
        [checkpoint = checkpoint_, view, specs, element = element_](JobControl& job) {
            std::vector<Measured> all;
            for (const FormatSpec& spec : specs) {
                Measured& measured = all.emplace_back();
                if (!element) {
                    if (auto report = measure_bins(view, spec, job))
                        measured.report = std::make_shared<const BinsReport>(std::move(*report));
                } else if (auto bins = measure_block_bins(view, spec, *element, job)) {
                    measured.block = std::make_shared<const BlockBins>(std::move(*bins));
                    measured.report = {measured.block, &measured.block->bins};
                }
            }
            return all;
        },
        [this, keys](std::vector<Measured> all) {
            for (std::size_t i = 0; i < keys.size(); ++i)
                cache_[keys[i]] = std::move(all[i]);
            queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(keys.size()));
            rebuild();
            measureNext();
        });
}

// --- drawing

/// What is there stays until what replaces it has come: the first new lane of a tensor, all lanes of a block.
void BinsView::rebuild() {
    Structure now{{}, element_.has_value()};
    QStringList without;
    for (const FormatSpec& spec : session()->formats())
        if (const Measured* measured = known(spec)) {
            if (measured->report)
                now.specs.push_back(spec);
            else
                without << nameOf(spec);
        }
    note_->setText(without.isEmpty() ? QString()
                                     : tr("%1: no codebook of at most 256 levels; every weight is rounded on its own.")
                                           .arg(without.join(QStringLiteral(", "))));
    note_->setVisible(!without.isEmpty());
    if (!queue_.empty() && (now.specs.empty() || now.block))
        return;

    const bool fresh = !topPane_ || !(now == structure_);
    const bool zoomed = plot_->zoomed() && topPane_ && now.block == structure_.block;
    const QCPRange range = zoomed ? topPane_->axis(QCPAxis::atBottom)->range() : QCPRange();
    if (fresh)
        layOut(now);
    fillLanes();
    fitAxis();
    fillTop();
    applyColours();
    plot_->goHome(fresh);
    if (fresh && zoomed)
        topPane_->axis(QCPAxis::atBottom)->setRange(range);
    showSelector();
    placeMarker();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

void BinsView::layOut(const Structure& structure) {
    structure_ = structure;
    lanes_.clear();
    plot_->clearPanes();
    topPane_ = plot_->addPane(1);
    QCPAxis *x = topPane_->axis(QCPAxis::atBottom), *y = topPane_->axis(QCPAxis::atLeft);
    topPane_->setMinimumSize(40, structure.block ? 68 : 44);
    density_ = new QCPGraph(x, y);
    density_->setLineStyle(QCPGraph::lsStepLeft);
    dots_ = new BlockDots(x, y);
    plot_->setMostTicks(y, 4);
    plot_->plotLayout()->setRowStretchFactor(1, structure.block ? 2.4 : 0.8);
    x->setTickLabels(structure.specs.empty());
    int row = 2;
    for (const FormatSpec& spec : structure.specs)
        row = addLane(spec, row);
    if (!structure.specs.empty())
        addAxis(row++);
    scale_ = new ColourScale(plot_);
    plot_->plotLayout()->addElement(row, 0, scale_);
    if (structure.specs.empty())
        plot_->setNote(tr("None of the chosen formats has a codebook of at most 256 levels; add nf4, int8 or q4_0."));
}

/// Returns the next free row.
int BinsView::addLane(const FormatSpec& spec, int row) {
    TextRow* facts = nullptr;
    auto* heading = new TextRow(plot_);
    plot_->plotLayout()->addElement(row++, 0, heading);
    if (structure_.block) {
        facts = new TextRow(plot_);
        facts->setMargins(QMargins(24, 0, 14, 0));
        plot_->plotLayout()->addElement(row++, 0, facts);
    }
    QCPAxisRect* pane = plot_->addPane(row++);
    QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
    pane->setMinimumSize(40, 26);
    x->setTickLabels(false);
    x->grid()->setVisible(false);
    plot_->nameAxis(y, QStringLiteral("%"));
    plot_->setMostTicks(y, 3);
    plot_->link(topPane_->axis(QCPAxis::atBottom), x);
    lanes_.push_back({spec, heading, facts, pane, new CodebookLane(x, y)});
    return row;
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
    plot_->nameAxis(x, structure_.block ? tr("weight") : tr("weight ÷ scale of its block"));
    plot_->link(topPane_->axis(QCPAxis::atBottom), x);
}

void BinsView::fillLanes() {
    double topError = 0;
    for (Lane& lane : lanes_) {
        const Measured& measured = *known(lane.spec);
        if (measured.block)
            lane.plottable->setBlock(measured.block, *element_);
        else
            lane.plottable->setReport(measured.report);
        topError = std::max(topError, lane.plottable->largestErrorShare());
        // Room above the bins; in a block also for the ticks of its weights.
        const double room = measured.block ? 135 : 115;
        lane.pane->axis(QCPAxis::atLeft)->setRange(0, std::max(1e-6, room * lane.plottable->largestWeightShare()));
    }
    for (const Lane& lane : lanes_)
        lane.plottable->setTopError(topError);
    scale_->setRange(lanes_.empty() ? QString()
                                    : tr("height: share of the weights (%) · colour: share of the squared error"),
                     QStringLiteral("0"), percent(topError));
}

void BinsView::fitAxis() {
    if (lanes_.empty())
        return;
    if (structure_.block)
        return fitBlockAxis();
    double low = -1, high = 1;
    for (const Lane& lane : lanes_) {
        const CodebookLane& bins = *lane.plottable;
        // Bins at the ends that no weight is in (int4's code −8) do not widen the picture.
        for (std::size_t i = 0; i < bins.size(); ++i)
            if (bins.report().usage[i] > 0) {
                low = std::min(low, bins.bin(i).lower);
                high = std::max(high, bins.bin(i).upper);
            }
    }
    plot_->setHome(topPane_->axis(QCPAxis::atBottom), QCPRange(low - 0.02, high + 0.02));
    value_->setToolTip(tr("A weight divided by its block's scale; drag the marker or type a value and see what each "
                          "format makes of it"));
    setMarkerRange(QCPRange(-2, 2));
}

/// The weights of the small blocks and the bins that they are in; all levels of all blocks with a second double click.
void BinsView::fitBlockAxis() {
    std::uint64_t smallest = std::numeric_limits<std::uint64_t>::max();
    for (const Lane& lane : lanes_)
        smallest = std::min(smallest, lane.plottable->block()->block.count());
    std::optional<QCPRange> near, all;
    const auto include = [](std::optional<QCPRange>& range, const QCPRange& more) {
        range = range ? range->expanded(more) : more;
    };
    for (const Lane& lane : lanes_) {
        const CodebookLane& bins = *lane.plottable;
        const BlockBins& block = *bins.block();
        const bool close = block.block.count() <= std::max(small_block, smallest);
        for (std::size_t i = 0; i < bins.size(); ++i) {
            include(all, bins.bin(i));
            if (close && bins.report().usage[i] > 0)
                include(near, bins.bin(i));
        }
        for (const BlockWeight& each : block.weights)
            if (close && std::isfinite(each.weight))
                include(near, QCPRange(each.weight, each.weight));
    }
    if (!near || !QCPRange::validRange(*near)) // zeros alone
        near = QCPRange(-1, 1);
    all = all->expanded(*near);
    const auto wider = [](const QCPRange& range) {
        return QCPRange(range.lower - 0.02 * range.size(), range.upper + 0.02 * range.size());
    };
    plot_->setHome(topPane_->axis(QCPAxis::atBottom), wider(*near), wider(*all));
    value_->setToolTip(tr("A weight; drag the marker or type a value and see what each format would make of it in this "
                          "block"));
    setMarkerRange(wider(*all));
}

/// Lets the marker be typed in the range of the axis, with digits enough for its width.
void BinsView::setMarkerRange(const QCPRange& range) {
    const QSignalBlocker quiet(value_);
    const int digits = std::clamp(4 - static_cast<int>(std::floor(std::log10(range.size()))), 4, 12);
    value_->setDecimals(digits);
    value_->setRange(range.lower, range.upper);
    value_->setSingleStep(std::pow(10.0, 2 - digits));
}

/// The lane of the selected format, or the first.
std::size_t BinsView::leadingLane() const {
    const auto spec = session()->selectedSpec();
    const auto found = std::ranges::find_if(lanes_, [&](const Lane& lane) { return lane.spec == spec; });
    return found == lanes_.end() ? 0 : static_cast<std::size_t>(found - lanes_.begin());
}

/// Above the lanes: how the weights lie, normalised by the selected format or in its block.
void BinsView::fillTop() {
    if (lanes_.empty() || !topPane_)
        return;
    const CodebookLane& lane = *lanes_[leadingLane()].plottable;
    const bool dots = lane.block() && !lane.block()->weights.empty() && lane.block()->weights.size() <= most_dots;
    density_->setVisible(!dots);
    dots_->setVisible(dots);
    QCPAxis* y = topPane_->axis(QCPAxis::atLeft);
    y->setRangeReversed(dots);
    plot_->nameAxis(y, dots ? tr("place") : QStringLiteral("%"));
    if (dots)
        fillDots(lane.block());
    else
        fillDensity(lane);
    showKeys();
}

void BinsView::fillDots(std::shared_ptr<const BlockBins> block) {
    topPane_->axis(QCPAxis::atLeft)->setRange(-1, static_cast<double>(block->weights.size()));
    const std::uint64_t first = block->block.begin;
    dots_->setBlock(std::move(block), element_.value_or(first) - first);
    dots_->setColour(Theme::instance().format(lanes_[leadingLane()].spec));
}

void BinsView::fillDensity(const CodebookLane& lane) {
    const Histogram& positions = lane.report().positions;
    double total = 0, top = 0;
    for (const std::uint64_t value : positions.counts)
        total += static_cast<double>(value);
    total += static_cast<double>(positions.below + positions.above);
    // Few weights are shown in wider bins: some forty weights a bin keep the noise below the shape.
    std::size_t wide = 1;
    while (wide < 16 && total * static_cast<double>(wide) < 40.0 * static_cast<double>(positions.counts.size()))
        wide *= 2;
    const double most = 0.9 * std::max(std::abs(positions.low), std::abs(positions.high));
    QVector<QCPGraphData> data;
    for (std::size_t i = 0; i < positions.counts.size() && total > 0; i += wide) {
        const std::size_t end = std::min(i + wide, positions.counts.size());
        double share = 0;
        for (std::size_t j = i; j < end; ++j)
            share += 100 * static_cast<double>(positions.counts[j]) / total;
        data.append({positions.edge(i), share});
        if (end == positions.counts.size())
            data.append({positions.edge(end), share});
        // The extremes of the blocks pile up at the ends; the curve's height is set by what lies between.
        if (std::abs(positions.edge(i)) < most)
            top = std::max(top, share);
    }
    density_->data()->set(data, true);
    density_->setName(nameOf(lanes_[leadingLane()].spec));
    topPane_->axis(QCPAxis::atLeft)->setRange(0, top > 0 ? 1.2 * top : 1);
}

void BinsView::showKeys() {
    const Lane& lane = lanes_[leadingLane()];
    const QString name = nameOf(lane.spec);
    const QColor grey = Theme::instance().original();
    std::vector<LegendEntry> entries;
    if (dots_->visible()) {
        entries.push_back({"weights", tr("weights of the block of %1").arg(name), grey, LegendEntry::Mark::dot, false});
        entries.push_back({"levels", tr("the level that each took"), Theme::instance().format(lane.spec),
                           LegendEntry::Mark::tick, false});
    } else {
        const QString text = structure_.block ? tr("weights of the block of %1") : tr("weights ÷ scale of %1");
        entries.push_back({"density", text.arg(name), grey, LegendEntry::Mark::area, false});
    }
    plot_->keys()->setEntries(std::move(entries));
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
    fillTop();
    showHeadings();
}

void BinsView::showHeadings() {
    const Theme& theme = Theme::instance();
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
        const Lane& lane = lanes_[i];
        const BinsReport& report = lane.plottable->report();
        const BlockBins* block = lane.plottable->block().get();
        QString name = nameOf(lane.spec);
        if (report.spec != lane.spec)
            name +=
                (block ? tr(" (as %1)") : tr(" (as %1: its block does not divide the row)")).arg(nameOf(report.spec));
        const QString levels = tr("%1 of %2 levels").arg(report.levels_used).arg(report.codebook.levels.size());
        const QString bits = significant(report.bits_per_weight);
        const QString facts =
            block ? placeText(*block)
                  : tr("%1 · entropy %2 bits · %3 bits/weight").arg(levels, significant(report.entropy), bits);
        lane.heading->setParts({{name, theme.format(lane.spec), lane.spec == session()->selectedSpec(), true},
                                {facts, theme.mutedText()},
                                {reading(i), theme.accent(), false, false, true}});
        if (block)
            lane.facts->setParts(
                {{tr("%1 · %2 · %3 bits, %4 a weight").arg(scaleText(*block), levels, count(block->bits()), bits),
                  theme.mutedText()}});
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

/// The blocks of the selected format, by number.
void BinsView::showSelector() {
    number_->setVisible(element_.has_value());
    if (!element_ || session()->formats().empty())
        return;
    const FormatSpec spec = lanes_.empty() ? session()->formats().front() : lanes_[leadingLane()].spec;
    const BlockNumbers numbers(spec, shape());
    const std::uint64_t last = numbers.count() - 1;
    const QSignalBlocker quiet(number_);
    number_->setRange(0, static_cast<int>(std::min<std::uint64_t>(last, std::numeric_limits<int>::max())));
    number_->setSuffix(tr(" of %1").arg(last + 1));
    number_->setValue(static_cast<int>(numbers.at(*element_).index));
    number_->setAccessibleName(tr("Block of %1").arg(nameOf(spec)));
    number_->setToolTip(tr("Which block of %1, the selected format; the other lanes show their blocks around its first "
                           "weight. Arrow keys go through them")
                            .arg(nameOf(spec)));
}

/// On the selected weight when another one is selected, else where it was.
void BinsView::placeMarker() {
    if (lanes_.empty())
        return plot_->setMarker(std::nullopt);
    double value = marker_;
    if (!structure_.block) {
        value = wholeMarker_;
        markedElement_.reset();
    } else if (markedElement_ != element_) {
        const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[*tensor_]);
        float weight = 0;
        load_weights(view.dtype, view.byte_swapped, view.data, *element_, 1, &weight);
        value = std::isfinite(weight) ? weight : 0;
        markedElement_ = element_;
    }
    plot_->setMarker(value);
    setMarker(value);
}

void BinsView::showMarker() {
    for (const Lane& lane : lanes_)
        lane.plottable->setMarked(lane.plottable->levelAt(marker()));
    showHeadings();
    if (plot_->marker())
        plot_->setMarker(marker());
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

// --- selecting and reading off

void BinsView::clickPane(QCPAxisRect* pane, QPointF position) {
    if (pane == topPane_ && dots_->visible()) {
        if (const auto place = dots_->placeAt(position.y())) {
            session()->selectElement(dots_->block()->block.begin + *place);
            return;
        }
    }
    setMarker(position.x());
    for (const Lane& lane : lanes_)
        if (lane.pane == pane) {
            selectFormat(lane.spec);
            return;
        }
}

std::vector<ReadoutText::Row> BinsView::binRows(const Lane& lane, std::size_t level) const {
    const CodebookLane& bins = *lane.plottable;
    const Level& found = bins.report().codebook.levels[level];
    const QCPRange bin = bins.bin(level);
    return {
        {Theme::instance().format(lane.spec), nameOf(lane.spec),
         tr("code %1, level %2").arg(QString::number(found.code), significant(found.value))},
        {std::nullopt, tr("bin"), tr("%1 … %2").arg(significant(bin.lower), significant(bin.upper))},
        {std::nullopt, tr("weights in it"),
         tr("%1 (%2)").arg(count(static_cast<double>(bins.report().usage[level])), percent(bins.weightShare(level)))},
        {std::nullopt, tr("of the error"), percent(bins.errorShare(level))}};
}

/// One weight of the block and what became of it.
std::optional<ReadoutText> BinsView::readoutOfDot(double at) const {
    const auto place = dots_->placeAt(at);
    if (!place)
        return std::nullopt;
    const BlockBins& block = *dots_->block();
    const auto& [weight, level] = block.weights[*place];
    const Level& taken = block.bins.codebook.levels[level];
    ReadoutText text;
    text.title = tr("weight %1").arg(block.block.begin + *place);
    text.hairLine = false;
    text.rows = {{std::nullopt, tr("value"), significant(weight)},
                 {std::nullopt, tr("code"), QString::number(taken.code)},
                 {std::nullopt, tr("level"), significant(taken.value)},
                 {std::nullopt, tr("error"), significant(taken.value - weight)}};
    text.note = tr("A click selects it.");
    return text;
}

std::optional<ReadoutText> BinsView::readoutAt(QCPAxisRect* pane, QPointF position) const {
    if (pane == topPane_ && dots_->visible())
        return readoutOfDot(pane->axis(QCPAxis::atLeft)->pixelToCoord(position.y()));
    const double x = pane->axis(QCPAxis::atBottom)->pixelToCoord(position.x());
    ReadoutText text;
    text.title = (structure_.block ? tr("weight %1") : tr("weight ÷ scale %1")).arg(significant(x));
    for (const Lane& lane : lanes_) {
        const auto level = lane.plottable->levelAt(x);
        if (lane.pane != pane) {
            text.rows.push_back(
                {Theme::instance().format(lane.spec), nameOf(lane.spec),
                 level ? tr("level %1").arg(significant(lane.plottable->report().codebook.levels[*level].value))
                       : tr("clipped")});
        } else if (level) {
            std::ranges::copy(binRows(lane, *level), std::back_inserter(text.rows));
        }
    }
    return text;
}

QByteArray BinsView::csv() const {
    QByteArray text = structure_.block ? "format,first_weight,last_weight," : "format,";
    text += "code,level,bin_low,bin_high,weights,squared_error\n";
    for (const Lane& lane : lanes_) {
        const BinsReport& report = lane.plottable->report();
        QByteArray head = csvText(nameOf(lane.spec)) + ',';
        if (const auto& block = lane.plottable->block())
            head += QByteArray::number(static_cast<qulonglong>(block->block.begin)) + ',' +
                    QByteArray::number(static_cast<qulonglong>(block->block.end - 1)) + ',';
        for (std::size_t i = 0; i < report.codebook.levels.size(); ++i) {
            const QCPRange bin = lane.plottable->bin(i);
            text += head + QByteArray::number(report.codebook.levels[i].code) + ',' +
                    csvNumber(report.codebook.levels[i].value) + ',' + csvNumber(bin.lower) + ',' +
                    csvNumber(bin.upper) + ',' + QByteArray::number(static_cast<qulonglong>(report.usage[i])) + ',' +
                    csvNumber(report.error[i]) + '\n';
        }
    }
    return text;
}

} // namespace qs::gui
