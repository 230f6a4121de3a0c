#include <QComboBox>
#include <QLabel>
#include <QLineEdit>
#include <QMimeData>
#include <QSpinBox>
#include <QTableWidget>
#include <QToolButton>

#include <cmath>

#include "app/gui/views/QualityLayers.h"
#include "app/gui/views/QualityScores.h"
#include "app/gui/views/QualitySkills.h"
#include "app/gui/views/QualityText.h"
#include "app/gui/views/QualityView.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/model/text_windows.h"
#include "gui_views_common.h"

using namespace qs;
using namespace qs::gui;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");

/// The view on the demo model, with few tokens.
struct Shown {
    explicit Shown(const char* formats) {
        session.setFormats(parse_specs(formats));
        session.open(demo);
        if (!QTest::qWaitFor([this] { return session.checkpoint() != nullptr; }, patience_ms))
            throw std::runtime_error("the checkpoint did not open");
        view.findChild<QSpinBox*>("evaluationTokens")->setValue(600);
        if (!showAndSettle(view))
            throw std::runtime_error("the view did not settle");
    }

    qs::gui::Session session;
    QualityView view{&session};
};

/// What core says of the same question.
VariantResults expected(const QualityView& view, qs::gui::Session& session) {
    const RunnableModel& model = *view.data().model;
    const auto file = MappedFile::open(model.material->text);
    const auto text = as_text(file->bytes());
    const auto windows = text_windows(*model.tokenizer, model.decoder.config(), text,
                                      {usual_separator(text), usual_context(model.decoder.config(), true), 600});
    JobControl job;
    return evaluate_variants(model.decoder, view.data().variants, windows, *session.device(), job);
}

} // namespace

class QualityTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase();
    void barsPointsAndTableAreTheEvaluation();
    void skillsAreTheScores();
    void layersShowOutputBesideWeightError();
    void textsAreTheContinuations();
    void addedFormatIsEvaluated();
    void stopKeepsWhatIsThere();
    void formatsThatCannotBeMadeAreNamed();
    void droppedTextIsChosen();
    void failureIsTold();
    void modelThatCannotRunIsExplained();
};

void QualityTest::initTestCase() {
    if (!QFile::exists(demo + "/model.safetensors"))
        QSKIP("resources/demo holds no model");
}

void QualityTest::barsPointsAndTableAreTheEvaluation() {
    Shown shown("int4,int2");
    const VariantResults core = expected(shown.view, shown.session);
    QCOMPARE(shown.view.data().reference.tokens, std::size_t{600});
    QualityScores& page = *shown.view.scores();
    auto* choice = page.findChild<QComboBox*>("scoreMetric");
    QCOMPARE(choice->count(), static_cast<int>(scoreMetrics().size()));
    for (int i = 0; i < choice->count(); ++i) {
        choice->setCurrentIndex(i);
        const ScoreMetric& metric = page.metric();
        for (std::size_t format = 0; format < 2; ++format) {
            const ScoreSummary& scores = core.variants[format].scores;
            const DeviationBars::Bar& bar = page.bars()->bars()[format];
            QCOMPARE(bar.value, metric.value(scores));
            QCOMPARE(bar.error, metric.error ? metric.error(scores) : 0.0);
            QVERIFY(page.bars()->keyAxis()->range().contains(bar.value));
            const LabelledPoints::Point& point = page.points()->points()[format];
            QCOMPARE(point.key, core.variants[format].bits_per_weight);
            QCOMPARE(point.value, bar.value);
            QVERIFY(page.points()->valueAxis()->range().contains(point.value));
            QVERIFY(page.points()->keyAxis()->range().contains(point.key));
        }
    }
    choice->setCurrentIndex(0);
    QCOMPARE(page.bars()->line()->value, core.reference.perplexity);
    const auto* table = page.findChild<QTableWidget*>("qualityTable");
    QCOMPARE(table->rowCount(), 3);
    QVERIFY(table->item(2, 2)->toolTip().startsWith(
        QString::number(core.variants[1].scores.perplexity, 'g', QLocale::FloatingPointShortest)));
    const QList<QByteArray> lines = page.csv().trimmed().split('\n');
    QCOMPARE(lines.size(), 4);
    QCOMPARE(lines[3].split(',')[3].toDouble(), core.variants[1].scores.perplexity);

    // A click on a bar selects its format, the cursor reads it off.
    const QPointF place = page.bars()->coordsToPixels(page.bars()->keyAxis()->range().center(), 1);
    QTest::mouseClick(page.plot(), Qt::LeftButton, {}, place.toPoint());
    QCOMPARE(shown.session.selectedFormat(), std::size_t{1});
    moveMouse(*page.plot(), place.toPoint());
    QVERIFY(page.plot()->readout().plainText().contains("int2"));
}

