#include <QAbstractItemModelTester>
#include <QClipboard>
#include <QElapsedTimer>
#include <QGuiApplication>
#include <QHeaderView>
#include <QLineEdit>
#include <QSignalSpy>
#include <QTableView>
#include <QTemporaryDir>
#include <QTest>
#include <QToolButton>
#include <QTreeView>

#include <map>

#include "app/gui/models/CheckpointModel.h"
#include "app/gui/models/ResultsModel.h"
#include "app/gui/panels/CheckpointPanel.h"
#include "app/gui/panels/InspectorPanel.h"
#include "core/formats/registry.h"
#include "gui_frame_files.h"

using namespace qs;
using namespace qs::gui;

class GuiTreeTest : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString small_;

    static void openAndMeasure(Session& session, const QString& path) {
        QSignalSpy opened(&session, &Session::checkpointChanged);
        session.open(path);
        QVERIFY(opened.wait(10000));
        session.analyse();
        QVERIFY(QTest::qWaitFor([&] { return !session.running() && !session.model().model.empty(); }, 30000));
    }
    static QModelIndex child(const QAbstractItemModel& model, const QModelIndex& parent, const QString& name) {
        for (int row = 0; row < model.rowCount(parent); ++row)
            if (const QModelIndex index = model.index(row, 0, parent); index.data().toString() == name)
                return index;
        return {};
    }
    static QStringList names(const QAbstractItemModel& model, const QModelIndex& parent) {
        QStringList all;
        for (int row = 0; row < model.rowCount(parent); ++row)
            all += model.index(row, 0, parent).data().toString();
        return all;
    }

