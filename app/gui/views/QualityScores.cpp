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

namespace qs::gui {

namespace {

constexpr int row_height = 17;
constexpr int least_table_height = 110;
constexpr int digits = 4;
constexpr int perplexity_digits = 5; ///< formats often differ in the fourth

QString withError(double value, double error) {
    return significant(value, perplexity_digits) + QStringLiteral(" ± ") + significant(error, 2);
}
QString inPercent(double value) {
    return significant(100 * value, 4);
}

QCPScatterStyle::ScatterShape shapeOf(const MethodSpec& method) {
    constexpr std::array shapes = {QCPScatterStyle::ssCircle, QCPScatterStyle::ssTriangle, QCPScatterStyle::ssSquare,
                                   QCPScatterStyle::ssDiamond, QCPScatterStyle::ssTriangleInverted};
    const auto all = methods();
    const auto place = std::ranges::find(all, method.id, &Method::id) - all.begin();
    return shapes[static_cast<std::size_t>(place) % shapes.size()];
}

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
    QStringList names{tr("Format"), tr("Bits/weight")},
        tips{tr("Formats chosen above"), tr("True bits per weight of the quantized matrices")};
    for (const ScoreMetric& metric : scoreMetrics()) {
        names += metric.id == "top1_agreement" ? tr("Top-1 (%)") : metric.name;
        tips += metric.help;
    }
    table_->setColumnCount(static_cast<int>(names.size()));
    for (int i = 0; i < table_->columnCount(); ++i) {
        auto* item = new QTableWidgetItem(names[i]);
        item->setToolTip(tips[i]);
        item->setTextAlignment((i == 0 ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
        table_->setHorizontalHeaderItem(i, item);
    }
    table_->horizontalHeader()->setSectionResizeMode(QHeaderView::ResizeToContents);
    table_->horizontalHeader()->setStretchLastSection(true);
    table_->verticalHeader()->hide();
    table_->verticalHeader()->setDefaultSectionSize(table_->fontMetrics().height() + 8);
    table_->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setSelectionMode(QAbstractItemView::SingleSelection);
    table_->setShowGrid(false);
    table_->setFrameShape(QFrame::NoFrame);
    table_->setWordWrap(false);
    table_->setStyleSheet(QStringLiteral("QTableWidget::item { padding: 0 4px; }"));
    connect(table_, &QTableWidget::cellClicked, this, [this](int row, int) {
        if (row > 0 && row <= static_cast<int>(data().variants.size()))
            emit formatPicked(data().variants[static_cast<std::size_t>(row) - 1].format);
    });
}

// --- drawing

QString QualityScores::text(double value) const {
    if (metric().id == "top1_agreement")
        return inPercent(value) + thin_space + '%';
    return significant(value, metric().id == "perplexity" ? perplexity_digits : digits);
}

void QualityScores::fill() {
    fillBars();
    fillPoints();
    fitRanges();
    fillTable();
    const bool empty = data().results.empty();
    plot()->setNote(!empty           ? QString()
                    : data().running ? tr("Running the first tokens…")
                                     : tr("Evaluate to see what each format does to the model's predictions."));
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

void QualityScores::fillBars() {
    std::vector<DeviationBars::Bar> bars;
    for (const Variant& variant : data().variants) {
        DeviationBars::Bar bar;
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
    plot()->keys()->setEntries(std::move(entries));

    setVariantRows(barPane_, row_height);
}

void QualityScores::fillPoints() {
    std::vector<LabelledPoints::Point> points;
    shown_.clear();
    for (const Variant& variant : data().variants)
        if (const VariantResult* result = data().result(variant)) {
            points.push_back({result->bits_per_weight, metric().value(result->scores),
                              metric().error ? metric().error(result->scores) : 0, nameOf(variant),
                              Theme::instance().format(variant.format), shapeOf(variant.method), selected(variant)});
            shown_.push_back(variant);
        }
    points_->setPoints(std::move(points));
    level_->setVisible(bars_->line().has_value());
    if (bars_->line()) {
        level_->point1->setCoords(0, bars_->line()->value);
        level_->point2->setCoords(1, bars_->line()->value);
    }
    level_->setPen(QPen(Theme::instance().original(), 1.5, Qt::DashLine));
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
    plot()->setHome(along, bars_->shown(log, 0.3));
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

void QualityScores::setRow(int row, const QStringList& texts, const QStringList& tips, bool selected) {
    for (int column = 0; column < table_->columnCount(); ++column) {
        auto* item = new QTableWidgetItem(column < texts.size() ? texts[column] : QString());
        item->setToolTip(column < tips.size() ? tips[column] : QString());
        item->setTextAlignment((column == 0 ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
        table_->setItem(row, column, item);
    }
    if (selected)
        table_->selectRow(row);
}

void QualityScores::fillTable() {
    const auto& variants = data().variants;
    table_->clearSelection();
    table_->clearSpans();
    table_->setRowCount(static_cast<int>(1 + variants.size() + data().left_out.size()));
    const ScoreSummary& reference = data().reference;
    QStringList texts{tr("unquantized")}, tips{tr("The weights as they are stored")};
    if (reference.tokens > 0) {
        texts << QString() << withError(reference.perplexity, reference.perplexity_stderr);
        tips << QString() << full(reference.perplexity) + QStringLiteral(" ± ") + full(reference.perplexity_stderr);
    }
    setRow(0, texts, tips, false);
    int row = 1;
    for (const Variant& variant : variants) {
        texts = tips = QStringList{nameOf(variant)};
        if (const VariantResult* result = data().result(variant)) {
            texts += significant(result->bits_per_weight, 4);
            tips += full(result->bits_per_weight);
            for (const ScoreMetric& metric : scoreMetrics()) {
                const double value = metric.value(result->scores);
                const double error = metric.error ? metric.error(result->scores) : qQNaN();
                const bool share = metric.id == "top1_agreement";
                texts += share                       ? inPercent(value)
                         : metric.id == "perplexity" ? withError(value, error)
                                                     : significant(value, digits);
                tips += metric.error ? full(value) + QStringLiteral(" ± ") + full(error) : full(value);
            }
        }
        setRow(row++, texts, tips, selected(variant));
    }
    for (const Variant& variant : data().left_out) {
        const QString reason = QString::fromStdString(why_not(variant));
        setRow(row, {nameOf(variant) + ' ' + reason}, {}, false);
        table_->setSpan(row++, 0, 1, table_->columnCount());
    }
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
    QByteArray csv = "format,method,bits_per_weight";
    for (const ScoreMetric& metric : scoreMetrics()) {
        csv += ',' + metric.id.toUtf8();
        if (metric.error)
            csv += ',' + metric.id.toUtf8() + "_stderr";
    }
    const auto line = [&csv](const QString& format, const QString& method, double bits, const ScoreSummary& scores) {
        csv += '\n' + csvText(format) + ',' + csvText(method) + ',' + csvNumber(bits);
        for (const ScoreMetric& metric : scoreMetrics()) {
            csv += ',' + csvNumber(metric.value(scores));
            if (metric.error)
                csv += ',' + csvNumber(metric.error(scores));
        }
    };
    if (data().reference.tokens > 0)
        line(tr("unquantized"), {}, qQNaN(), data().reference);
    for (const Variant& variant : data().variants)
        if (const VariantResult* result = data().result(variant))
            line(QString::fromStdString(variant.format.text()), QString::fromStdString(variant.method.text()),
                 result->bits_per_weight, result->scores);
    return csv + '\n';
}

} // namespace qs::gui
