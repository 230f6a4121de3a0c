#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QLabel>
#include <QLineEdit>
#include <QMimeData>
#include <QPushButton>
#include <QSettings>
#include <QSpinBox>
#include <QTableWidget>
#include <QToolButton>
#include <QTreeWidget>

#include <cmath>

#include "app/gui/panels/MethodPicker.h"
#include "app/gui/views/QualityLayers.h"
#include "app/gui/views/QualityScores.h"
#include "app/gui/views/QualitySkills.h"
#include "app/gui/views/QualityText.h"
#include "app/gui/views/QualityTraining.h"
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

/// What core says of the same question, calibrated on what follows the evaluated text.
VariantResults expected(const QualityView& view, qs::gui::Session& session, std::size_t calibration_tokens = 8192) {
    const RunnableModel& model = *view.data().model;
    const auto file = MappedFile::open(model.material->text);
    const auto text = as_text(file->bytes());
    const auto all = text_windows(*model.tokenizer, model.decoder.config(), text,
                                  {usual_separator(text), usual_context(model.decoder.config(), true), 0});
    auto windows = all;
    keep_tokens(windows, 600);
    JobControl job;
    return evaluate_variants(model.decoder, view.data().variants, windows, *session.device(), job, {},
                             rest_of_text(all, windows.size(), calibration_tokens).windows);
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
    void methodsAreCalibratedAndPlotted();
    void stoppedMethodsLeaveTheRest();
    void methodsThatTakeNoFormatSayWhy();
    void inputsAreRounded();
    void trainingIsKeptComparedAndExported();
    void trainingEndsWithItsModel();
    void whatCannotBeTrainedOrWrittenSaysWhy();
    void tokenizerCanBeChosen();
    void withoutResultsThereAreNoAxes();
};