private slots:
    void initTestCase() {
        small_ = folder_.filePath("small.safetensors");
        writeSafetensors(small_, decoder(11, 32));
    }

    void naturalOrder() {
        QVERIFY(naturalLess("layers.2", "layers.10"));
        QVERIFY(!naturalLess("layers.10", "layers.2"));
        QVERIFY(naturalLess("a", "b"));
        QVERIFY(naturalLess("a", "a1"));
        QVERIFY(naturalLess("a9", "a10"));
        QVERIFY(naturalLess("a1.x", "a10"));
        QVERIFY(naturalLess("a12b", "a13a"));
        QVERIFY(!naturalLess("a", "a"));
    }

    void isAProperModel() {
        Session session;
        session.setFormats(parse_specs("nf4,int8"));
        CheckpointModel model(&session);
        QAbstractItemModelTester tester(&model, QAbstractItemModelTester::FailureReportingMode::QtTest);
        openAndMeasure(session, small_);
        model.setFilter("layers q_proj");
        model.setFilter({});
        model.sort(CheckpointModel::Error, Qt::AscendingOrder);
        model.sort(CheckpointModel::Size, Qt::DescendingOrder);
        model.setFlat(true);
        model.sort(CheckpointModel::Error, Qt::AscendingOrder);
        model.setFilter("proj");
        session.selectFormat(1);
        session.setFormats(parse_specs("nf4"));
        model.setFlat(false);
        QSignalSpy opened(&session, &Session::checkpointChanged);
        session.open(small_);
        QVERIFY(opened.wait(5000));
    }

    void treeFollowsTheNames() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        CheckpointModel model(&session);
        openAndMeasure(session, small_);
        QCOMPARE(names(model, {}), QStringList({"lm_head", "model"}));
        const QModelIndex layers = child(model, child(model, {}, "model"), "layers");
        QCOMPARE(model.rowCount(layers), 11);
        QCOMPARE(model.index(10, 0, layers).data().toString(), QString("10"));
        const QModelIndex attention = child(model, model.index(3, 0, layers), "self_attn");
        QCOMPARE(names(model, attention), QStringList({"k_proj", "o_proj", "q_proj", "v_proj"}));

        const QModelIndex q = child(model, attention, "q_proj");
        const auto tensor = static_cast<std::size_t>(q.data(CheckpointModel::TensorRole).toInt());
        QCOMPARE(session.checkpoint()->tensors[tensor].name, std::string("model.layers.3.self_attn.q_proj.weight"));
        QCOMPARE(q.data(CheckpointModel::FullNameRole).toString(), QString("model.layers.3.self_attn.q_proj.weight"));
        QCOMPARE(q.siblingAtColumn(CheckpointModel::Shape).data().toString(), QString("32 × 32"));
        QCOMPARE(q.siblingAtColumn(CheckpointModel::Type).data().toString(), QString("F32"));
        QCOMPARE(q.siblingAtColumn(CheckpointModel::Parameters).data().toString(), QString("1024"));
        QCOMPARE(model.indexOf(tensor), q);
        // A module's figures are sums over its tensors.
        QCOMPARE(attention.siblingAtColumn(CheckpointModel::Parameters).data(CheckpointModel::ValueRole).toDouble(),
                 4096.0);
    }

    void heatIsTheErrorOfTheSelectedFormat() {
        Session session;
        session.setFormats(parse_specs("nf4,int8"));
        CheckpointModel model(&session);
        openAndMeasure(session, small_);
        std::map<double, double> heats; // by error
        for (const std::size_t tensor : session.coverage().tensors) {
            const QModelIndex cell = model.indexOf(tensor).siblingAtColumn(CheckpointModel::Error);
            QCOMPARE(cell.data(CheckpointModel::ValueRole).toDouble(),
                     session.result(tensor, parse_spec("nf4"))->sqnr_db());
            heats[-session.result(tensor, parse_spec("nf4"))->sqnr_db()] =
                cell.data(CheckpointModel::HeatRole).toDouble();
        }
        QCOMPARE(heats.begin()->second, 0.0);
        double before = 0;
        for (const auto& [error, heat] : heats) {
            QVERIFY(heat >= before && heat <= 1);
            before = heat;
        }
        QVERIFY(before > 0);
        session.selectFormat(1);
        const std::size_t first = session.coverage().tensors.front();
        const QModelIndex cell = model.indexOf(first).siblingAtColumn(CheckpointModel::Error);
        QCOMPARE(cell.data(CheckpointModel::ValueRole).toDouble(),
                 session.result(first, parse_spec("int8"))->sqnr_db());
        model.setMetric(metric("mse"));
        QCOMPARE(cell.data(CheckpointModel::ValueRole).toDouble(), session.result(first, parse_spec("int8"))->mse());
        const QModelIndex skipped =
            model.indexOf(session.coverage().skipped.front().tensor).siblingAtColumn(CheckpointModel::Error);
        QVERIFY(!skipped.data(CheckpointModel::HeatRole).isValid());
        QVERIFY(skipped.data(Qt::ToolTipRole).toString().contains("fewer than two dimensions"));
    }

    void flatListSortsTheWorstFirst() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        CheckpointModel model(&session);
        openAndMeasure(session, small_);
        model.setFlat(true);
        model.sort(CheckpointModel::Error, Qt::AscendingOrder);
        QCOMPARE(model.rowCount(), static_cast<int>(session.checkpoint()->tensors.size()));
        double before = -1e9;
        for (int row = 0; row < static_cast<int>(session.coverage().tensors.size()); ++row) {
            const double value = model.index(row, CheckpointModel::Error).data(CheckpointModel::ValueRole).toDouble();
            QVERIFY(value >= before);
            before = value;
        }
        // What was not measured comes last.
        QVERIFY(!model.index(model.rowCount() - 1, CheckpointModel::Error).data(CheckpointModel::HeatRole).isValid());
    }

    void searchByWordsAndPatterns() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        CheckpointModel model(&session);
        openAndMeasure(session, small_);
        model.setFilter("Q_PROJ");
        QCOMPARE(model.matches(), 11);
        model.setFilter("layers.1. proj");
        QCOMPARE(model.matches(), 7);
        model.setFilter("*layers.?.mlp.*");
        QCOMPARE(model.matches(), 30);
        model.setFilter("nothing of the kind");
        QCOMPARE(model.matches(), 0);
        QCOMPARE(model.rowCount(), 0);
    }

    void panelByMouseAndKeys() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        CheckpointPanel panel(&session);
        panel.resize(420, 600);
        panel.show();
        QVERIFY(QTest::qWaitForWindowExposed(&panel));
        openAndMeasure(session, small_);
        QTreeView* tree = panel.tree();
        CheckpointModel* model = panel.model();

        const auto first = *session.checkpoint()->find("model.layers.0.self_attn.q_proj.weight");
        const QModelIndex q = model->indexOf(first);
        tree->expandAll();
        tree->scrollTo(q);
        QTest::mouseClick(tree->viewport(), Qt::LeftButton, {}, tree->visualRect(q).center());
        QCOMPARE(session.selectedTensor(), std::optional(first));

        QTest::keyClick(tree, Qt::Key_Down);
        QCOMPARE(session.checkpoint()->tensors[*session.selectedTensor()].name,
                 std::string("model.layers.0.self_attn.v_proj.weight"));
        QTest::keyClick(tree, Qt::Key_Left); // to the module, which leaves the tensor as it is
        QCOMPARE(tree->currentIndex().data().toString(), QString("self_attn"));
        QVERIFY(session.selectedTensor().has_value());

        // Selected elsewhere, shown here.
        const auto head = *session.checkpoint()->find("lm_head.weight");
        session.selectTensor(head);
        QCOMPARE(tree->currentIndex().siblingAtColumn(0), model->indexOf(head));

        QTest::keyClick(tree, Qt::Key_C, Qt::ControlModifier);
        QCOMPARE(QGuiApplication::clipboard()->text(), QString("lm_head.weight"));
        QVERIFY(reportText(session, head).contains("nf4 sqnr_db\t"));

        // Search, then arrow down into what was found.
        auto* search = panel.findChild<QLineEdit*>("search");
        panel.search();
        QTest::keyClicks(search, "layers.7 down");
        QTest::keyClick(search, Qt::Key_Return);
        QCOMPARE(model->matches(), 1);
        QCOMPARE(session.checkpoint()->tensors[*session.selectedTensor()].name, std::string("lm_head.weight"));
        QTest::keyClick(tree, Qt::Key_End);
        QCOMPARE(session.checkpoint()->tensors[*session.selectedTensor()].name,
                 std::string("model.layers.7.mlp.down_proj.weight"));
        QTest::keyClick(search, Qt::Key_Escape);
        QVERIFY(QTest::qWaitFor([&] { return model->matches() > 1; }));
        QCOMPARE(tree->currentIndex().siblingAtColumn(0), model->indexOf(*session.selectedTensor()));

        // A click on a header sorts.
        QHeaderView* header = tree->header();
        const int at = header->sectionViewportPosition(CheckpointModel::Error) + 10;
        panel.findChild<QToolButton*>("flat")->click();
        QTest::mouseClick(header->viewport(), Qt::LeftButton, {}, {at, header->height() / 2});
        QVERIFY(model->index(0, CheckpointModel::Error).data(CheckpointModel::ValueRole).toDouble() <=
                model->index(1, CheckpointModel::Error).data(CheckpointModel::ValueRole).toDouble());
    }

    void inspectorShowsTensorAndModel() {
        Session session;
        session.setFormats(parse_specs("bf16,nf4"));
        InspectorPanel inspector(&session);
        QAbstractItemModelTester tester(inspector.results(), QAbstractItemModelTester::FailureReportingMode::QtTest);
        openAndMeasure(session, small_);
        ResultsModel* results = inspector.results();
        QCOMPARE(results->result(1)->sums.sum_d2, session.model().model[1].total.sums.sum_d2);

        const std::size_t tensor = session.coverage().tensors[2];
        session.selectTensor(tensor);
        QCOMPARE(results->result(1), session.result(tensor, parse_spec("nf4")));
        const QModelIndex sqnr = results->index(1, 2);
        QCOMPARE(results->headerData(2, Qt::Horizontal, Qt::DisplayRole).toString(), QString("SQNR\n(dB)"));
        QVERIFY(sqnr.data(Qt::ToolTipRole)
                    .toString()
                    .contains(QString::number(results->result(1)->sqnr_db(), 'g', QLocale::FloatingPointShortest)));
        QVERIFY(results->text().startsWith("format\tbits_per_weight\tsqnr_db"));

        // A row of the table selects the format everywhere.
        inspector.table()->selectRow(1);
        QCOMPARE(session.selectedFormat(), std::size_t(1));
        session.selectFormat(0);
        QCOMPARE(inspector.table()->currentIndex().row(), 0);
    }

    void meaningComparesWithTheNearest() {
        FormatResult small, large;
        small.spec = parse_spec("nf4");
        large.spec = parse_spec("int8");
        small.elements = large.elements = small.sums.count = large.sums.count = 100;
        small.stored_bits = 450;
        large.stored_bits = 825;
        small.sums.sum_w2 = large.sums.sum_w2 = 1;
        small.sums.sum_d2 = 0.01;
        large.sums.sum_d2 = 0.0001;
        const QString text = meaning(small, {&small, &large});
        QVERIFY2(text.contains("10.0\u2009%"), qPrintable(text));
        QVERIFY2(text.contains("20.0\u2009dB better"), qPrintable(text));
        small.sums.sum_d2 = 0;
        QVERIFY(meaning(small, {&small}).contains("unchanged"));
    }

    void ninetyThousandTensors() {
        // Experts of one weight each: only the count matters here.
        std::vector<TestTensor> tensors;
        for (int layer = 0; layer < 60; ++layer)
            for (int expert = 0; expert < 500; ++expert)
                for (const char* part : {"gate_proj", "up_proj", "down_proj"})
                    tensors.push_back({QStringLiteral("model.layers.%1.mlp.experts.%2.%3.weight")
                                           .arg(layer)
                                           .arg(expert)
                                           .arg(part)
                                           .toStdString(),
                                       {1, 1}});
        const QString path = folder_.filePath("many.safetensors");
        writeSafetensors(path, tensors);
        Session session;
        session.setFormats(parse_specs("nf4"));
        QSignalSpy opened(&session, &Session::checkpointChanged);
        session.open(path);
        QVERIFY(opened.wait(30000));

        CheckpointPanel panel(&session);
        panel.resize(420, 600);
        panel.show();
        QVERIFY(QTest::qWaitForWindowExposed(&panel));
        const auto within = [](const char* what, int ms, const std::function<void()>& act) {
            QElapsedTimer clock;
            clock.start();
            act();
            QCoreApplication::processEvents();
            qInfo("%s: %lld ms", what, clock.elapsed());
            QVERIFY2(clock.elapsed() < ms, what);
        };
        within("open", 1000, [&] { CheckpointModel another(&session); });
        within("search", 500, [&] { panel.model()->setFilter("layers.17. experts.3"); });
        within("clear", 500, [&] { panel.model()->setFilter({}); });
        within("flat", 500, [&] { panel.model()->setFlat(true); });
        within("sort", 500, [&] { panel.tree()->sortByColumn(CheckpointModel::Size, Qt::DescendingOrder); });
        within("tree", 500, [&] { panel.model()->setFlat(false); });
        within("select", 100, [&] { session.selectTensor(77'777); });
        QCOMPARE(panel.model()->matches(), 90'000);
    }
};

QTEST_MAIN(GuiTreeTest)
#include "gui_frame_tree.moc"
