#include "app/gui/views/QualityLayers.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

/// Lines before the rest is muted.
constexpr std::size_t most_prominent = 6;

QString roleName(Role role) {
    return QString::fromUtf8(to_string(role).data(), static_cast<qsizetype>(to_string(role).size())).replace('_', ' ');
}

} // namespace

QualityLayers::QualityLayers(Session* session, const QualityData& data, QWidget* parent)
    : QualityPage(session, data, parent), role_(new QComboBox) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 4, 8, 2);
    controls->setSpacing(8);
    role_->setObjectName("linearRole");
    role_->setAccessibleName(tr("Linear layers"));
    auto* label = new QLabel(tr("L&inear layers"));
    label->setBuddy(role_);
    controls->addWidget(label);
    controls->addWidget(role_);
    controls->addStretch();
    column->addLayout(controls);
    plot()->setObjectName("qualityLayers");
    column->addWidget(new PlotScroll(plot()), 1);
    plot()->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });
    connect(role_, &QComboBox::activated, this, [this] {
        laidOut_ = nullptr;
        fill();
    });
    connect(plot(), &Plot::scaleSwitched, this, [this](QCPAxis* axis, bool log) {
        logChosen_[axis->axisRect()] = log;
        fill();
    });
    connect(plot(), &Plot::legendHovered, this, &QualityLayers::fill);
    connect(plot(), &Plot::legendToggled, this, &QualityLayers::fill);
    connect(plot(), &Plot::paneClicked, this, [this](QCPAxisRect*, QPointF position) {
        if (const auto place = placeAt(position.x()))
            this->session()->selectTensor(places_[*place].tensor);
    });
}

void QualityLayers::findPlaces() {
    std::vector<Role> roles;
    for (const LinearTensor& linear : data().model->linears)
        if (std::ranges::find(roles, linear.role) == roles.end())
            roles.push_back(linear.role);
    if (role_->count() != static_cast<int>(roles.size()) + 1) {
        role_->clear();
        role_->addItem(tr("all, in the order of use"));
        for (const Role role : roles)
            role_->addItem(roleName(role), static_cast<int>(role));
    }
    places_.clear();
    const QVariant chosen = role_->currentData();
    for (const LinearTensor& linear : data().model->linears)
        if (!chosen.isValid() || static_cast<int>(linear.role) == chosen.toInt())
            places_.push_back(linear);
}

void QualityLayers::layOut() {
    laidOut_ = data().model.get();
    laidOutVariants_ = data().variants;
    findPlaces();
    plot()->clearPanes();
    lines_.clear();
    bands_.clear();
    logChosen_.clear();
    outputPane_ = plot()->addPane(1);
    weightPane_ = plot()->addPane(2);
    const int last = static_cast<int>(places_.size()) - 1;
    // A tick where a layer begins.
    const int stride = role_->currentIndex() > 0 || places_.empty()
                           ? 1
                           : static_cast<int>(std::ranges::count(places_, places_.front().layer, &LinearTensor::layer));
    for (QCPAxisRect* pane : {outputPane_, weightPane_}) {
        QCPAxis* x = pane->axis(QCPAxis::atBottom);
        pane->setMinimumSize(60, 130);
        auto* band = new QCPItemRect(plot());
        band->setLayer("grid");
        for (QCPItemPosition* position : {band->topLeft, band->bottomRight}) {
            position->setTypeX(QCPItemPosition::ptPlotCoords);
            position->setTypeY(QCPItemPosition::ptAxisRectRatio);
            position->setAxes(x, pane->axis(QCPAxis::atLeft));
            position->setAxisRect(pane);
        }
        band->setClipAxisRect(pane);
        bands_.push_back(band);
        auto ticker = QSharedPointer<QCPAxisTickerText>(new QCPAxisTickerText);
        const int layers = (last + stride) / stride, step = std::max(1, (layers + 7) / 8);
        for (int layer = 0; layer < layers; layer += step)
            ticker->addTick(layer * stride, QString::number(places_[static_cast<std::size_t>(layer * stride)].layer));
        plot()->setFixedTicker(x, ticker);
        plot()->setHome(x, QCPRange(-0.6, last + 0.6));
        plot()->setLogSwitch(pane->axis(QCPAxis::atLeft), true);
    }
    plot()->nameAxis(outputPane_->axis(QCPAxis::atLeft), tr("output error |ŷ−y| / |y|"));
    plot()->nameAxis(weightPane_->axis(QCPAxis::atLeft), tr("weight error |W−V| / |W|"));
    plot()->nameAxis(weightPane_->axis(QCPAxis::atBottom), tr("layer"));
    outputPane_->axis(QCPAxis::atBottom)->setTickLabels(false);
    plot()->link(outputPane_->axis(QCPAxis::atBottom), weightPane_->axis(QCPAxis::atBottom));
    for (const Variant& variant : data().variants) {
        const auto graph = [&](QCPAxisRect* pane) {
            auto* made = new QCPGraph(pane->axis(QCPAxis::atBottom), pane->axis(QCPAxis::atLeft));
            made->setName(labelOf(variant));
            return made;
        };
        lines_.push_back({variant, graph(outputPane_), graph(weightPane_)});
    }
}

double QualityLayers::outputError(const Variant& variant, const LinearTensor& place) const {
    const VariantResult* result = data().result(variant);
    if (!result)
        return qQNaN();
    const auto found = result->linears.find(place.name);
    return found == result->linears.end() || found->second.output2 == 0 ? qQNaN() : found->second.relative_error();
}

double QualityLayers::weightError(const Variant& variant, const LinearTensor& place) const {
    const VariantResult* result = data().result(variant);
    if (!result)
        return qQNaN();
    const auto found = result->linears.find(place.name);
    return found == result->linears.end() || found->second.weight2 == 0 ? qQNaN()
                                                                        : found->second.relative_weight_error();
}

