#include "app/gui/views/QualityScores.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QTableWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"
#include "app/gui/views/View.h"
#include "core/analysis/pareto.h"

namespace qs::gui {

namespace {

constexpr int row_height = 17;
constexpr int least_table_height = 110;
constexpr int text_columns = 2;
constexpr int widest_column = 170;
/// Points that all have their names beside them; of more only those that say most.
constexpr std::size_t most_named = 10;
constexpr int digits = 4;
constexpr int perplexity_digits = 5; ///< formats often differ in the fourth

QString withError(double value, double error) {
    return significant(value, perplexity_digits) + QStringLiteral(" ± ") + significant(error, 2);
}
QString inPercent(double value) {
    return significant(100 * value, 4);
}

QString textOf(const ScoreMetric& metric, double value) {
    if (metric.id == "top1_agreement")
        return inPercent(value);
    return significant(value, metric.id == "perplexity" ? perplexity_digits : digits);
}

/// Of the metric where less is better; its negative where more is.
double cost(const ScoreMetric& metric, const ScoreSummary& scores) {
    return metric.id == "top1_agreement" ? -metric.value(scores) : metric.value(scores);
}

/// How inputs are rounded, behind the method's name, where they are.
QString inputsOf(const Variant& variant) {
    return variant.activations == Activations::none
               ? QString()
               : QObject::tr(", inputs %1").arg(QString::fromStdString(to_string(variant.activations)));
}

constexpr int variant_role = Qt::UserRole, value_role = Qt::UserRole + 1;

/// Sorted by its number where it has one; cells without come last.
class NumberItem : public QTableWidgetItem {
public:
    using QTableWidgetItem::QTableWidgetItem;
    bool operator<(const QTableWidgetItem& other) const override {
        const QVariant own = data(value_role), others = other.data(value_role);
        if (own.isValid() && others.isValid())
            return own.toDouble() < others.toDouble();
        return own.isValid() != others.isValid() ? own.isValid() : text() < other.text();
    }
};

} // namespace

QualityScores::QualityScores(Session* session, const QualityData& data, QWidget* parent)
    : QualityPage(session, data, parent), metric_(new QComboBox), table_(new QTableWidget) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    auto* controls = new QHBoxLayout;
    controls->setContentsMargins(8, 4, 8, 2);
    controls->setSpacing(8);
    for (const ScoreMetric& metric : scoreMetrics()) {
        metric_->addItem(metric.title(), metric.id);
        metric_->setItemData(metric_->count() - 1, metric.help, Qt::ToolTipRole);
    }
    metric_->setObjectName("scoreMetric");
    metric_->setAccessibleName(tr("Measure"));
    auto* label = new QLabel(tr("Mea&sure"));
    label->setBuddy(metric_);
    controls->addWidget(label);
    controls->addWidget(metric_);
    controls->addStretch();
    column->addLayout(controls);
    buildPlot();
    column->addWidget(new PlotScroll(plot()), 1);
    buildTable();
    column->addWidget(table_);
    leftOut_ = new Caption;
    leftOut_->setObjectName("leftOut");
    leftOut_->setContentsMargins(8, 0, 8, 0);
    column->addWidget(leftOut_);
    connect(metric_, &QComboBox::currentIndexChanged, this, [this] {
        plot()->goHome(true);
        fill();
    });
}

const ScoreMetric& QualityScores::metric() const {
    return scoreMetrics()[static_cast<std::size_t>(metric_->currentIndex())];
}

