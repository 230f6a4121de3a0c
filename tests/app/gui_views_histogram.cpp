#include <QComboBox>
#include <QToolButton>

#include "app/gui/views/HistogramView.h"
#include "gui_views_common.h"

using namespace qs;
using namespace qs::gui;

class HistogramTest : public QObject {
    Q_OBJECT

private slots:
    void plotsWhatTheDeviceCounts();
    void defaultRangeHugsTheDataAndDoubleClickShowsAll();
    void zoomRefinesTheBins();
    void legendShowsOtherFormats();
    void axisNameSwitchesToLogCounts();
    void stripIsAbsmaxOfBlocks();
    void quantilesAreThoseComputed();
    void outliersAreMarked();
    void readoutNamesEverySeries();
    void csvHoldsWhatIsPlotted();
    void followsTheSelection();
    void degenerateTensors_data();
    void degenerateTensors();

private:
    static void compareSteps(const QCPGraph* graph, const Histogram& expected);
};

void HistogramTest::compareSteps(const QCPGraph* graph, const Histogram& expected) {
    QVERIFY(graph != nullptr);
    QCOMPARE(graph->dataCount(), static_cast<int>(expected.counts.size()) + 1);
    for (int i = 0; i < graph->dataCount() - 1; ++i) {
        QCOMPARE(graph->data()->at(i)->key, expected.edge(static_cast<std::size_t>(i)));
        QCOMPARE(graph->data()->at(i)->value, static_cast<double>(expected.counts[static_cast<std::size_t>(i)]));
    }
}

void HistogramTest::plotsWhatTheDeviceCounts() {
    OpenSession open("bf16,int8,nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const Histogram& shown = view.histogram().weights;
    JobControl job;
    const HistogramSet expected = open.session.device()->histogram(open.view(), open.session.formats(), shown.low,
                                                                   shown.high, shown.counts.size(), job);
    const QCPAxisRect* pane = view.activePlot()->axisRects().front();
    compareSteps(graphNamed(pane, "weights"), expected.weights);
    for (std::size_t i = 0; i < expected.reconstructions.size(); ++i)
        compareSteps(graphNamed(pane, QString::fromStdString(open.session.formats()[i].text())),
                     expected.reconstructions[i]);
    std::uint64_t total = shown.below + shown.above;
    for (const std::uint64_t bin : shown.counts)
        total += bin;
    QCOMPARE(total, std::uint64_t{64 * 64});
}

void HistogramTest::defaultRangeHugsTheDataAndDoubleClickShowsAll() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    const QCPAxis* axis = plot->axisRects().front()->axis(QCPAxis::atBottom);
    JobControl job;
    const Statistics statistics = open.session.device()->analyze(open.view(), {}, job).statistics;
    const double outside = static_cast<double>(view.histogram().weights.below + view.histogram().weights.above);
    QVERIFY(outside / static_cast<double>(statistics.count) < 0.01);
    QVERIFY(axis->range().size() < 1.02 * (statistics.max - statistics.min));
    QTest::mouseDClick(plot, Qt::LeftButton, {}, QPoint(300, 200));
    QVERIFY(settle(view));
    QVERIFY(axis->range().lower <= statistics.min && axis->range().upper >= statistics.max);
    QCOMPARE(view.histogram().weights.below + view.histogram().weights.above, std::uint64_t{0});
}

void HistogramTest::zoomRefinesTheBins() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const auto width = [&] { return view.histogram().weights.edge(1) - view.histogram().weights.edge(0); };
    const double before = width();
    turnWheel(*view.activePlot(), QPoint(350, 200), 12);
    QVERIFY(settle(view));
    QVERIFY(width() <= before / 2);
}