void QualityLayers::fill() {
    if (!data().model)
        return;
    if (laidOut_ != data().model.get() || laidOutVariants_ != data().variants)
        layOut();
    fillLines();
    fitValues();
    showSelection();
    plot()->setEmpty(data().results.empty()
                         ? whatToDo(tr("Evaluate to see the error of each layer's output on the text."))
                         : QString());
    plot()->goHome();
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

void QualityLayers::fillLines() {
    std::vector<LegendEntry> entries;
    const QString hovered = plot()->keys()->hovered();
    // Of several methods the selected format's are compared.
    const bool crowded = lines_.size() > most_prominent && lines_.size() > session()->formats().size();
    for (const Line& line : lines_) {
        const QString key = labelOf(line.variant);
        QColor colour = Theme::instance().format(line.variant.format);
        const bool strong = selected(line.variant);
        entries.push_back({key, key, colour, LegendEntry::Mark::line, true, strong, lineOf(line.variant)});
        const bool raised = strong || hovered == key;
        if ((entries.size() > most_prominent || crowded) && !raised)
            colour.setAlphaF(0.3F);
        for (QCPGraph* graph : {line.output, line.weight}) {
            QVector<QCPGraphData> points;
            for (std::size_t i = 0; i < places_.size(); ++i)
                points.append({static_cast<double>(i), graph == line.output ? outputError(line.variant, places_[i])
                                                                            : weightError(line.variant, places_[i])});
            graph->data()->set(points, true);
            graph->setPen(QPen(colour, raised ? 2.2 : 1.5, lineOf(line.variant)));
            graph->setScatterStyle(points.size() < 200
                                       ? QCPScatterStyle(shapeOf(line.variant), QPen(colour, 1.2), QBrush(colour), 5)
                                       : QCPScatterStyle());
            graph->setVisible(plot()->keys()->isOn(key));
        }
    }
    plot()->keys()->setEntries(std::move(entries));
}

/// Both axes hug their data; a format that loses nothing is not on a logarithmic one.
void QualityLayers::fitValues() {
    for (QCPAxisRect* pane : {outputPane_, weightPane_}) {
        std::optional<QCPRange> positive;
        for (const QCPGraph* graph : pane->graphs())
            for (const QCPGraphData& point : *graph->data())
                if (graph->visible() && point.value > 0)
                    positive = positive ? positive->expanded(QCPRange(point.value, point.value))
                                        : QCPRange(point.value, point.value);
        QCPAxis* y = pane->axis(QCPAxis::atLeft);
        const auto chosen = logChosen_.find(pane);
        const bool spans = positive && positive->upper / positive->lower >= 100;
        const bool log = positive && (chosen == logChosen_.end() ? spans : chosen->second);
        plot()->setLog(y, log);
        if (log) {
            const double margin = std::max(1.15, std::pow(positive->upper / positive->lower, 0.07));
            y->setRange(positive->lower / margin, positive->upper * margin);
        } else {
            y->setRange(0, positive ? 1.08 * positive->upper : 1);
        }
    }
}

void QualityLayers::showSelection() {
    const auto tensor = session()->selectedTensor();
    const auto found = tensor ? std::ranges::find(places_, *tensor, &LinearTensor::tensor) : places_.end();
    QColor colour = Theme::instance().accent();
    colour.setAlphaF(0.13F);
    for (QCPItemRect* band : bands_) {
        band->setVisible(found != places_.end());
        band->setBrush(colour);
        band->setPen(Qt::NoPen);
        const auto at = static_cast<double>(found - places_.begin());
        band->topLeft->setCoords(at - 0.5, 0);
        band->bottomRight->setCoords(at + 0.5, 1);
    }
}

std::optional<std::size_t> QualityLayers::placeAt(double key) const {
    const auto place = std::lround(key);
    return place >= 0 && place < static_cast<long>(places_.size()) ? std::optional(static_cast<std::size_t>(place))
                                                                   : std::nullopt;
}

std::optional<ReadoutText> QualityLayers::readoutAt(QCPAxisRect* pane, QPointF position) const {
    const QCPAxis* x = pane->axis(QCPAxis::atBottom);
    const auto place = placeAt(x->pixelToCoord(position.x()));
    if (!place)
        return std::nullopt;
    const LinearTensor& linear = places_[*place];
    ReadoutText text;
    text.title = QString::fromStdString(linear.name);
    text.hairPixel = x->coordToPixel(static_cast<double>(*place));
    for (const Line& line : lines_)
        if (line.output->visible()) {
            const double output = outputError(line.variant, linear), weight = weightError(line.variant, linear);
            text.rows.push_back({Theme::instance().format(line.variant.format), nameOf(line.variant),
                                 tr("output %1, weight %2")
                                     .arg(std::isnan(output) ? QStringLiteral("–") : significant(output),
                                          std::isnan(weight) ? QStringLiteral("–") : significant(weight))});
        }
    return text;
}

QByteArray QualityLayers::csv() const {
    QByteArray csv = "tensor,role,layer,format,method,output_error,weight_error\n";
    for (const LinearTensor& place : places_)
        for (const Variant& variant : data().variants)
            csv += csvText(QString::fromStdString(place.name)) + ',' + csvText(roleName(place.role)) + ',' +
                   QByteArray::number(place.layer) + ',' + csvText(QString::fromStdString(variant.format.text())) +
                   ',' + csvText(QString::fromStdString(variant.method_text())) + ',' +
                   csvNumber(outputError(variant, place)) + ',' + csvNumber(weightError(variant, place)) + '\n';
    return csv;
}

} // namespace qs::gui