void QualityScores::buildPlot() {
    plot()->setObjectName("qualityScores");
    barPane_ = plot()->addPane(1);
    pointPane_ = plot()->addPane(2);
    bars_ = new DeviationBars(barPane_->axis(QCPAxis::atBottom), barPane_->axis(QCPAxis::atLeft));
    points_ = new LabelledPoints(pointPane_->axis(QCPAxis::atBottom), pointPane_->axis(QCPAxis::atLeft));
    level_ = new QCPItemStraightLine(plot());
    for (QCPItemPosition* position : {level_->point1, level_->point2})
        position->setAxes(pointPane_->axis(QCPAxis::atBottom), pointPane_->axis(QCPAxis::atLeft));
    level_->setClipAxisRect(pointPane_);
    QCPAxis* rows = barPane_->axis(QCPAxis::atLeft);
    rows->grid()->setVisible(false);
    pointPane_->setMinimumSize(60, 150);
    plot()->nameAxis(pointPane_->axis(QCPAxis::atBottom), tr("bits per weight"));
    plot()->plotLayout()->setRowStretchFactor(2, 1.5);
    plot()->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });
    connect(plot(), &Plot::scaleSwitched, this, [this](QCPAxis*, bool log) {
        logChosen_[metric().id] = log;
        plot()->goHome(true);
        fill();
    });
    connect(plot(), &Plot::paneClicked, this, [this](QCPAxisRect* pane, QPointF position) {
        if (pane == barPane_) {
            if (const auto row = bars_->barAt(position.y()))
                emit formatPicked(data().variants[*row].format);
        } else if (const auto point = points_->pointAt(points_->coordsToPixels(position.x(), position.y()))) {
            emit formatPicked(shown_[*point].format);
        }
    });
}

void QualityScores::buildTable() {
    table_->setObjectName("qualityTable");
    table_->setAccessibleName(tr("Scores of each format"));
    QStringList names{tr("Format"), tr("Method"), tr("Bits/weight")},
        tips{tr("Formats chosen above"), tr("How the codes were chosen"),
             tr("True bits per weight of the quantized matrices")};
    for (const ScoreMetric& metric : scoreMetrics()) {
        names += metric.id == "top1_agreement" ? tr("Top-1 (%)") : metric.name;
        tips += metric.help;
    }
    names += tr("Seconds");
    tips += tr("That quantizing took, with all that calibrates");
    setUpTable(table_, names, tips, text_columns);
    table_->horizontalHeader()->setMaximumSectionSize(widest_column);
    table_->setSortingEnabled(true);
    table_->horizontalHeader()->setSortIndicatorClearable(true);
    table_->horizontalHeader()->setSortIndicator(-1, Qt::AscendingOrder);
    connect(table_->horizontalHeader(), &QHeaderView::sortIndicatorChanged, this, [this](int section) {
        if (section < 0)
            fillTable(); // back in their own order
    });
    connect(table_, &QTableWidget::cellActivated, this, [this](int row, int) { pickRow(row); });
    connect(table_, &QTableWidget::cellClicked, this, [this](int row, int) { pickRow(row); });
}

void QualityScores::pickRow(int row) {
    const int variant = table_->item(row, 0)->data(variant_role).toInt();
    if (variant >= 0 && variant < static_cast<int>(data().variants.size()))
        emit formatPicked(data().variants[static_cast<std::size_t>(variant)].format);
}

// --- drawing

QString QualityScores::text(double value) const {
    const QString number = textOf(metric(), value);
    return metric().id == "top1_agreement" ? number + thin_space + '%' : number;
}

