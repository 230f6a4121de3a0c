#include <QComboBox>
#include <QPushButton>

#include "app/gui/views/LayersView.h"
#include "gui_views_common.h"

using namespace qs;
using namespace qs::gui;

class LayersTest : public QObject {
    Q_OBJECT

private slots:
    void linesAreTheModelReport();
    void everyMetricIsPlotted();
    void heatMapIsTheModelReport();
    void rolesAreTheTensors();
    void unmeasuredPlacesAreGaps();
    void clickSelectsTensorAndFormat();
    void hoverTellsTensorAndValue();
    void axisNameSwitchesToLog();
    void oneLayer();
    void noLayers();
    void emptyStateAnalyses();
    void csvHoldsEveryPlaceAndMetric();

private:
    static void choose(LayersView& view, const char* box, int index) {
        view.findChild<QComboBox*>(box)->setCurrentIndex(index);
        settle(view);
    }
    static void chooseMetric(LayersView& view, const char* id) {
        auto* box = view.findChild<QComboBox*>("metric");
        choose(view, "metric", box->findData(QString(id)));
    }
};

namespace {

/// The value of a graph at a whole number; NaN in a gap.
double at(const QCPGraph* graph, double key) {
    for (const QCPGraphData& point : *graph->data())
        if (point.key == key)
            return point.value;
    return qQNaN();
}

} // namespace

void LayersTest::linesAreTheModelReport() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.places().size(), std::size_t{5}); // embedding, three layers, head
    const QCPAxisRect* pane = view.activePlot()->axisRects().front();
    const ModelReport& model = open.session.model();
    for (std::size_t format = 0; format < 2; ++format) {
        const QCPGraph* graph = graphNamed(pane, QString::fromStdString(open.session.formats()[format].text()));
        QVERIFY(graph != nullptr);
        QCOMPARE(at(graph, 0), model.roles.at(Role::token_embedding)[format].total.sqnr_db());
        for (int layer = 0; layer < 3; ++layer)
            QCOMPARE(at(graph, layer + 1), model.layers.at(layer)[format].total.sqnr_db());
        QCOMPARE(at(graph, 4), model.roles.at(Role::lm_head)[format].total.sqnr_db());
        QVERIFY(std::isnan(at(graph, 0.5)));
    }
}

void LayersTest::everyMetricIsPlotted() {
    OpenSession open("nf4");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.findChild<QComboBox*>("metric")->count(), static_cast<int>(metrics().size()));
    for (const Metric& metric : metrics()) {
        chooseMetric(view, metric.id.toUtf8().constData());
        const QCPAxisRect* pane = view.activePlot()->axisRects().front();
        const double expected = metric.value(open.session.model().layers.at(1)[0].total);
        QCOMPARE(at(graphNamed(pane, "nf4"), 2), expected);
        QVERIFY(pane->axis(QCPAxis::atLeft)->label().startsWith(metric.name));
        QVERIFY(pane->axis(QCPAxis::atLeft)->range().contains(expected));
    }
}

void LayersTest::heatMapIsTheModelReport() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    const auto& values = view.heatMap()->values();
    QCOMPARE(values.size(), std::size_t{2});
    QCOMPARE(values[0].size(), std::size_t{5});
    for (int layer = 0; layer < 3; ++layer)
        QCOMPARE(values[1][static_cast<std::size_t>(layer) + 1],
                 open.session.model().layers.at(layer)[1].total.sqnr_db());
    open.session.selectFormat(1);
    choose(view, "heat", 1);
    const auto& roles = view.heatMap()->values();
    QCOMPARE(roles.size(), std::size_t{7});
    QCOMPARE(roles[0].size(), std::size_t{3});
    const auto tensor = *open.session.checkpoint()->find("model.layers.2.self_attn.q_proj.weight");
    QCOMPARE(roles[0][2], open.session.result(tensor, open.session.formats()[1])->sqnr_db());
}

void LayersTest::rolesAreTheTensors() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    choose(view, "lines", 1);
    const QList<QCPAxisRect*> panes = view.activePlot()->axisRects();
    QCOMPARE(panes.size(), 8); // seven roles and the heat map
    const auto tensor = *open.session.checkpoint()->find("model.layers.1.mlp.down_proj.weight");
    const double expected = open.session.result(tensor, open.session.formats()[0])->sqnr_db();
    bool found = false;
    for (const QCPAxisRect* pane : panes)
        if (const QCPGraph* graph = graphNamed(pane, "nf4"))
            found = found || at(graph, 1) == expected;
    QVERIFY(found);
}

void LayersTest::unmeasuredPlacesAreGaps() {
    auto tensors = decoder(3, 64);
    // The middle layer keeps its norm only: nothing there is quantized.
    std::erase_if(tensors, [](const TestTensor& tensor) {
        return tensor.name.find("layers.1.") != std::string::npos && tensor.shape.size() > 1;
    });
    OpenSession open("nf4", tensors);
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "nf4");
    QVERIFY(std::isfinite(at(graph, 1)));
    QVERIFY(std::isnan(at(graph, 2)));
    QVERIFY(std::isfinite(at(graph, 3)));
    QVERIFY(std::isnan(view.heatMap()->values()[0][2]));
}