void QualityTest::skillsAreTheScores() {
    Shown shown("int2:group=32");
    shown.view.showPage("Skills");
    QVERIFY(settle(shown.view));
    const RunnableModel& model = *shown.view.data().model;
    JobControl job;
    const VariantWeights weights(model.decoder, shown.view.data().variants, *shown.session.device(), job);
    const auto scores = score_skills(model.decoder, *model.tokenizer, model.skills, weights.hook(0), job);
    QCOMPARE(shown.view.skills()->bars().size(), std::size_t{3});
    for (std::size_t skill = 0; skill < 3; ++skill) {
        const DeviationBars* bars = shown.view.skills()->bars()[skill];
        QCOMPARE(bars->bars()[0].value, scores[skill].share());
        QVERIFY(bars->bars()[0].value < 1);
        QCOMPARE(bars->line()->value, 1.0);
    }
    QVERIFY(shown.view.csv().contains("int2:group=32,rtn,sums," + QByteArray::number(scores[0].right) + ",60"));
}

void QualityTest::layersShowOutputBesideWeightError() {
    Shown shown("int4");
    shown.session.analyse();
    QVERIFY(QTest::qWaitFor([&] { return !shown.session.running(); }, patience_ms));
    shown.view.showPage("Layer errors");
    QVERIFY(settle(shown.view));
    QualityLayers& page = *shown.view.layers();
    QCOMPARE(page.places().size(), std::size_t{35});
    const auto panes = page.plot()->axisRects();
    const auto* result = shown.view.data().result(shown.view.data().variants[0]);
    for (std::size_t i = 0; i < page.places().size(); ++i) {
        const LinearTensor& place = page.places()[i];
        const auto at = static_cast<int>(i);
        QCOMPARE(graphNamed(panes[0], "int4")->data()->at(at)->value, result->linears.at(place.name).relative_error());
        QCOMPARE(graphNamed(panes[1], "int4")->data()->at(at)->value,
                 shown.session.result(place.tensor, shown.session.formats()[0])->relative_error());
    }
    const QCPGraph* graph = graphNamed(panes[0], "int4");
    QTest::mouseClick(page.plot(), Qt::LeftButton, {}, graph->coordsToPixels(9, graph->data()->at(9)->value).toPoint());
    QCOMPARE(shown.session.selectedTensor(), std::optional(page.places()[9].tensor));
    auto* role = page.findChild<QComboBox*>("linearRole");
    role->setCurrentIndex(1);
    emit role->activated(1);
    QCOMPARE(page.places().size(), std::size_t{5});
}

void QualityTest::textsAreTheContinuations() {
    Shown shown("int8,int2");
    shown.view.showPage("Text");
    QualityText& page = *shown.view.text();
    page.findChild<QLineEdit*>("prompt")->setText("Bram lives in");
    page.findChild<QSpinBox*>("continuationTokens")->setValue(20);
    QTest::mouseClick(page.findChild<QToolButton*>("continue"), Qt::LeftButton);
    QVERIFY(page.busy());
    QVERIFY(settle(shown.view));

    const RunnableModel& model = *shown.view.data().model;
    JobControl job;
    const VariantWeights weights(model.decoder, page.models(), *shown.session.device(), job);
    ContinuationRequest request;
    request.prompt = model.tokenizer->encode("Bram lives in", model.tokenizer->defaults());
    request.tokens = 20;
    request.end = model.tokenizer->traits().eos;
    const auto core = continue_side_by_side(model.decoder, {{}, weights.hook(0), weights.hook(1)}, request, job, {});
    QCOMPARE(page.texts().size(), std::size_t{3});
    for (std::size_t text = 0; text < 3; ++text) {
        QCOMPARE(page.texts()[text].tokens.size(), core[text].tokens.size());
        for (std::size_t i = 0; i < core[text].tokens.size(); ++i) {
            QCOMPARE(page.texts()[text].tokens[i].token, core[text].tokens[i].token);
            QCOMPARE(page.rows()[text]->tokens()[i].probability, core[text].tokens[i].probabilities[text]);
        }
        QCOMPARE(page.rows()[text]->framed(), text == 0 ? std::nullopt : first_difference(core[text], core[0]));
    }
    QVERIFY(page.rows()[2]->framed().has_value());

    moveMouse(*page.plot(), page.rows()[2]->rectOf(*page.rows()[2]->framed()).center().toPoint());
    const QString readout = page.plot()->readout().plainText();
    QVERIFY2(readout.contains("unquantized") && readout.contains("int8") && readout.contains("%"), qPrintable(readout));
    QCOMPARE(page.csv().count("\nint2,"), static_cast<qsizetype>(core[2].tokens.size()));

    // It stops at once and keeps what is there.
    page.findChild<QSpinBox*>("continuationTokens")->setValue(999);
    page.start();
    QVERIFY(QTest::qWaitFor([&] { return !page.texts().empty(); }, patience_ms));
    page.stop();
    QVERIFY(!page.busy());
    QVERIFY(!page.texts().empty());
}

