#include "app/gui/views/LayersView.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

/// Of the heat map, so that its names do not run into each other.
constexpr int row_height = 17;

QString nameOf(Role role) {
    return QString::fromUtf8(to_string(role).data(), static_cast<qsizetype>(to_string(role).size())).replace('_', ' ');
}

QString shortName(Role role) {
    switch (role) {
    case Role::token_embedding:
        return QStringLiteral("emb");
    case Role::position_embedding:
        return QStringLiteral("pos");
    case Role::lm_head:
        return QStringLiteral("head");
    default:
        return QStringLiteral("other");
    }
}

bool comesBefore(Role role) {
    return role == Role::token_embedding || role == Role::position_embedding;
}

/// The sums of several tensors in one, as analysis aggregates them.
FormatResult combined(const std::vector<const FormatResult*>& parts) {
    FormatResult all = *parts.front();
    all.entropy.reset();
    for (std::size_t i = 1; i < parts.size(); ++i) {
        const FormatResult& part = *parts[i];
        all.stored_bits += part.stored_bits;
        all.elements += part.elements;
        all.sums.merge(part.sums);
        if (all.usage.size() == part.usage.size())
            std::ranges::transform(all.usage, part.usage, all.usage.begin(), std::plus<>());
        else
            all.usage.clear();
    }
    return all;
}

} // namespace

LayersView::LayersView(Session* session, QWidget* parent)
    : View(session, parent), plot_(new Plot), metric_(new QComboBox), linesChoice_(new QComboBox),
      heatChoice_(new QComboBox), caption_(new Caption) {
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 6, 8, 2);
    controls->setSpacing(8);
    buildControls(controls);
    column->addLayout(controls);
    column->addWidget(new PlotScroll(plot_), 1);
    plot_->setObjectName("layers");
    adopt(plot_);
    plot_->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });

    connect(plot_, &Plot::paneClicked, this, &LayersView::click);
    connect(plot_, &Plot::themed, this, &LayersView::applyColours);
    connect(plot_, &Plot::legendHovered, this, &LayersView::applyColours);
    connect(plot_, &Plot::legendToggled, this, [this] {
        for (const Line& line : lines_)
            line.graph->setVisible(lineOn(line.spec));
        fitValues();
    });
    connect(plot_, &Plot::scaleSwitched, this, [this](QCPAxis*, bool log) {
        logChosen_[metric().id] = log;
        fill();
    });
    for (const auto signal : {&Session::checkpointChanged, &Session::formatsChanged, &Session::resultsChanged})
        connect(session, signal, this, &LayersView::refreshLater);
    connect(session, &Session::progressChanged, this, [this, session] {
        if (!session->running() || session->model().model.empty())
            refreshLater();
    });
    for (const auto signal : {&Session::tensorSelected, &Session::formatSelected})
        connect(session, signal, this, &LayersView::refreshLater);
}

void LayersView::buildControls(QLayout* layout) {
    auto* row = static_cast<QHBoxLayout*>(layout);
    for (const Metric& metric : metrics()) {
        metric_->addItem(metric.title(), metric.id);
        metric_->setItemData(metric_->count() - 1, metric.help, Qt::ToolTipRole);
    }
    metric_->setObjectName("metric");
    metric_->setAccessibleName(tr("Metric"));
    linesChoice_->addItems({tr("lines: whole layers"), tr("lines: per role")});
    linesChoice_->setObjectName("lines");
    linesChoice_->setAccessibleName(tr("Lines"));
    heatChoice_->addItems({tr("map: format × layer"), tr("map: role × layer")});
    heatChoice_->setObjectName("heat");
    heatChoice_->setAccessibleName(tr("Heat map"));
    caption_->setOptional(true);
    row->addWidget(caption_, 1);
    row->addWidget(metric_);
    row->addWidget(linesChoice_);
    row->addWidget(heatChoice_);
    for (QComboBox* box : {metric_, linesChoice_, heatChoice_})
        connect(box, &QComboBox::currentIndexChanged, this, &LayersView::refreshLater);
}

const Metric& LayersView::metric() const {
    return gui::metric(metric_->currentData().toString());
}

// --- following the session