void HistogramTest::legendShowsOtherFormats() {
    OpenSession open("nf4,int8");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    const QCPGraph* other = graphNamed(plot->axisRects().front(), "int8");
    QVERIFY(!other->visible());
    QVERIFY(graphNamed(plot->axisRects().front(), "nf4")->visible());
    QTest::mouseClick(plot, Qt::LeftButton, {}, plot->keys()->entryRect("int8").center().toPoint());
    QVERIFY(other->visible());
    QTest::mouseClick(plot, Qt::LeftButton, {}, plot->keys()->entryRect("int8").center().toPoint());
    QVERIFY(!other->visible());
    open.session.selectFormat(1);
    QVERIFY(settle(view));
    QVERIFY(!graphNamed(plot->axisRects().front(), "nf4")->visible());
}

void HistogramTest::axisNameSwitchesToLogCounts() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    QCPAxis* counts = plot->axisRects().front()->axis(QCPAxis::atLeft);
    const QPoint name = onAxisName(*plot, counts);
    QVERIFY(!name.isNull());
    QTest::mouseClick(plot, Qt::LeftButton, {}, name);
    QVERIFY(Plot::isLog(counts));
    QVERIFY(counts->range().lower > 0);
    QVERIFY(view.findChild<QToolButton*>("logCounts")->isChecked());
    QTest::mouseClick(view.findChild<QToolButton*>("logCounts"), Qt::LeftButton);
    QVERIFY(!Plot::isLog(counts));
}

void HistogramTest::stripIsAbsmaxOfBlocks() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    JobControl job;
    QCOMPARE(view.absmax(), block_absmax(open.view(), 64, 1200, job));
    auto* choice = view.findChild<QComboBox*>("stripChoice");
    choice->setCurrentIndex(choice->findData(QVariant::fromValue(std::size_t{32})));
    emit choice->activated(choice->currentIndex());
    QVERIFY(settle(view));
    QCOMPARE(view.absmax(), block_absmax(open.view(), 32, 1200, job));
}

void HistogramTest::quantilesAreThoseComputed() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const Plot* before = view.activePlot();
    QTest::mouseClick(view.findChild<QToolButton*>("quantileToggle"), Qt::LeftButton);
    QVERIFY(view.activePlot() != before);
    JobControl job;
    const auto expected = quantile_quantile(open.view(), 2000, job);
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "weights");
    QCOMPARE(graph->dataCount(), static_cast<int>(expected.size()));
    for (int i = 0; i < graph->dataCount(); ++i) {
        QCOMPARE(graph->data()->at(i)->key, expected[static_cast<std::size_t>(i)].normal);
        QCOMPARE(graph->data()->at(i)->value, expected[static_cast<std::size_t>(i)].weight);
    }
    QVERIFY(view.csv().startsWith("normal_sigma,weight\n"));
}

void HistogramTest::outliersAreMarked() {
    QTemporaryDir folder;
    std::vector<float> weights(4096);
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = 0.01F * static_cast<float>(static_cast<int>(i % 201) - 100) / 100;
    weights[7] = 0.5F;
    weights[1007] = -0.25F;
    QFile file(folder.filePath("outliers.safetensors"));
    QVERIFY(file.open(QIODevice::WriteOnly));
    const QByteArray header =
        QByteArray(R"({"model.layers.0.mlp.up_proj.weight":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]}})");
    const auto length = static_cast<quint64>(header.size());
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file.write(header);
    file.write(reinterpret_cast<const char*>(weights.data()), 16384);
    file.close();

    Session session;
    session.setFormats(parse_specs("nf4"));
    session.open(file.fileName());
    QVERIFY(QTest::qWaitFor([&] { return session.checkpoint() != nullptr; }, patience_ms));
    session.selectTensor(0);
    HistogramView view(&session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    const EdgeMarks* edges = nullptr;
    for (int i = 0; i < plot->plottableCount(); ++i)
        if (const auto* found = dynamic_cast<const EdgeMarks*>(plot->plottable(i)))
            edges = found;
    QVERIFY(edges != nullptr);
    QCOMPARE(edges->rug().size(), std::size_t{2});
    QVERIFY(qAbs(edges->rug().front() + 0.25) < 0.002);
    QVERIFY(qAbs(edges->rug().back() - 0.5) < 0.002);
    QVERIFY(edges->leftBorder().contains("1 ("));
    QVERIFY(edges->rightBorder().contains("2 beyond 6σ"));
}

void HistogramTest::readoutNamesEverySeries() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    const QCPAxisRect* pane = plot->axisRects().front();
    moveMouse(*plot, QPoint(static_cast<int>(pane->axis(QCPAxis::atBottom)->coordToPixel(0.001)), 250));
    QStringList names;
    for (const auto& row : plot->readout().rows)
        names << row.name;
    QCOMPARE(names, (QStringList{"weights", "fitted normal", "nf4"}));
    QVERIFY(!plot->readout().title.isEmpty());
}