void QualityScores::fill() {
    fillPoints();
    fillBars();
    fitRanges();
    fillTable();
    plot()->setEmpty(data().results.empty()
                         ? whatToDo(tr("Evaluate to see what each format does to the model's predictions."))
                         : QString());
    table_->setVisible(!data().results.empty());
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

void QualityScores::fillBars() {
    std::vector<DeviationBars::Bar> bars;
    const bool many = data().variants.size() > session()->formats().size(); // methods of a format
    for (std::size_t i = 0; i < data().variants.size(); ++i) {
        const Variant& variant = data().variants[i];
        DeviationBars::Bar bar;
        bar.begins = many && beginsFormat(i);
        bar.colour = Theme::instance().format(variant.format);
        bar.strong = selected(variant);
        if (const VariantResult* result = data().result(variant)) {
            bar.value = metric().value(result->scores);
            bar.error = metric().error ? metric().error(result->scores) : 0;
            bar.label = text(bar.value);
        }
        bars.push_back(std::move(bar));
    }
    bars_->setBars(std::move(bars));
    const bool known = data().reference.tokens > 0;
    const double original = metric().ideal.value_or(metric().value(data().reference));
    bars_->setBase(original);
    const bool line = known && !metric().ideal;
    bars_->setLine(line ? std::optional(DeviationBars::Line{original, metric().error(data().reference), {}})
                        : std::nullopt);
    std::vector<LegendEntry> entries;
    if (line)
        entries.push_back({"original", tr("unquantized: %1").arg(text(original)), Theme::instance().original(),
                           LegendEntry::Mark::line, false, false, Qt::DashLine});
    if (metric().error && !data().results.empty())
        entries.push_back({"error", tr("± standard error"), Theme::instance().text(), LegendEntry::Mark::tick, false});
    addMethods(entries);
    plot()->keys()->setEntries(std::move(entries));

    setVariantRows(barPane_, row_height);
    level_->setVisible(line);
    level_->point1->setCoords(0, original);
    level_->point2->setCoords(1, original);
    level_->setPen(QPen(Theme::instance().original(), 1.5, Qt::DashLine));
}

/// What the marks of the points stand for.
void QualityScores::addMethods(std::vector<LegendEntry>& entries) const {
    std::vector<QString> methods;
    for (const Variant& variant : data().variants) {
        if (!data().result(variant))
            continue;
        const QString name = variant.trained ? tr("qat") : QString::fromStdString(variant.method.id);
        if (std::ranges::find(methods, name) != methods.end())
            continue;
        methods.push_back(name);
        entries.push_back({"method " + name, name, Theme::instance().text(), LegendEntry::Mark::shape, false, false,
                           Qt::SolidLine, shapeOf(variant)});
    }
    if (points_->front().size() > 1)
        entries.push_back(
            {"front", tr("best at its size"), Theme::instance().mutedText(), LegendEntry::Mark::line, false});
}

void QualityScores::fillPoints() {
    std::vector<LabelledPoints::Point> points;
    std::vector<Costs> costs;
    shown_.clear();
    for (const Variant& variant : data().variants)
        if (const VariantResult* result = data().result(variant)) {
            points.push_back({result->bits_per_weight, metric().value(result->scores),
                              metric().error ? metric().error(result->scores) : 0, labelOf(variant),
                              Theme::instance().format(variant.format), shapeOf(variant), selected(variant)});
            costs.push_back({result->bits_per_weight, cost(metric(), result->scores)});
            shown_.push_back(variant);
        }
    std::vector<std::size_t> front = pareto_front(costs);
    if (points.size() > most_named)
        for (std::size_t i = 0; i < points.size(); ++i)
            if (!points[i].strong && std::ranges::find(front, i) == front.end())
                points[i].name.clear();
    points_->setPoints(std::move(points));
    points_->setFront(std::move(front));
}

void QualityScores::fitRanges() {
    double least = 0, most = 0;
    for (const DeviationBars::Bar& bar : bars_->bars())
        if (bar.value > 0) {
            least = least > 0 ? std::min(least, bar.value) : bar.value;
            most = std::max(most, bar.value);
        }
    const auto chosen = logChosen_.find(metric().id);
    const bool spans = metric().logarithmic && least > 0 && most / least >= 100;
    const bool log = least > 0 && (chosen == logChosen_.end() ? spans : chosen->second);
    QCPAxis *along = barPane_->axis(QCPAxis::atBottom), *y = pointPane_->axis(QCPAxis::atLeft);
    const bool share = metric().id == "top1_agreement";
    for (QCPAxis* axis : {along, y}) {
        plot()->nameAxis(axis, metric().name, share ? QStringLiteral("%") : metric().unit);
        plot()->setTickText(axis, [share](double value, double step) {
            return share ? plainTick(100 * value, 100 * step) : plainTick(value, step);
        });
        plot()->setLogSwitch(axis, !share && least > 0);
        plot()->setLog(axis, log);
    }
    plot()->setHome(along, bars_->shown(log, 0.2));
    y->setRange(bars_->shown(log, 0.12));
    if (!log && bars_->shown(false, 0.12).lower == 0)
        y->setRangeLower(-0.06 * y->range().upper); // so that points at 0 are whole
    double narrow = 0, wide = 0;
    for (const LabelledPoints::Point& point : points_->points()) {
        narrow = narrow > 0 ? std::min(narrow, point.key) : point.key;
        wide = std::max(wide, point.key);
    }
    const double margin = std::max(0.15 * (wide - narrow), 0.5);
    plot()->setHome(pointPane_->axis(QCPAxis::atBottom),
                    wide > 0 ? QCPRange(std::max(0.0, narrow - margin), wide + margin) : QCPRange(0, 16));
    plot()->goHome();
}

void QualityScores::setRow(int row, const std::vector<Cell>& cells, int variant) {
    for (int column = 0; column < table_->columnCount(); ++column) {
        const Cell cell = column < static_cast<int>(cells.size()) ? cells[static_cast<std::size_t>(column)] : Cell();
        auto* item = new NumberItem(cell.text);
        item->setToolTip(cell.tip);
        item->setTextAlignment((column < text_columns ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
        item->setData(variant_role, variant);
        if (!std::isnan(cell.value))
            item->setData(value_role, cell.value);
        table_->setItem(row, column, item);
    }
}

/// Of the unquantized model only what it has by itself.
std::vector<QualityScores::Cell> QualityScores::cellsOf(const ScoreSummary& scores, bool reference) const {
    std::vector<Cell> cells;
    for (const ScoreMetric& metric : scoreMetrics()) {
        if (reference && metric.ideal) {
            cells.emplace_back();
            continue;
        }
        const double value = metric.value(scores), error = metric.error ? metric.error(scores) : qQNaN();
        cells.push_back({metric.id == "perplexity" ? withError(value, error) : textOf(metric, value),
                         metric.error ? full(value) + QStringLiteral(" ± ") + full(error) : full(value), value});
    }
    return cells;
}

std::vector<QualityScores::Cell> QualityScores::cellsOf(const Variant& variant) const {
    const QString method = QString::fromStdString(variant.method_text()) + inputsOf(variant);
    std::vector<Cell> cells{{nameOf(variant.format), nameOf(variant.format), qQNaN()}, {method, method, qQNaN()}};
    const VariantResult* result = data().result(variant);
    if (!result)
        return cells;
    cells.push_back({significant(result->bits_per_weight, 4), full(result->bits_per_weight), result->bits_per_weight});
    std::ranges::move(cellsOf(result->scores, false), std::back_inserter(cells));
    if (!variant.trained)
        cells.push_back({significant(result->seconds, 2), full(result->seconds), result->seconds});
    return cells;
}

void QualityScores::fillTable() {
    const auto& variants = data().variants;
    table_->setSortingEnabled(false);
    table_->clearSelection();
    table_->setRowCount(static_cast<int>(1 + variants.size()));
    std::vector<Cell> cells{{tr("unquantized"), tr("The weights as they are stored"), qQNaN()}, {}, {}};
    if (data().reference.tokens > 0)
        std::ranges::move(cellsOf(data().reference, true), std::back_inserter(cells));
    setRow(0, cells, -1);
    for (std::size_t i = 0; i < variants.size(); ++i)
        setRow(static_cast<int>(i) + 1, cellsOf(variants[i]), static_cast<int>(i));
    table_->setSortingEnabled(true);
    for (int row = 0; row < table_->rowCount(); ++row)
        if (const int i = table_->item(row, 0)->data(variant_role).toInt();
            i >= 0 && selected(variants[static_cast<std::size_t>(i)])) {
            table_->selectRow(row);
            break;
        }
    QStringList reasons;
    for (const Variant& variant : data().left_out)
        reasons += nameOf(variant) + ' ' + QString::fromStdString(why_not(variant, true));
    leftOut_->setText(tr("Left out: %1").arg(reasons.join(QStringLiteral(" · "))));
    leftOut_->setVisible(!reasons.isEmpty());
    fitTable();
}

/// As high as its rows, as far as the plot leaves room; then it scrolls.
void QualityScores::fitTable() {
    const int wanted = table_->horizontalHeader()->sizeHint().height() +
                       table_->rowCount() * table_->verticalHeader()->defaultSectionSize() + 18;
    const int others = metric_->height() + 12 + plot()->plotLayout()->minimumOuterSizeHint().height();
    table_->setFixedHeight(std::min(wanted, std::max(least_table_height, height() - others)));
}

void QualityScores::resizeEvent(QResizeEvent* event) {
    QualityPage::resizeEvent(event);
    fitTable();
}

// --- reading off

ReadoutText QualityScores::readoutOf(const Variant& variant) const {
    ReadoutText text;
    text.hairLine = false;
    text.title = nameOf(variant);
    const VariantResult* result = data().result(variant);
    if (!result) {
        text.note = tr("not evaluated yet");
        return text;
    }
    const QColor colour = Theme::instance().format(variant.format);
    const QString value = this->text(metric().value(result->scores));
    text.rows.push_back(
        {colour, metric().name,
         metric().error ? value + QStringLiteral(" ± ") + this->text(metric().error(result->scores)) : value});
    if (!metric().ideal)
        text.rows.push_back(
            {Theme::instance().original(), tr("unquantized"), this->text(metric().value(data().reference))});
    text.rows.push_back({std::nullopt, tr("bits per weight"), significant(result->bits_per_weight, 4)});
    text.note = metric().help;
    return text;
}

std::optional<ReadoutText> QualityScores::readoutAt(QCPAxisRect* pane, QPointF position) const {
    if (pane == barPane_) {
        const auto row = bars_->barAt(barPane_->axis(QCPAxis::atLeft)->pixelToCoord(position.y()));
        return row ? std::optional(readoutOf(data().variants[*row])) : std::nullopt;
    }
    const auto point = points_->pointAt(position);
    return point ? std::optional(readoutOf(shown_[*point])) : std::nullopt;
}

QByteArray QualityScores::csv() const {
    QByteArray csv = "format,method,inputs,bits_per_weight";
    for (const ScoreMetric& metric : scoreMetrics()) {
        csv += ',' + metric.id.toUtf8();
        if (metric.error)
            csv += ',' + metric.id.toUtf8() + "_stderr";
    }
    const auto line = [&csv](const QString& format, const QString& method, const QString& inputs, double bits,
                             const ScoreSummary& scores) {
        csv += '\n' + csvText(format) + ',' + csvText(method) + ',' + csvText(inputs) + ',' + csvNumber(bits);
        for (const ScoreMetric& metric : scoreMetrics()) {
            csv += ',' + csvNumber(metric.value(scores));
            if (metric.error)
                csv += ',' + csvNumber(metric.error(scores));
        }
    };
    if (data().reference.tokens > 0)
        line(tr("unquantized"), {}, {}, qQNaN(), data().reference);
    for (const Variant& variant : data().variants)
        if (const VariantResult* result = data().result(variant))
            line(QString::fromStdString(variant.format.text()), QString::fromStdString(variant.method_text()),
                 QString::fromStdString(to_string(variant.activations)), result->bits_per_weight, result->scores);
    return csv + '\n';
}

} // namespace qs::gui