void LayersView::refresh() {
    if (!session()->checkpoint()) {
        showEmpty(tr("Open a checkpoint to compare the error of its layers."), tr("Open…"),
                  [this] { emit openRequested(); });
        return;
    }
    if (session()->formats().empty()) {
        showEmpty(tr("Choose formats above to compare what they do to each layer."));
        return;
    }
    if (session()->coverage().tensors.empty()) {
        showEmpty(tr("This checkpoint holds no weight matrices that can be analysed."));
        return;
    }
    const bool fresh = !heat_ || structure_.checkpoint != session()->checkpoint().get();
    if (fresh && session()->model().model.empty() && !session()->running()) {
        showEmpty(tr("Analyse the checkpoint to see the error of each layer in each format."), tr("Analyse"),
                  [this] { session()->analyse(); });
        return;
    }
    showContent();
    checkpoint_ = session()->checkpoint();
    findPlaces();
    const Structure now{checkpoint_.get(),
                        session()->formats(),
                        static_cast<Lines>(linesChoice_->currentIndex()),
                        static_cast<Heat>(heatChoice_->currentIndex()),
                        places_.size(),
                        roles_.size()};
    if (!(now == structure_)) {
        structure_ = now;
        layOut();
    }
    fill();
}

void LayersView::findPlaces() {
    places_.clear();
    roles_.clear();
    layers_ = 0;
    std::map<int, Place> layers;
    std::vector<Place> before, after;
    const auto& tensors = checkpoint_->tensors;
    for (const std::size_t index : session()->coverage().tensors) {
        const TensorInfo& info = tensors[index];
        if (info.layer) {
            Place& place = layers[*info.layer];
            place.layer = info.layer;
            place.tensors.push_back(index);
            layers_ = std::max(layers_, *info.layer + 1);
            if (std::ranges::find(roles_, info.role) == roles_.end())
                roles_.push_back(info.role);
            continue;
        }
        auto& side = comesBefore(info.role) ? before : after;
        auto place = std::ranges::find(side, std::optional(info.role), &Place::role);
        if (place == side.end())
            place = side.insert(side.end(), Place{nameOf(info.role), shortName(info.role), {}, info.role, {}});
        place->tensors.push_back(index);
    }
    std::ranges::sort(roles_);
    if (layers_ == 0) {
        int number = 0;
        for (const std::size_t index : session()->coverage().tensors)
            places_.push_back(
                {QString::fromStdString(tensors[index].name), QString::number(number++), {}, {}, {index}});
        return;
    }
    places_ = std::move(before);
    for (int layer = 0; layer < layers_; ++layer) {
        Place place = layers[layer];
        place.layer = layer;
        place.name = tr("layer %1").arg(layer);
        place.tick = QString::number(layer);
        places_.push_back(std::move(place));
    }
    places_.insert(places_.end(), after.begin(), after.end());
}

/// Where layer 0 stands among the places.
int LayersView::firstLayer() const {
    const auto found = std::ranges::find_if(places_, [](const Place& place) { return place.layer.has_value(); });
    return static_cast<int>(found - places_.begin());
}

const FormatResult* LayersView::resultAt(const FormatSpec& spec, const Place& place) const {
    const ModelReport& model = session()->model();
    const std::vector<AggregateResult>* sums = nullptr;
    if (place.layer) {
        const auto found = model.layers.find(*place.layer);
        sums = found == model.layers.end() ? nullptr : &found->second;
    } else if (place.role) {
        const auto found = model.roles.find(*place.role);
        sums = found == model.roles.end() ? nullptr : &found->second;
    } else {
        return session()->result(place.tensors.front(), spec);
    }
    if (!sums)
        return nullptr;
    const auto found = std::ranges::find(*sums, spec, &AggregateResult::spec);
    return found == sums->end() || found->tensors == 0 ? nullptr : &found->total;
}

double LayersView::value(const FormatSpec& spec, const Place& place, const Metric& metric) const {
    const FormatResult* result = resultAt(spec, place);
    return result && result->elements > 0 ? metric.value(*result) : qQNaN();
}

std::vector<std::size_t> LayersView::tensorsOf(Role role, int layer) const {
    std::vector<std::size_t> tensors;
    const auto place = static_cast<std::size_t>(firstLayer() + layer);
    if (place < places_.size())
        std::ranges::copy_if(places_[place].tensors, std::back_inserter(tensors),
                             [&](std::size_t index) { return checkpoint_->tensors[index].role == role; });
    return tensors;
}