void LayersTest::clickSelectsTensorAndFormat() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    const HeatMap* heat = view.heatMap();
    const QPointF cell = heat->coordsToPixels(3, 1);
    QTest::mouseClick(view.activePlot(), Qt::LeftButton, {}, cell.toPoint());
    QCOMPARE(open.selected().name, std::string("model.layers.2.self_attn.q_proj.weight"));
    QCOMPARE(open.session.selectedFormat(), std::size_t{1});
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "nf4");
    QTest::mouseClick(view.activePlot(), Qt::LeftButton, {}, graph->coordsToPixels(2, at(graph, 2)).toPoint());
    QCOMPARE(open.selected().name, std::string("model.layers.1.self_attn.q_proj.weight"));
    QCOMPARE(open.session.selectedFormat(), std::size_t{0});
}

void LayersTest::hoverTellsTensorAndValue() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    moveMouse(*plot, view.heatMap()->coordsToPixels(0, 0).toPoint());
    const QString cell = plot->readout().plainText();
    QVERIFY2(cell.contains("model.embed_tokens.weight") && cell.contains("dB"), qPrintable(cell));
    const QCPGraph* graph = graphNamed(plot->axisRects().front(), "int8");
    moveMouse(*plot, graph->coordsToPixels(1, at(graph, 1)).toPoint());
    const QString line = plot->readout().plainText();
    QVERIFY2(line.startsWith("layer 0") && line.contains("nf4") && line.contains("int8"), qPrintable(line));
}

void LayersTest::axisNameSwitchesToLog() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    chooseMetric(view, "mse");
    Plot* plot = view.activePlot();
    const QCPAxis* axis = plot->axisRects().front()->axis(QCPAxis::atLeft);
    const bool before = Plot::isLog(axis);
    QVERIFY(before); // nf4 and int8 lie more than two decades apart
    QTest::mouseClick(plot, Qt::LeftButton, {}, onAxisName(*plot, axis));
    QVERIFY(!Plot::isLog(axis));
    QVERIFY(settle(view));
    QVERIFY(!Plot::isLog(axis));
}

void LayersTest::oneLayer() {
    OpenSession open("nf4", decoder(1, 64));
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.places().size(), std::size_t{3});
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "nf4");
    QVERIFY(graph->keyAxis()->range().contains(at(graph, 1)) || std::isfinite(at(graph, 1)));
    QVERIFY(graph->scatterStyle().shape() != QCPScatterStyle::ssNone);
    choose(view, "lines", 1);
    QVERIFY(!view.grab().isNull());
}

void LayersTest::noLayers() {
    OpenSession open("nf4", {{"alpha", {64, 64}}, {"beta", {128, 64}}, {"gamma", {64}}});
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.places().size(), std::size_t{2});
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "nf4");
    QCOMPARE(at(graph, 1), open.session.result(1, open.session.formats()[0])->sqnr_db());
    choose(view, "lines", 1);
    choose(view, "heat", 1);
    QVERIFY(!view.grab().isNull());
}

void LayersTest::emptyStateAnalyses() {
    OpenSession open("nf4");
    open.session.cancel();
    if (!open.session.model().model.empty())
        QSKIP("the session analysed by itself");
    LayersView view(&open.session);
    view.show();
    QVERIFY(settle(view));
    QPushButton* button = nullptr;
    for (QPushButton* candidate : view.findChildren<QPushButton*>())
        if (candidate->isVisible())
            button = candidate;
    QVERIFY(button != nullptr);
    QCOMPARE(button->text(), QString("Analyse"));
    QTest::mouseClick(button, Qt::LeftButton);
    QVERIFY(QTest::qWaitFor([&] { return !open.session.model().model.empty(); }, patience_ms));
    QVERIFY(settle(view));
    QVERIFY(view.activePlot()->isVisible());
}

void LayersTest::csvHoldsEveryPlaceAndMetric() {
    OpenSession open("nf4,int8");
    QVERIFY(open.analyse());
    LayersView view(&open.session);
    QVERIFY(showAndSettle(view));
    const QList<QByteArray> lines = view.csv().trimmed().split('\n');
    QCOMPARE(lines.front().split(',').size(), static_cast<int>(4 + metrics().size()));
    QCOMPARE(lines.size(), 1 + 2 * (5 + 3 * 7));
    const QList<QByteArray> first = lines[2].split(','); // layer 0, nf4
    QCOMPARE(first[0], QByteArray("layer 0"));
    QCOMPARE(first[3], QByteArray("nf4"));
    for (std::size_t i = 0; i < metrics().size(); ++i)
        QCOMPARE(first[static_cast<qsizetype>(4 + i)].toDouble(),
                 metrics()[i].value(open.session.model().layers.at(0)[0].total));
}

QTEST_MAIN(LayersTest)
#include "gui_views_layers.moc"