void HistogramTest::csvHoldsWhatIsPlotted() {
    OpenSession open("nf4,int8");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const QList<QByteArray> lines = view.csv().trimmed().split('\n');
    QCOMPARE(lines.front(), QByteArray("bin_low,bin_high,weights,fitted_normal,nf4,int8"));
    const HistogramSet& set = view.histogram();
    QCOMPARE(static_cast<std::size_t>(lines.size()), set.weights.counts.size() + 1);
    for (std::size_t i = 0; i < set.weights.counts.size(); ++i) {
        const QList<QByteArray> cells = lines[static_cast<qsizetype>(i) + 1].split(',');
        QCOMPARE(cells[0].toDouble(), set.weights.edge(i));
        QCOMPARE(cells[2].toULongLong(), set.weights.counts[i]);
        QCOMPARE(cells[4].toULongLong(), set.reconstructions[0].counts[i]);
        QCOMPARE(cells[5].toULongLong(), set.reconstructions[1].counts[i]);
    }
}

void HistogramTest::followsTheSelection() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const auto before = view.histogram().weights.counts;
    open.select("model.embed_tokens.weight");
    QVERIFY(settle(view));
    QVERIFY(view.histogram().weights.counts != before);
    std::uint64_t total = view.histogram().weights.below + view.histogram().weights.above;
    for (const std::uint64_t bin : view.histogram().weights.counts)
        total += bin;
    QCOMPARE(total, open.selected().elements());
}

void HistogramTest::degenerateTensors_data() {
    QTest::addColumn<float>("value");
    QTest::newRow("zeros") << 0.0F;
    QTest::newRow("ones") << 1.0F;
    QTest::newRow("not a number") << std::numeric_limits<float>::quiet_NaN();
    QTest::newRow("infinite") << std::numeric_limits<float>::infinity();
}

/// One value only, or none that is finite: a picture or a sentence, never a crash or an endless axis.
void HistogramTest::degenerateTensors() {
    QFETCH(float, value);
    QTemporaryDir folder;
    QFile file(folder.filePath("one.safetensors"));
    QVERIFY(file.open(QIODevice::WriteOnly));
    const QByteArray header = R"({"w":{"dtype":"F32","shape":[8,8],"data_offsets":[0,256]}})";
    const auto length = static_cast<quint64>(header.size());
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file.write(header);
    const std::vector<float> weights(64, value);
    file.write(reinterpret_cast<const char*>(weights.data()), 256);
    file.close();
    Session session;
    session.setFormats(parse_specs("nf4"));
    session.open(file.fileName());
    QVERIFY(QTest::qWaitFor([&] { return session.checkpoint() != nullptr; }, patience_ms));
    session.selectTensor(0);
    HistogramView view(&session);
    QVERIFY(showAndSettle(view));
    const QCPRange range = view.activePlot()->axisRects().front()->axis(QCPAxis::atBottom)->range();
    QVERIFY(range.size() > 0 && range.size() < 100);
    QVERIFY(!view.grab().isNull());
    QVERIFY(view.csv().startsWith("bin_low"));
}

QTEST_MAIN(HistogramTest)
#include "gui_views_histogram.moc"