double LayersView::roleValue(const FormatSpec& spec, Role role, int layer, const Metric& metric) const {
    std::vector<const FormatResult*> parts;
    for (const std::size_t tensor : tensorsOf(role, layer))
        if (const FormatResult* result = session()->result(tensor, spec))
            parts.push_back(result);
    return parts.empty() ? qQNaN() : metric.value(parts.size() == 1 ? *parts.front() : combined(parts));
}

// --- layout

void LayersView::layOut() {
    plot_->clearPanes();
    linePanes_.clear();
    bands_.clear();
    lines_.clear();
    if (structure_.lines == Lines::by_role && layers_ > 0)
        addRolePanes();
    else
        linePanes_.push_back(addLinePane(plot_->addPane(1), {}, true));
    plot_->plotLayout()->setRowStretchFactor(1, structure_.lines == Lines::by_role ? 2.2 : 1.5);
    scale_ = new ColourScale(plot_);
    plot_->plotLayout()->addElement(2, 0, scale_);
    addHeatPane(3);

    std::vector<LegendEntry> entries;
    for (const FormatSpec& spec : structure_.formats)
        entries.push_back({nameOf(spec), nameOf(spec), Theme::instance().format(spec)});
    plot_->keys()->setEntries(std::move(entries));
}

QCPAxisRect* LayersView::addLinePane(QCPAxisRect* pane, std::optional<Role> role, bool named) {
    QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
    pane->setMinimumSize(60, role ? 60 : 150);
    auto* band = new QCPItemRect(plot_);
    band->setLayer("grid");
    for (QCPItemPosition* position : {band->topLeft, band->bottomRight}) {
        position->setTypeX(QCPItemPosition::ptPlotCoords);
        position->setTypeY(QCPItemPosition::ptAxisRectRatio);
        position->setAxes(x, y);
        position->setAxisRect(pane);
    }
    band->setClipAxisRect(pane);
    band->setVisible(false);
    bands_.push_back(band);
    for (const FormatSpec& spec : structure_.formats) {
        auto* graph = new QCPGraph(x, y);
        graph->setName(nameOf(spec));
        lines_.push_back({spec, role, pane, graph});
    }
    plot_->setLogSwitch(y, named);
    const int last = role ? layers_ - 1 : static_cast<int>(places_.size()) - 1;
    plot_->setFixedTicker(
        x, QSharedPointer<QCPAxisTicker>(new IndexTicker(
               0, last,
               [this, role](double at, double) {
                   const auto index = static_cast<std::size_t>(at);
                   return role ? QString::number(index) : index < places_.size() ? places_[index].tick : QString();
               },
               role ? 3 : 8, role ? 0 : firstLayer())));
    plot_->setHome(x, QCPRange(-0.6, last + 0.6));
    return pane;
}

void LayersView::addRolePanes() {
    auto* grid = new QCPLayoutGrid;
    plot_->plotLayout()->addElement(1, 0, grid);
    grid->setRowSpacing(0);
    grid->setColumnSpacing(0);
    QCPMarginGroup* margins = plot_->makeMargins();
    std::vector<QCPMarginGroup*> bottoms;
    const int count = static_cast<int>(roles_.size());
    const int columns = count <= 3 ? count : count <= 8 ? (count + 1) / 2 : (count + 2) / 3;
    for (int i = 0; i < count; ++i) {
        const int row = i / columns, column = i % columns;
        auto* heading = new TextRow(plot_);
        heading->setParts({{nameOf(roles_[static_cast<std::size_t>(i)]), std::nullopt, true}});
        grid->addElement(2 * row, column, heading);
        QCPAxisRect* pane = plot_->addPane(grid, 2 * row + 1, column);
        pane->setMarginGroup(QCP::msLeft, margins);
        if (column == 0)
            bottoms.push_back(plot_->makeMargins());
        pane->setMarginGroup(QCP::msBottom, bottoms[static_cast<std::size_t>(row)]);
        linePanes_.push_back(addLinePane(pane, roles_[static_cast<std::size_t>(i)], true));
        plot_->setMostTicks(pane->axis(QCPAxis::atLeft), 5);
        if (i > 0)
            plot_->link(linePanes_.front()->axis(QCPAxis::atBottom), pane->axis(QCPAxis::atBottom));
        const bool lowest = i + columns >= count;
        pane->axis(QCPAxis::atBottom)->setTickLabels(lowest);
        if (lowest)
            plot_->nameAxis(pane->axis(QCPAxis::atBottom), tr("layer"));
    }
}