void QualityTest::addedFormatIsEvaluated() {
    Shown shown("int4");
    shown.session.setFormats(parse_specs("int4,int3"));
    QVERIFY(
        QTest::qWaitFor([&] { return shown.view.data().results.size() == 2 && shown.view.settled(); }, patience_ms));
    QCOMPARE(shown.view.scores()->bars()->bars().size(), std::size_t{2});
    QVERIFY(shown.view.scores()->bars()->bars()[1].value > 0);
    QCOMPARE(shown.view.data().skills.size(), std::size_t{2});
}

void QualityTest::stopKeepsWhatIsThere() {
    Shown shown("int4");
    const double before = shown.view.scores()->bars()->bars()[0].value;
    shown.view.findChild<QSpinBox*>("evaluationTokens")->setValue(12000);
    auto* button = shown.view.findChild<QToolButton*>("evaluate");
    QTest::mouseClick(button, Qt::LeftButton);
    QCOMPARE(button->text(), QString("Stop"));
    QVERIFY(QTest::qWaitFor([&] { return shown.view.data().reference.tokens > 0; }, patience_ms));
    QTest::mouseClick(button, Qt::LeftButton);
    QCOMPARE(button->text(), QString("Evaluate"));
    const std::size_t tokens = shown.view.data().reference.tokens;
    QVERIFY(tokens > 0 && tokens <= 12000);
    QVERIFY(shown.view.scores()->bars()->bars()[0].value != before);
    QVERIFY(settle(shown.view));
    QCOMPARE(shown.view.data().reference.tokens, tokens);
}

void QualityTest::formatsThatCannotBeMadeAreNamed() {
    Shown shown("int4,iq2_xxs");
    QCOMPARE(shown.view.data().results.size(), std::size_t{1});
    const auto* table = shown.view.scores()->findChild<QTableWidget*>("qualityTable");
    QVERIFY(table->item(2, 0)->text().contains("iq2_xxs needs an importance matrix"));
}

void QualityTest::droppedTextIsChosen() {
    Shown shown("int4");
    QTemporaryDir folder;
    const QString path = folder.filePath("sums.txt");
    QFile file(path);
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write("12 + 7 = 19.\n3 + 44 = 47.\n");
    file.close();
    QMimeData data;
    data.setUrls({QUrl::fromLocalFile(path)});
    QDragEnterEvent enter({5, 5}, Qt::CopyAction, &data, Qt::LeftButton, {});
    QCoreApplication::sendEvent(&shown.view, &enter);
    QVERIFY(enter.isAccepted());
    QDropEvent drop(QPointF(5, 5), Qt::CopyAction, &data, Qt::LeftButton, {});
    QCoreApplication::sendEvent(&shown.view, &drop);
    QCOMPARE(shown.view.findChild<QComboBox*>("evaluationText")->currentText(), QString("sums.txt"));
    QTest::mouseClick(shown.view.findChild<QToolButton*>("evaluate"), Qt::LeftButton);
    QVERIFY(settle(shown.view));
    QVERIFY(shown.view.data().reference.tokens > 5 && shown.view.data().reference.tokens < 40);
}

void QualityTest::failureIsTold() {
    Shown shown("int4");
    QTemporaryDir folder;
    const QString path = folder.filePath("empty.txt");
    QFile file(path);
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(" ");
    file.close();
    std::optional<Failure> failure;
    connect(&shown.view, &View::failed, this, [&](const Failure& told) { failure = told; });
    file.remove();
    shown.view.addText(path);
    shown.view.run();
    QVERIFY(settle(shown.view));
    QVERIFY(failure.has_value());
    QVERIFY(failure->where.contains("empty.txt") || failure->what.contains("empty.txt"));
    QCOMPARE(shown.view.findChild<QToolButton*>("evaluate")->text(), QString("Evaluate"));
}

void QualityTest::modelThatCannotRunIsExplained() {
    OpenSession open("int4");
    QualityView view(&open.session);
    QVERIFY(showAndSettle(view));
    QString sentence;
    for (const QLabel* label : view.findChildren<QLabel*>())
        if (label->isVisible() && label->text().contains("cannot be run"))
            sentence = label->text();
    QVERIFY2(sentence.contains("config.json"), qPrintable(sentence));
}

QTEST_MAIN(QualityTest)
#include "gui_views_quality.moc"