void QualityTest::initTestCase() {
    QCoreApplication::setOrganizationName("quantoscope-test");
    QCoreApplication::setApplicationName("quantoscope-quality-test");
    QSettings().clear();
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
    QVERIFY(table->item(2, 3)->toolTip().startsWith(
        QString::number(core.variants[1].scores.perplexity, 'g', QLocale::FloatingPointShortest)));
    const QList<QByteArray> lines = page.csv().trimmed().split('\n');
    QCOMPARE(lines.size(), 4);
    QCOMPARE(lines[3].split(',')[4].toDouble(), core.variants[1].scores.perplexity);

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
        const double weight = shown.session.result(place.tensor, shown.session.formats()[0])->relative_error();
        QVERIFY(std::abs(graphNamed(panes[1], "int4")->data()->at(at)->value / weight - 1) < 1e-9);
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
    const auto* left_out = shown.view.scores()->findChild<Caption*>("leftOut");
    QVERIFY(left_out->isVisible());
    QVERIFY(left_out->text().contains("iq2_xxs needs an importance matrix"));
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

namespace {

QTreeWidgetItem* methodItem(const QualityView& view, const QString& id) {
    const auto found = view.methods()->findChild<QTreeWidget*>("methodList")->findItems(id, Qt::MatchExactly);
    return found.isEmpty() ? nullptr : found.front();
}

bool allAreThere(const QualityView& view) {
    return view.settled() && std::ranges::all_of(view.data().variants, [&](const Variant& variant) {
               return view.data().result(variant) != nullptr && view.data().skills.contains(variant);
           });
}

/// Waits until the training has measured `points` steps.
bool trained(const QualityTraining& page, int points) {
    return QTest::qWaitFor([&] { return page.csv().count('\n') > points || !page.busy(); }, patience_ms);
}

} // namespace

void QualityTest::methodsAreCalibratedAndPlotted() {
    Shown shown("int4,q4_K");
    shown.view.findChild<QSpinBox*>("calibrationTokens")->setValue(1500);
    shown.view.methods()->setChosen(parse_methods("rtn,gptq:damp=0.05,imatrix"));
    QVERIFY(
        QTest::qWaitFor([&] { return shown.view.data().results.size() == 4 && allAreThere(shown.view); }, patience_ms));
    const auto& variants = shown.view.data().variants;
    QCOMPARE(variants.size(), std::size_t{4}); // GPTQ is not defined for q4_K, nor imatrix for int4
    QCOMPARE(variants[1].text(), std::string("int4 · gptq:damp=0.05"));
    const VariantResults core = expected(shown.view, shown.session, 1500);
    const QualityScores& page = *shown.view.scores();
    for (std::size_t i = 0; i < variants.size(); ++i) {
        QCOMPARE(page.bars()->bars()[i].value, core.variants[i].scores.perplexity);
        QCOMPARE(page.bars()->bars()[i].error, core.variants[i].scores.perplexity_stderr);
        QCOMPARE(page.points()->points()[i].key, core.variants[i].bits_per_weight);
        QCOMPARE(page.points()->points()[i].shape, shapeOf(variants[i]));
    }
    QVERIFY(page.points()->points()[0].shape != page.points()->points()[1].shape);
    QVERIFY(page.bars()->bars()[2].begins && !page.bars()->bars()[1].begins);
    QVERIFY(!page.points()->front().empty());
    QVERIFY(page.csv().contains("int4,gptq:damp=0.05,none,"));
    QVERIFY(shown.view.findChild<QWidget*>("calibrationText")->isEnabled());
    bool told = false;
    for (const Caption* caption : shown.view.findChildren<Caption*>())
        told |= caption->text().contains("calibrated on what follows the evaluated text");
    QVERIFY(told);

    // The table is sorted by its numbers.
    auto* table = page.findChild<QTableWidget*>("qualityTable");
    table->sortByColumn(4, Qt::AscendingOrder);
    std::vector<double> divergences;
    for (const VariantResult& result : core.variants)
        divergences.push_back(result.scores.kld_mean);
    std::ranges::sort(divergences);
    for (int row = 0; row < 4; ++row)
        QVERIFY(table->item(row, 4)->toolTip().startsWith(
            QString::number(divergences[static_cast<std::size_t>(row)], 'g', QLocale::FloatingPointShortest)));

    // Another calibration text leaves alone what was not calibrated.
    const double rounded = core.variants[0].scores.perplexity;
    shown.view.findChild<QSpinBox*>("calibrationTokens")->setValue(700);
    shown.view.run();
    QVERIFY(shown.view.data().result(variants[0]) != nullptr);
    QVERIFY(shown.view.data().result(variants[1]) == nullptr);
    QVERIFY(QTest::qWaitFor([&] { return allAreThere(shown.view); }, patience_ms));
    QCOMPARE(page.bars()->bars()[0].value, rounded);
    QVERIFY(page.bars()->bars()[1].value != core.variants[1].scores.perplexity);
}

void QualityTest::stoppedMethodsLeaveTheRest() {
    Shown shown("int4");
    const double rounded = shown.view.scores()->bars()->bars()[0].value;
    auto* button = shown.view.findChild<QToolButton*>("evaluate");
    shown.view.methods()->setChosen(parse_methods("rtn,awq"));
    QVERIFY(QTest::qWaitFor([&] { return button->text() == "Stop"; }, patience_ms));
    QTest::mouseClick(button, Qt::LeftButton);
    QVERIFY(settle(shown.view));
    QCOMPARE(shown.view.data().results.size(), std::size_t{1});
    QTest::mouseClick(button, Qt::LeftButton);
    QCOMPARE(shown.view.data().results.size(), std::size_t{1}); // goes on with what is missing
    QVERIFY(QTest::qWaitFor([&] { return allAreThere(shown.view); }, patience_ms));
    QCOMPARE(shown.view.scores()->bars()->bars()[0].value, rounded);
    QVERIFY(shown.view.scores()->bars()->bars()[1].value > 0);
}

void QualityTest::methodsThatTakeNoFormatSayWhy() {
    Shown shown("int4");
    QVERIFY(!methodItem(shown.view, "gptq")->isDisabled());
    QTreeWidgetItem* smoothquant = methodItem(shown.view, "smoothquant");
    QVERIFY(smoothquant->isDisabled());
    QVERIFY(smoothquant->toolTip(0).contains("int8"));
    shown.session.setFormats(parse_specs("int8"));
    QVERIFY(QTest::qWaitFor([&] { return !smoothquant->isDisabled(); }, patience_ms));
    // Parameters are those of the table of methods, and a change of one is another variant.
    auto* list = shown.view.methods()->findChild<QTreeWidget*>("methodList");
    list->setCurrentItem(methodItem(shown.view, "awq"));
    methodItem(shown.view, "awq")->setCheckState(0, Qt::Checked);
    shown.view.methods()->findChild<QCheckBox*>("parameter_clip")->setChecked(false);
    shown.view.methods()->findChild<QSpinBox*>("parameter_steps")->setValue(4);
    QCOMPARE(shown.view.methods()->chosen().back().text(), std::string("awq:steps=4,clip=0"));
    QVERIFY(QTest::qWaitFor([&] { return allAreThere(shown.view); }, patience_ms));
    QCOMPARE(shown.view.data().variants.back().method, shown.view.methods()->chosen().back());
}

void QualityTest::inputsAreRounded() {
    Shown shown("int8");
    const double before = shown.view.scores()->bars()->bars()[0].value;
    auto* inputs = shown.view.findChild<QComboBox*>("inputs");
    inputs->setCurrentIndex(inputs->findText("int8"));
    shown.view.methods()->setChosen(parse_methods("rtn,smoothquant"));
    QVERIFY(QTest::qWaitFor([&] { return shown.view.data().variants.size() == 2 && allAreThere(shown.view); },
                            patience_ms));
    QCOMPARE(shown.view.data().variants[0].text(), std::string("int8 · inputs int8"));
    QCOMPARE(shown.view.data().variants[1].text(), std::string("int8 · smoothquant"));
    const VariantResults core = expected(shown.view, shown.session);
    QCOMPARE(shown.view.scores()->bars()->bars()[0].value, core.variants[0].scores.perplexity);
    QCOMPARE(shown.view.scores()->bars()->bars()[1].value, core.variants[1].scores.perplexity);
    QVERIFY(core.variants[0].scores.perplexity != before);
}

void QualityTest::trainingIsKeptComparedAndExported() {
    Shown shown("int2,iq2_xxs");
    shown.view.showPage("Training");
    QualityTraining& page = *shown.view.training();
    QCOMPARE(page.findChild<QComboBox*>("trainingFormat")->currentText(), QString("int2"));
    QCOMPARE(page.findChild<QDoubleSpinBox*>("trainingRate")->text(), QString("automatic"));
    page.findChild<QSpinBox*>("trainingSteps")->setValue(4);
    auto* button = page.findChild<QToolButton*>("train");
    QTest::mouseClick(button, Qt::LeftButton);
    QCOMPARE(button->text(), QString("Stop"));
    QVERIFY(trained(page, 3));
    QTest::mouseClick(button, Qt::LeftButton);
    QVERIFY(QTest::qWaitFor([&] { return !page.busy(); }, 2000)); // at once
    QCOMPARE(page.kept().size(), std::size_t{1});
    const KeptTraining& kept = page.kept()[0];
    QVERIFY(kept.stopped && kept.run.curve.size() < 5);
    QVERIFY(kept.best_step > 0);
    QVERIFY(kept.best().validation_perplexity < kept.run.curve[0].validation_perplexity);
    const QCPGraph* perplexities = page.plot()->axisRects()[0]->graphs()[0];
    QCOMPARE(perplexities->dataCount(), static_cast<int>(kept.run.curve.size()));
    for (const QatPoint& point : kept.run.curve)
        QCOMPARE(perplexities->data()->at(point.step)->value, point.validation_perplexity);
    QCOMPARE(page.plot()->axisRects()[1]->graphs()[0]->dataCount(), static_cast<int>(kept.run.curve.size()) - 1);

    QCOMPARE(page.plot()->axisRects()[0]->graphs()[1]->data()->at(0)->key, kept.best_step); // marked as kept

    // It is compared like any other variant, by itself.
    QVERIFY(QTest::qWaitFor([&] { return shown.view.data().variants.size() == 2 && allAreThere(shown.view); },
                            patience_ms));
    const Variant variant = shown.view.data().variants[1];
    QCOMPARE(variant.text(), std::string("int2 · qat"));
    shown.view.showPage("Predictions");
    const auto& bars = shown.view.scores()->bars()->bars();
    QVERIFY(bars[1].value < bars[0].value);
    QVERIFY(!shown.view.data().result(variant)->linears.empty());
    QVERIFY(shown.view.data().skills.contains(variant));
    QVERIFY(shown.view.csv().contains("int2,qat,"));

    // Written, it opens again as the same model.
    const QTemporaryDir folder;
    const QString path = folder.filePath("model.safetensors");
    page.exportTo(0, path);
    QVERIFY(page.busy());
    QVERIFY(QTest::qWaitFor([&] { return !page.busy(); }, patience_ms));
    const RunnableModel& model = *shown.view.data().model;
    const Decoder written(open_checkpoint(path.toStdString()));
    const std::vector<int> ids = model.tokenizer->encode("Bram lives in", model.tokenizer->defaults());
    JobControl job;
    const VariantWeights weights(model.decoder, {variant}, *shown.session.device(), job);
    QVERIFY(written.run(ids) == model.decoder.run(ids, weights.hook(0)));
    QVERIFY(open_tokenizer(written.weights().checkpoint()) != nullptr);

    // Never over what is open.
    std::optional<Failure> failure;
    connect(&shown.view, &View::failed, this, [&](const Failure& told) { failure = told; });
    page.exportTo(0, demo + "/model.safetensors");
    QVERIFY(QTest::qWaitFor([&] { return !page.busy(); }, patience_ms));
    QVERIFY(failure && failure->what.contains("open checkpoint"));

    // A second one has a name of its own; removed, they are gone everywhere.
    shown.view.showPage("Training");
    page.findChild<QSpinBox*>("trainingSteps")->setValue(1);
    page.start();
    QVERIFY(QTest::qWaitFor([&] { return page.kept().size() == 2; }, patience_ms));
    QCOMPARE(page.kept()[1].variant().text(), std::string("int2 · qat 2"));
    QVERIFY(!page.kept()[1].stopped);
    QCOMPARE(page.findChild<QTableWidget*>("trainings")->rowCount(), 2);
    page.remove(1);
    QTest::mouseClick(page.findChild<QPushButton*>("removeTraining"), Qt::LeftButton);
    QVERIFY(page.kept().empty());
    QVERIFY(QTest::qWaitFor([&] { return shown.view.data().variants.size() == 1; }, patience_ms));
}

void QualityTest::trainingEndsWithItsModel() {
    Shown shown("int3");
    shown.view.showPage("Training");
    QualityTraining& page = *shown.view.training();
    page.start();
    QVERIFY(trained(page, 2));
    const QTemporaryDir folder;
    for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"})
        QVERIFY(QFile::copy(demo + '/' + name, folder.filePath(name)));
    const auto before = shown.session.checkpoint();
    shown.session.open(folder.path());
    QVERIFY(QTest::qWaitFor([&] { return shown.session.checkpoint() != before && !page.busy(); }, patience_ms));
    QVERIFY(settle(shown.view));
    QVERIFY(page.kept().empty());
    QCOMPARE(page.findChild<QToolButton*>("train")->text(), QString("Train"));
}

void QualityTest::whatCannotBeTrainedOrWrittenSaysWhy() {
    Shown shown("iq2_xxs,nf4");
    shown.view.showPage("Training");
    QualityTraining& page = *shown.view.training();
    const auto* formats = page.findChild<QComboBox*>("trainingFormat");
    QCOMPARE(formats->currentText(), QString("nf4"));
    QVERIFY(!(formats->model()->index(0, 0).flags() & Qt::ItemIsEnabled));
    QVERIFY(formats->itemData(0, Qt::ToolTipRole).toString().contains("importance"));
    const auto* learned = page.findChild<QCheckBox*>("trainingLearned");
    QVERIFY(!learned->isEnabled() && learned->toolTip().contains("nf4"));

    const QString gguf =
        QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/derived/gguf/stories260K-f16.gguf");
    if (!QFile::exists(gguf))
        QSKIP("there is no GGUF model");
    shown.session.open(gguf);
    QVERIFY(QTest::qWaitFor([&] { return shown.view.data().model && shown.view.data().model->decoder.config().gguf; },
                            patience_ms));
    QVERIFY(settle(shown.view));
    QVERIFY(page.findChild<QPushButton*>("exportTraining")->toolTip().contains("GGUF"));
}

void QualityTest::tokenizerCanBeChosen() {
    const QTemporaryDir folder;
    for (const char* name : {"model.safetensors", "config.json"})
        QVERIFY(QFile::copy(demo + '/' + name, folder.filePath(name)));
    qs::gui::Session session;
    session.setFormats(parse_specs("int4"));
    session.open(folder.path());
    QVERIFY(QTest::qWaitFor([&] { return session.checkpoint() != nullptr; }, patience_ms));
    QualityView view(&session);
    QVERIFY(showAndSettle(view));
    const QPushButton* choose = nullptr;
    for (const QPushButton* button : view.findChildren<QPushButton*>())
        if (button->isVisible() && button->text() == "Choose tokenizer…")
            choose = button;
    QVERIFY(choose != nullptr);
    QVERIFY(view.data().model == nullptr);
    view.useTokenizer(demo + "/tokenizer.json");
    QVERIFY(QTest::qWaitFor([&] { return view.data().model != nullptr; }, patience_ms));
    QVERIFY(settle(view));
    QVERIFY(!choose->isVisible());
}

void QualityTest::withoutResultsThereAreNoAxes() {
    const QTemporaryDir folder; // without a text of its own
    for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"})
        QVERIFY(QFile::copy(demo + '/' + name, folder.filePath(name)));
    qs::gui::Session session;
    session.setFormats(parse_specs("int4"));
    session.open(folder.path());
    QVERIFY(QTest::qWaitFor([&] { return session.checkpoint() != nullptr; }, patience_ms));
    QualityView view(&session);
    QVERIFY(showAndSettle(view));
    QVERIFY(view.data().results.empty());
    for (const char* page : {"Predictions", "Layer errors", "Training"}) {
        view.showPage(page);
        for (const QCPAxisRect* pane : view.page()->plot()->axisRects())
            QVERIFY2(!pane->realVisibility(), page);
    }
    // The program's text is offered to every model.
    view.findChild<QSpinBox*>("evaluationTokens")->setValue(300);
    view.showPage("Predictions");
    QTest::mouseClick(view.findChild<QToolButton*>("evaluate"), Qt::LeftButton);
    QVERIFY(settle(view));
    QCOMPARE(view.data().reference.tokens, std::size_t{300});
    QVERIFY(view.page()->plot()->axisRects().front()->realVisibility());
}

QTEST_MAIN(QualityTest)
#include "gui_views_quality.moc"