void LayersView::addHeatPane(int row) {
    heatPane_ = plot_->addPane(row);
    QCPAxis *x = heatPane_->axis(QCPAxis::atBottom), *y = heatPane_->axis(QCPAxis::atLeft);
    heat_ = new HeatMap(x, y);
    const bool byRole = structure_.heat == Heat::roles && layers_ > 0;
    const int rows = static_cast<int>(byRole ? roles_.size() : structure_.formats.size());
    const int last = byRole ? layers_ - 1 : static_cast<int>(places_.size()) - 1;
    for (QCPAxis* axis : {x, y})
        axis->grid()->setVisible(false);
    plot_->setFixedTicker(
        x, QSharedPointer<QCPAxisTicker>(new IndexTicker(
               0, last,
               [this, byRole](double at, double) {
                   const auto index = static_cast<std::size_t>(at);
                   return byRole ? QString::number(index) : index < places_.size() ? places_[index].tick : QString();
               },
               8, byRole ? 0 : firstLayer())));
    plot_->setFixedTicker(y, QSharedPointer<QCPAxisTicker>(new IndexTicker(
                                 0, rows - 1,
                                 [this, byRole](double at, double) {
                                     const auto index = static_cast<std::size_t>(at);
                                     return byRole ? nameOf(roles_[index]) : nameOf(structure_.formats[index]);
                                 },
                                 64)));
    y->setRangeReversed(true);
    y->setRange(-0.5, rows - 0.5);
    plot_->nameAxis(x, layers_ > 0 ? tr("layer") : tr("tensor"));
    heatPane_->setMinimumSize(60, row_height * rows);
    plot_->setHome(x, QCPRange(-0.6, last + 0.6));
    if (structure_.lines == Lines::together && !byRole) {
        plot_->link(linePanes_.front()->axis(QCPAxis::atBottom), x);
        linePanes_.front()->axis(QCPAxis::atBottom)->setTickLabels(false);
    } else if (structure_.lines == Lines::together) {
        plot_->nameAxis(linePanes_.front()->axis(QCPAxis::atBottom), tr("layer"));
    }
}

// --- drawing

