#include <QComboBox>
#include <QDir>
#include <QElapsedTimer>
#include <QLineEdit>
#include <QSettings>
#include <QSpinBox>
#include <QTabWidget>
#include <QTest>

#include "app/gui/MainWindow.h"
#include "app/gui/panels/MethodPicker.h"
#include "app/gui/plot/Theme.h"
#include "app/gui/views/QualityText.h"
#include "app/gui/views/QualityTraining.h"
#include "app/gui/views/QualityView.h"
#include "app/gui/views/View.h"
#include "core/base/resources.h"
#include "core/formats/registry.h"

using namespace qs;
using namespace qs::gui;

/// Writes a picture of each view on the demo model, light and dark, into screenshots/ of the build folder.
class Screenshots : public QObject {
    Q_OBJECT

private slots:
    void initTestCase();
    void views_data();
    void views();

private:
    static void chooseModel(View& view, const QString& card);
    void showBlock(View& view);
    void showPage(QualityView& view, const QString& page);

    std::unique_ptr<MainWindow> window_;
};

void Screenshots::initTestCase() {
    if (!std::filesystem::exists(resource_dir() / "demo" / "model.safetensors"))
        QSKIP("resources/demo holds no model");
    QCoreApplication::setOrganizationName("quantoscope-screenshots");
    QCoreApplication::setApplicationName("quantoscope-screenshots");
    QSettings().clear();
    window_ = std::make_unique<MainWindow>();
    window_->resize(1280, 800);
    window_->show();
    window_->openDemo();
    gui::Session* session = window_->session();
    QVERIFY(QTest::qWaitFor([&] { return session->checkpoint() != nullptr; }, 30000));
    QVERIFY(QTest::qWaitFor([&] { return !session->running() && !session->model().model.empty(); }, 120000));
    QVERIFY(QDir().mkpath(QUANTOSCOPE_BUILD_DIR "/screenshots"));
}

void Screenshots::views_data() {
    QTest::addColumn<QString>("view");
    QTest::addColumn<bool>("dark");
    QTest::addColumn<bool>("block");
    for (const char* view : {"Histogram", "Bins", "Layers", "Memory"})
        for (const bool dark : {false, true})
            QTest::addRow("%s-%s", QByteArray(view).toLower().constData(), dark ? "dark" : "light")
                << QString(view) << dark << false;
    for (const char* page : {"Training", "Predictions", "Layer errors", "Text", "Skills"})
        for (const bool dark : {false, true})
            QTest::addRow("quality-%s-%s", QByteArray(page).toLower().replace(' ', '-').constData(),
                          dark ? "dark" : "light")
                << QStringLiteral("Quality/") + page << dark << false;
    for (const bool dark : {false, true})
        QTest::addRow("block-%s", dark ? "dark" : "light") << QString("Bins") << dark << true;
}

/// Formats whose blocks differ, around one weight.
void Screenshots::showBlock(View& view) {
    gui::Session* session = window_->session();
    session->setFormats(parse_specs("nf4,q4_K,q2_K,iq4_nl,mxfp4_ggml"));
    session->selectFormat(0);
    session->selectElement(1000);
    view.findChild<QComboBox*>("binsPart")->setCurrentIndex(1);
    QVERIFY(QTest::qWaitFor([&] { return !session->running(); }, 120000));
}

/// A page of the Quality view, in formats that lose something.
void Screenshots::showPage(QualityView& view, const QString& page) {
    gui::Session* session = window_->session();
    session->setFormats(parse_specs("int8,nf4,int4,q3_K,int3,int2"));
    view.methods()->setChosen(parse_methods(page == "Text" ? "rtn" : "rtn,gptq:act_order,static_groups"));
    view.showPage(page);
    QTest::qWait(50);
    QVERIFY(QTest::qWaitFor([&] { return !session->running() && view.settled(); }, 240000));
    view.findChild<QComboBox*>("scoreMetric")->setCurrentIndex(1); // spread over decades, unlike perplexity
    if (page == "Training" && view.training()->kept().empty()) {
        view.training()->findChild<QComboBox*>("trainingFormat")->setCurrentText("int2");
        view.training()->findChild<QSpinBox*>("trainingSteps")->setValue(30);
        view.training()->start();
        QVERIFY(QTest::qWaitFor([&] { return !session->running() && view.settled(); }, 240000));
    }
    if (page == "Text" && view.text()->texts().empty()) {
        view.text()->findChild<QLineEdit*>("prompt")->setText("Petra the potter lives in");
        view.text()->start();
    }
}

void Screenshots::chooseModel(View& view, const QString& card) {
    auto* models = view.findChild<QComboBox*>("model");
    const int index = models->findData(card);
    QVERIFY(index >= 0);
    models->setCurrentIndex(index);
    emit models->activated(index);
}

void Screenshots::views() {
    QFETCH(QString, view);
    const QString page = view.section('/', 1);
    view = view.section('/', 0, 0);
    QFETCH(bool, dark);
    QFETCH(bool, block);
    if (!window_)
        QSKIP("resources/demo holds no model");
    Theme::instance().setMode(dark ? Theme::Mode::dark : Theme::Mode::light);
    auto* tabs = window_->findChild<QTabWidget*>();
    View* shown = nullptr;
    for (int i = 0; i < tabs->count(); ++i)
        if (auto* candidate = qobject_cast<View*>(tabs->widget(i)); candidate && candidate->title() == view) {
            tabs->setCurrentIndex(i);
            shown = candidate;
        }
    QVERIFY(shown != nullptr);
    if (view == "Memory") // of a model for which memory is a question
        chooseModel(*shown, "llama-3.1-8b");
    if (block)
        showBlock(*shown);
    if (!page.isEmpty())
        showPage(static_cast<QualityView&>(*shown), page);
    QTest::qWait(50);
    QVERIFY(QTest::qWaitFor([&] { return shown->settled(); }, 60000));
    QTest::qWait(100);

    const QImage picture = window_->grab().toImage().convertToFormat(QImage::Format_RGB32);
    QCOMPARE(picture.size(), QSize(1280, 800));
    const QString path = QStringLiteral(QUANTOSCOPE_BUILD_DIR "/screenshots/%1.png").arg(QTest::currentDataTag());
    QVERIFY2(picture.save(path), qPrintable(path));

    // Not blank: the plot holds many colours, on the ground of the theme.
    const QImage plot = shown->activePlot()->grab().toImage().convertToFormat(QImage::Format_RGB32);
    QCOMPARE(plot.pixelColor(1, 1), Theme::instance().background());
    QSet<QRgb> colours;
    int ground = 0;
    for (int y = 0; y < plot.height(); ++y)
        for (int x = 0; x < plot.width(); ++x) {
            colours << plot.pixel(x, y);
            ground += plot.pixelColor(x, y) == Theme::instance().background();
        }
    QVERIFY(colours.size() > 50);
    QVERIFY(ground < plot.width() * plot.height() * 97 / 100);
}

QTEST_MAIN(Screenshots)
#include "screenshots.moc"