void LayersView::fill() {
    if (lines_.empty())
        return;
    caption_->setText(layers_ > 0 && structure_.lines == Lines::together ? tr("layers weighted by element count")
                                                                         : tr("tensor by tensor"));
    fillLines();
    fillHeat();
    fitValues();
    showSelection();
    applyColours();
    const bool measured = !session()->model().model.empty();
    plot_->setNote(measured || !session()->running() ? QString() : tr("Measuring the first tensors…"));
    plot_->goHome();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

void LayersView::fillLines() {
    for (const Line& line : lines_) {
        QVector<QCPGraphData> data;
        const auto add = [&data](double key, double value) { data.append({key, std::isinf(value) ? qQNaN() : value}); };
        if (line.role) {
            for (int layer = 0; layer < layers_; ++layer)
                add(layer, roleValue(line.spec, *line.role, layer, metric()));
        } else {
            for (std::size_t i = 0; i < places_.size(); ++i) {
                // What is not a layer stands by itself.
                if (i > 0 && layers_ > 0 && !(places_[i].layer && places_[i - 1].layer))
                    data.append({static_cast<double>(i) - 0.5, qQNaN()});
                add(static_cast<double>(i), value(line.spec, places_[i], metric()));
            }
        }
        const bool few = data.size() < 200;
        line.graph->setScatterStyle(few ? QCPScatterStyle(QCPScatterStyle::ssDisc, line.role ? 3 : 5)
                                        : QCPScatterStyle());
        line.graph->data()->set(data, true);
        line.graph->setVisible(lineOn(line.spec));
    }
}

void LayersView::fillHeat() {
    std::vector<std::vector<double>> values;
    const bool byRole = structure_.heat == Heat::roles && layers_ > 0;
    const auto selected = session()->selectedSpec();
    if (byRole) {
        for (const Role role : roles_) {
            auto& row = values.emplace_back();
            for (int layer = 0; layer < layers_; ++layer)
                row.push_back(selected ? roleValue(*selected, role, layer, metric()) : qQNaN());
        }
    } else {
        for (const FormatSpec& spec : structure_.formats) {
            auto& row = values.emplace_back();
            for (const Place& place : places_)
                row.push_back(value(spec, place, metric()));
        }
    }
    heat_->setValues(values, false);
    const auto range = heat_->range();
    const bool log = metric().logarithmic && range && range->second > 0 &&
                     (range->first <= 0 || range->second / range->first >= 100);
    if (log)
        heat_->setValues(std::move(values), true);
    const auto shown = heat_->range();
    QString name = metric().title();
    if (byRole && selected)
        name = tr("%1 of %2").arg(name, nameOf(*selected));
    if (log)
        name += tr(", logarithmic");
    scale_->setRange(name, shown ? significant(shown->first) : QString(),
                     shown ? significant(shown->second) : QString());
}

/// All small plots share one range, so that roles can be compared.
void LayersView::fitValues() {
    std::optional<QCPRange> range, positive;
    for (const Line& line : lines_) {
        if (!line.graph->visible())
            continue;
        for (const QCPGraphData& point : *line.graph->data()) {
            if (!std::isfinite(point.value))
                continue;
            const QCPRange here(point.value, point.value);
            range = range ? range->expanded(here) : here;
            if (point.value > 0)
                positive = positive ? positive->expanded(here) : here;
        }
    }
    const bool spans = metric().logarithmic && positive && positive->upper / positive->lower >= 100;
    const auto chosen = logChosen_.find(metric().id);
    const bool log = positive && (chosen == logChosen_.end() ? spans : chosen->second);
    for (QCPAxisRect* pane : linePanes_) {
        QCPAxis* y = pane->axis(QCPAxis::atLeft);
        const QString name = metric().name;
        const bool first = pane->axis(QCPAxis::atLeft) == linePanes_.front()->axis(QCPAxis::atLeft);
        plot_->nameAxis(y, first || linePanes_.size() == 1 ? name : QString(),
                        first || linePanes_.size() == 1 ? metric().unit : QString());
        plot_->setLogSwitch(y, first && positive.has_value());
        plot_->setLog(y, log);
        if (log) {
            const double margin = std::max(1.15, std::pow(positive->upper / positive->lower, 0.07));
            y->setRange(positive->lower / margin, positive->upper * margin);
        } else if (range) {
            const double size = range->size() > 0 ? range->size() : std::max(std::abs(range->upper), 1e-12);
            y->setRange(range->lower - 0.08 * size, range->upper + 0.08 * size);
        }
    }
}

bool LayersView::lineOn(const FormatSpec& spec) const {
    return plot_->keys()->isOn(nameOf(spec));
}

void LayersView::applyColours() {
    const Theme& theme = Theme::instance();
    const QString hovered = plot_->keys()->hovered();
    const auto selected = session()->selectedSpec();
    constexpr std::ptrdiff_t most_prominent = 6;
    std::vector<LegendEntry> entries;
    for (const FormatSpec& spec : structure_.formats) {
        const bool exact = std::ranges::none_of(lines_, [&](const Line& line) {
            return line.spec == spec && std::ranges::any_of(*line.graph->data(), [](const QCPGraphData& point) {
                       return std::isfinite(point.value);
                   });
        });
        const bool measured = std::ranges::any_of(places_, [&](const Place& place) { return resultAt(spec, place); });
        QString name = nameOf(spec);
        if (exact && measured)
            name += std::isinf(value(spec, places_.front(), metric())) ? tr(" (exact: no error)") : tr(" (no value)");
        entries.push_back({nameOf(spec), name, theme.format(spec), LegendEntry::Mark::line, true, spec == selected});
    }
    plot_->keys()->setEntries(std::move(entries));
    for (const Line& line : lines_) {
        const auto index = std::ranges::find(structure_.formats, line.spec) - structure_.formats.begin();
        const bool raised = line.spec == selected || hovered == nameOf(line.spec);
        QColor colour = theme.format(line.spec);
        if (index >= most_prominent && !raised)
            colour.setAlphaF(0.3F);
        line.graph->setPen(QPen(colour, raised ? 2.2 : 1.5));
    }
    for (QCPItemRect* band : bands_) {
        QColor colour = theme.accent();
        colour.setAlphaF(0.13F);
        band->setBrush(colour);
        band->setPen(Qt::NoPen);
    }
}

std::optional<std::size_t> LayersView::placeOf(std::size_t tensor) const {
    for (std::size_t i = 0; i < places_.size(); ++i)
        if (std::ranges::find(places_[i].tensors, tensor) != places_[i].tensors.end())
            return i;
    return std::nullopt;
}

void LayersView::showSelection() {
    const auto tensor = session()->selectedTensor();
    std::optional<std::size_t> place;
    std::optional<Role> role;
    if (tensor) {
        place = placeOf(*tensor);
        role = checkpoint_->tensors[*tensor].role;
    }
    for (std::size_t i = 0; i < bands_.size(); ++i) {
        const auto paneRole = roleOf(linePanes_[i]);
        const bool shown = place && (!paneRole || (paneRole == role && places_[*place].layer));
        bands_[i]->setVisible(shown);
        if (!shown)
            continue;
        const double at = paneRole ? *places_[*place].layer : static_cast<double>(*place);
        bands_[i]->topLeft->setCoords(at - 0.5, 0);
        bands_[i]->bottomRight->setCoords(at + 0.5, 1);
    }
    std::optional<HeatMap::Cell> marked;
    if (place && structure_.heat == Heat::roles && places_[*place].layer) {
        const auto found = std::ranges::find(roles_, *role);
        if (found != roles_.end())
            marked = HeatMap::Cell{static_cast<int>(found - roles_.begin()), *places_[*place].layer};
    } else if (place && structure_.heat == Heat::formats) {
        marked = HeatMap::Cell{static_cast<int>(session()->selectedFormat()), static_cast<int>(*place)};
    }
    heat_->setMarked(marked);
}

std::optional<Role> LayersView::roleOf(const QCPAxisRect* pane) const {
    const auto found = std::ranges::find(lines_, pane, &Line::pane);
    return found == lines_.end() ? std::nullopt : found->role;
}

// --- selecting and reading off

void LayersView::select(const std::vector<std::size_t>& tensors, std::optional<FormatSpec> spec) {
    if (spec)
        selectFormat(*spec);
    if (tensors.empty())
        return;
    // In another layer the same role as before, if it is there.
    auto chosen = tensors.front();
    if (const auto now = session()->selectedTensor())
        for (const std::size_t tensor : tensors)
            if (checkpoint_->tensors[tensor].role == checkpoint_->tensors[*now].role) {
                chosen = tensor;
                break;
            }
    session()->selectTensor(chosen);
}

void LayersView::click(QCPAxisRect* pane, QPointF position) {
    const int at = static_cast<int>(std::lround(position.x()));
    if (pane == heatPane_) {
        const int row = static_cast<int>(std::lround(position.y()));
        const bool byRole = structure_.heat == Heat::roles && layers_ > 0;
        if (byRole && row >= 0 && row < static_cast<int>(roles_.size()) && at >= 0 && at < layers_)
            select(tensorsOf(roles_[static_cast<std::size_t>(row)], at), {});
        else if (!byRole && row >= 0 && row < static_cast<int>(structure_.formats.size()) && at >= 0 &&
                 at < static_cast<int>(places_.size()))
            select(places_[static_cast<std::size_t>(at)].tensors, structure_.formats[static_cast<std::size_t>(row)]);
        return;
    }
    // The line nearest to the click at that place, within a few pixels, is selected with it.
    constexpr double near = 12;
    std::optional<FormatSpec> spec;
    double nearest = near;
    for (const Line& line : lines_) {
        if (line.pane != pane || !line.graph->visible())
            continue;
        const auto point = line.graph->data()->findBegin(at, false);
        if (point == line.graph->data()->constEnd() || point->key != at || !std::isfinite(point->value))
            continue;
        const QCPAxis* y = pane->axis(QCPAxis::atLeft);
        const double distance = std::abs(y->coordToPixel(point->value) - y->coordToPixel(position.y()));
        if (distance < nearest) {
            nearest = distance;
            spec = line.spec;
        }
    }
    if (const auto role = roleOf(pane)) {
        if (at >= 0 && at < layers_)
            select(tensorsOf(*role, at), spec);
    } else if (at >= 0 && at < static_cast<int>(places_.size())) {
        select(places_[static_cast<std::size_t>(at)].tensors, spec);
    }
}

QString LayersView::valueText(double value) const {
    if (std::isnan(value))
        return tr("not quantized");
    if (std::isinf(value))
        return tr("∞ (exact)");
    return metric().unit.isEmpty() ? significant(value) : significant(value) + thin_space + metric().unit;
}

std::optional<ReadoutText> LayersView::readoutAt(QCPAxisRect* pane, QPointF position) const {
    ReadoutText text;
    const Theme& theme = Theme::instance();
    const auto tensorsLine = [this](const std::vector<std::size_t>& tensors) {
        return tensors.size() == 1 ? QString::fromStdString(checkpoint_->tensors[tensors.front()].name)
                                   : tr("%1 tensors together").arg(tensors.size());
    };
    if (pane == heatPane_) {
        const auto cell = heat_->cellAt(position);
        if (!cell)
            return std::nullopt;
        const bool byRole = structure_.heat == Heat::roles && layers_ > 0;
        const auto row = static_cast<std::size_t>(cell->row), column = static_cast<std::size_t>(cell->column);
        text.hairLine = false;
        if (byRole) {
            const auto tensors = tensorsOf(roles_[row], cell->column);
            text.title = tr("layer %1 · %2").arg(column).arg(nameOf(roles_[row]));
            text.note = tensors.empty() ? QString() : tensorsLine(tensors);
        } else {
            text.title = places_[column].name + QStringLiteral(" · ") + nameOf(structure_.formats[row]);
            text.note = tensorsLine(places_[column].tensors);
        }
        text.rows.push_back({std::nullopt, metric().name, valueText(heat_->value(*cell))});
        return text;
    }
    const auto role = roleOf(pane);
    const int at = static_cast<int>(std::lround(pane->axis(QCPAxis::atBottom)->pixelToCoord(position.x())));
    if (at < 0 || at >= (role ? layers_ : static_cast<int>(places_.size())))
        return std::nullopt;
    const Place& place = places_[static_cast<std::size_t>(role ? firstLayer() + at : at)];
    text.title = role ? place.name + QStringLiteral(" · ") + nameOf(*role) : place.name;
    text.title += QStringLiteral(" · ") + metric().name;
    text.hairPixel = pane->axis(QCPAxis::atBottom)->coordToPixel(at);
    for (const FormatSpec& spec : structure_.formats)
        if (lineOn(spec))
            text.rows.push_back(
                {theme.format(spec), nameOf(spec),
                 valueText(role ? roleValue(spec, *role, at, metric()) : value(spec, place, metric()))});
    const auto tensors = role ? tensorsOf(*role, at) : place.tensors;
    text.note = tensors.empty() ? QString() : tensorsLine(tensors);
    return text;
}

QByteArray LayersView::csv() const {
    QByteArray text = "place,layer,role,format";
    for (const Metric& metric : metrics())
        text += ',' + metric.id.toUtf8();
    text += '\n';
    const auto line = [&](const QString& place, const QByteArray& layer, const QString& role, const FormatSpec& spec,
                          auto valueOf) {
        text += csvText(place) + ',' + layer + ',' + csvText(role) + ',' + csvText(nameOf(spec));
        for (const Metric& metric : metrics())
            text += ',' + csvNumber(valueOf(metric));
        text += '\n';
    };
    for (const FormatSpec& spec : structure_.formats) {
        for (const Place& place : places_)
            line(place.name, place.layer ? QByteArray::number(*place.layer) : QByteArray(), {}, spec,
                 [&](const Metric& metric) { return value(spec, place, metric); });
        for (const Role role : roles_)
            for (int layer = 0; layer < layers_; ++layer)
                if (!tensorsOf(role, layer).empty())
                    line(tr("layer %1").arg(layer), QByteArray::number(layer), nameOf(role), spec,
                         [&](const Metric& metric) { return roleValue(spec, role, layer, metric); });
    }
    return text;
}

} // namespace qs::gui
