#include <QAction>
#include <QApplication>
#include <QClipboard>
#include <QLabel>
#include <QMenu>
#include <QPushButton>
#include <QSettings>
#include <QSignalSpy>
#include <QStandardPaths>
#include <QTableWidget>
#include <QTemporaryDir>
#include <QTest>
#include <QToolButton>

#include <atomic>
#include <thread>

#include "app/gui/MainWindow.h"
#include "app/gui/panels/DeviceChooser.h"
#include "app/gui/panels/DeviceComparison.h"
#include "app/gui/panels/FailureBanner.h"
#include "core/device/device_group.h"
#include "core/formats/registry.h"
#include "gui_frame_files.h"
#include "tests/core/device/made_devices.h"

using namespace qs;
using namespace qs::gui;
using qs::test::NamedDevice;

namespace {

constexpr int patience_ms = 30000;

/// A machine with a CPU, a GPU that can be used ("cuda:0") and one that cannot unless it is said so ("cuda:1"). What it
/// does is asked for through these members, which outlive the window.
struct Machine {
    std::atomic<bool> has_gpu = true;
    std::atomic<bool> gpu_can_be_made = true;
    std::atomic<bool> second_is_old = true;
    std::atomic<int> works_for = -1;
    std::atomic<double> error_factor = 1;
    std::atomic<int> made = 0;
    std::atomic<bool> has_note = false;

    DeviceSource source() {
        return {[this] { return list(); }, [this](const std::string& id) { return make(id); }};
    }

private:
    std::vector<DeviceInfo> list() const {
        DeviceInfo cpu = make_cpu_device(1)->info();
        DeviceInfo gpu = NamedDevice("cuda:0", "cuda", 1).info();
        gpu.usable = has_gpu;
        gpu.reason = has_gpu ? "" : "no NVIDIA driver is installed";
        DeviceInfo old = NamedDevice("cuda:1", "cuda", 1).info();
        old.usable = !second_is_old;
        old.reason = second_is_old ? "the GPU is older than compute capability 7.5" : "";
        return with_gpu_group({cpu, gpu, old});
    }

    std::unique_ptr<Device> make(const std::string& id) {
        ++made;
        if (id == "cpu")
            return make_cpu_device(1);
        if (id == "cuda" && !second_is_old) {
            std::vector<std::unique_ptr<Device>> members;
            for (const char* member : {"cuda:0", "cuda:1"})
                members.push_back(std::make_unique<NamedDevice>(member, "cuda", 1));
            return make_device_group(std::move(members));
        }
        if (id != "cuda:0" || !has_gpu)
            throw Error("device '" + id + "'", "there is no GPU with this number", "use --device cpu");
        if (!gpu_can_be_made)
            throw Error("CUDA", "cudaMalloc failed: out of memory");
        auto device = std::make_unique<NamedDevice>(id, "cuda", 2);
        device->works_for = works_for.load();
        device->error_factor = error_factor.load();
        if (has_note)
            device->said.add("out of GPU memory: tensors go through in smaller pieces");
        return device;
    }
};

} // namespace

/// The chooser of the device, the throughput beside the memory's, and the comparison of two devices.
class GuiDevicesTest : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString small_, big_;

    static bool settled(const MainWindow& window) {
        return QTest::qWaitFor(
            [&] {
                const Session* session = window.session();
                return !session->devices().empty() && session->checkpoint() && !session->running() &&
                       session->measured() && !session->model().model.empty();
            },
            patience_ms);
    }
    static bool measuredOn(const MainWindow& window, const QString& id) {
        return QTest::qWaitFor(
                   [&] {
                       return window.session()->device()->info().id == id.toStdString() && !window.session()->running();
                   },
                   patience_ms) &&
               settled(window);
    }
    bool openSmall(MainWindow& window, const char* formats = "nf4,q8_0") const {
        window.show();
        window.session()->setFormats(parse_specs(formats));
        window.open(small_);
        return QTest::qWaitForWindowExposed(&window) && settled(window);
    }
    static DeviceChooser* chooser(const MainWindow& window) { return window.findChild<DeviceChooser*>(); }
    static QAction* entry(const QMenu* menu, const QString& id) {
        for (QAction* each : menu->actions())
            if (each->data().toString() == id)
                return each;
        return nullptr;
    }
    static QAction* device(const MainWindow& window, const QString& id) { return entry(chooser(window)->menu(), id); }
    static QAction* comparison(const MainWindow& window) { return window.findChild<QAction*>("compareDevices"); }
    static QString banner(const MainWindow& window) {
        return window.banner()->isVisible() ? window.banner()->text() : QString();
    }
    /// The comparison that was begun, once it has ended.
    static DeviceComparison* compared(const MainWindow& window) {
        auto* panel = window.findChild<DeviceComparison*>();
        return panel && QTest::qWaitFor([&] { return !panel->running(); }, patience_ms) ? panel : nullptr;
    }
    static QString cell(const DeviceComparison* panel, int row, int column) {
        return panel->findChild<QTableWidget*>("comparison")->item(row, column)->text();
    }
    static QString verdict(const DeviceComparison* panel) {
        return panel->findChild<QLabel*>("comparisonVerdict")->text();
    }

private slots:
    void initTestCase() {
        QStandardPaths::setTestModeEnabled(true);
        QCoreApplication::setOrganizationName("quantoscope-test");
        QCoreApplication::setApplicationName("quantoscope-test-devices");
        QSettings::setDefaultFormat(QSettings::IniFormat);
        QSettings::setPath(QSettings::IniFormat, QSettings::UserScope, folder_.filePath("settings"));
        small_ = folder_.filePath("small.safetensors");
        big_ = folder_.filePath("big.safetensors");
        writeSafetensors(small_, decoder(2, 64));
        writeSafetensors(big_, decoder(6, 768));
    }
    void init() { QSettings().clear(); }

    void theGpuIsTheDefaultAndAllAreListed() {
        Machine machine;
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QCOMPARE(window.session()->deviceId(), QString("cuda:0"));
        QCOMPARE(chooser(window)->text(), QString("device: Made cuda:0"));
        QVERIFY(device(window, "cpu")->isEnabled() && !device(window, "cpu")->isChecked());
        QVERIFY(device(window, "cuda:0")->isEnabled() && device(window, "cuda:0")->isChecked());
        QAction* old = device(window, "cuda:1");
        QVERIFY(!old->isEnabled());
        for (const QString& text : {old->text(), old->toolTip()})
            QVERIFY2(text.contains("older than compute capability 7.5"), qPrintable(text));
        QVERIFY(banner(window).isEmpty());
        QVERIFY(QSettings().value("device").isNull());
    }

    void severalGpusAreTheDefaultTogether() {
        Machine machine;
        machine.second_is_old = false;
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QCOMPARE(window.session()->deviceId(), QString("cuda"));
        QCOMPARE(chooser(window)->text(), QString("device: all 2 GPUs"));
        QVERIFY(device(window, "cuda")->isChecked() && device(window, "cuda")->text().startsWith("all 2 GPUs · "));
        QVERIFY(device(window, "cuda")->toolTip().startsWith("Made cuda:0 + Made cuda:1"));
        for (const char* one : {"cpu", "cuda:0", "cuda:1"})
            QVERIFY(device(window, one)->isEnabled() && !device(window, one)->isChecked());
        device(window, "cuda:0")->trigger();
        QVERIFY(measuredOn(window, "cuda:0"));
        QVERIFY(!device(window, "cuda")->isChecked());
    }

    void withoutAGpuTheCpuIs() {
        Machine machine;
        machine.has_gpu = false;
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QCOMPARE(chooser(window)->text(), QString("device: CPU"));
        QVERIFY(!device(window, "cuda:0")->isEnabled());
        QVERIFY(!comparison(window)->isEnabled());
        QVERIFY2(comparison(window)->toolTip().contains("no NVIDIA driver is installed"),
                 qPrintable(comparison(window)->toolTip()));
        QVERIFY(!window.findChild<QMenu*>("deviceComparisons")->isEnabled());
        QVERIFY(banner(window).isEmpty());
    }

    void aChosenDeviceMeasuresAnewAndIsRemembered() {
        Machine machine;
        machine.error_factor = 2; // so that it can be told which device has measured
        {
            MainWindow window(nullptr, machine.source());
            QVERIFY(openSmall(window));
            const Session* session = window.session();
            const std::size_t tensor = session->coverage().tensors.front();
            const double on_gpu = session->result(tensor, parse_spec("nf4"))->sums.sum_d2;
            QSignalSpy changed(session, &Session::deviceChanged);
            device(window, "cpu")->trigger();
            QVERIFY(changed.wait(patience_ms));
            // What the GPU has measured stays in sight.
            QVERIFY(session->running() && session->report(tensor) != nullptr);
            QVERIFY(measuredOn(window, "cpu"));
            for (const std::size_t each : session->coverage().tensors)
                QCOMPARE(session->report(each)->results.size(), std::size_t{2});
            QCOMPARE(on_gpu, 2 * session->result(tensor, parse_spec("nf4"))->sums.sum_d2);
            QCOMPARE(chooser(window)->text(), QString("device: CPU"));
            QVERIFY(device(window, "cpu")->isChecked());
        }
        MainWindow later(nullptr, machine.source());
        QVERIFY(openSmall(later));
        QCOMPARE(later.session()->deviceId(), QString("cpu"));
        device(later, "cuda:0")->trigger();
        QVERIFY(measuredOn(later, "cuda:0"));
        QCOMPARE(QSettings().value("device").toString(), QString("cuda:0"));
    }

    void switchingWhileRunningDeliversNothingStale() {
        Machine machine;
        machine.error_factor = 1e6;
        Session session(nullptr, machine.source());
        session.setDevice("cuda:0");
        session.setFormats(parse_specs("nf4,int8"));
        session.open(big_);
        QVERIFY(QTest::qWaitFor(
            [&] { return session.checkpoint() && session.deviceId() == "cuda:0" && !session.devices().empty(); },
            patience_ms));
        session.analyse();
        QVERIFY(QTest::qWaitFor([&] { return session.measured(); }, patience_ms));
        QVERIFY(session.running());
        session.setDevice("cpu");
        QVERIFY(QTest::qWaitFor([&] { return !session.running(); }, patience_ms));
        QTest::qWait(200);
        const auto cpu = make_cpu_device(2);
        JobControl job;
        const auto expected = analyze(*session.checkpoint(), session.coverage().tensors, session.formats(), *cpu, job);
        for (const TensorReport& report : expected)
            for (const FormatResult& result : report.results)
                QCOMPARE(session.result(report.tensor, result.spec)->sums.sum_d2, result.sums.sum_d2);
    }

    void aRememberedDeviceThatIsGone() {
        Machine machine;
        QSettings().setValue("device", "cuda:7");
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QCOMPARE(window.session()->deviceId(), QString("cuda:0"));
        QCOMPARE(banner(window), QString("cuda:7: there is no GPU with this number; Made cuda:0 (cuda:0) does the "
                                         "work instead"));
        QCOMPARE(QSettings().value("device").toString(), QString("cuda:7")); // it may come back
    }

    void aDeviceThatCannotBeMade() {
        Machine machine;
        machine.gpu_can_be_made = false;
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QCOMPARE(window.session()->deviceId(), QString("cpu"));
        QVERIFY2(banner(window).startsWith("Made cuda:0 (cuda:0): cudaMalloc failed: out of memory"),
                 qPrintable(banner(window)));
        QVERIFY(banner(window).endsWith("(cpu) does the work instead"));
        QCOMPARE(machine.made.load(), 2); // tried once, then the CPU
    }

    void theCpuGoesOnWhereTheGpuFails() {
        Machine machine;
        machine.works_for = 3;
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QVERIFY(measuredOn(window, "cpu"));
        QVERIFY(QTest::qWaitFor([&] { return !banner(window).isEmpty(); }, patience_ms));
        QCOMPARE(banner(window), QString("Made cuda:0 (cuda:0) has failed: the GPU has fallen off the bus; the CPU "
                                         "does the work instead"));
        for (const std::size_t tensor : window.session()->coverage().tensors)
            QVERIFY(window.session()->report(tensor) != nullptr);
        QCOMPARE(chooser(window)->text(), QString("device: CPU"));
        // It may be tried again.
        machine.works_for = -1;
        device(window, "cuda:0")->trigger();
        QVERIFY(measuredOn(window, "cuda:0"));
    }

    void notesAreShownOnce() {
        Machine machine;
        machine.has_note = true;
        MainWindow window(nullptr, machine.source());
        QSignalSpy noted(window.session(), &Session::deviceNoted);
        QVERIFY(openSmall(window));
        QVERIFY(QTest::qWaitFor([&] { return noted.count() == 1; }, patience_ms));
        QCOMPARE(banner(window), QString("out of GPU memory: tensors go through in smaller pieces"));
        window.session()->setFormats(parse_specs("nf4,q8_0,int8"));
        QVERIFY(settled(window));
        QTest::qWait(1100);
        QCOMPARE(noted.count(), 1);
    }

    void throughputBesideTheMemorys() {
        Machine machine;
        MainWindow window(nullptr, machine.source());
        window.resize(1280, 800);
        QVERIFY(openSmall(window));
        auto* throughput = window.findChild<QToolButton*>("throughput");
        QCOMPARE(window.session()->readGbps(), 0.0); // never before the analysis
        QVERIFY(QTest::qWaitFor([&] { return window.session()->readGbps() > 0; }, patience_ms));
        QCOMPARE(window.session()->readGbps(), 10.0);
        QTRY_VERIFY(throughput->text().contains("% of the memory's 10.0\u2009GB/s"));
        QVERIFY2(throughput->text().contains("weights/s") && throughput->text().endsWith("Made cuda:0"),
                 qPrintable(throughput->text()));
        const Session::Progress run = window.session()->progress();
        QCOMPARE(run.share_of(10), run.bytes_per_second / 10e9);
        QCOMPARE(run.weights_per_second(), run.bytes_per_second / 4); // of float32
        QVERIFY(run.seconds > 0 && run.done == run.total);
        QVERIFY(throughput->toolTip().contains("weights/s"));

        // It is measured once a device, and again on a click.
        device(window, "cpu")->trigger();
        QVERIFY(measuredOn(window, "cpu"));
        QCOMPARE(window.session()->readGbps(), 0.0);
        device(window, "cuda:0")->trigger();
        QVERIFY(measuredOn(window, "cuda:0"));
        QCOMPARE(window.session()->readGbps(), 10.0);
        QTest::mouseClick(throughput, Qt::LeftButton);
        QVERIFY(window.session()->measuringRead());
        QVERIFY2(throughput->text().contains("measuring the memory"), qPrintable(throughput->text()));
        QTRY_VERIFY(!window.session()->measuringRead());
    }

    void anAnalysisComesBeforeTheMeasurement() {
        MainWindow window; // on the real CPU, whose measurement takes a while
        window.show();
        window.session()->setDevice("cpu");
        QVERIFY(openSmall(window));
        QVERIFY(QTest::qWaitFor([&] { return window.session()->measuringRead(); }, patience_ms));
        window.open(big_);
        QVERIFY(QTest::qWaitFor([&] { return window.session()->running(); }, patience_ms));
        QVERIFY(!window.session()->measuringRead());
        QVERIFY(settled(window));
        QVERIFY(QTest::qWaitFor([&] { return window.session()->readGbps() > 0; }, patience_ms));
    }

    void theBarSaysLessWithLessRoom() {
        Machine machine;
        MainWindow window(nullptr, machine.source());
        window.resize(1600, 800);
        const QString name = QString(60, 'n') + ".safetensors";
        QVERIFY(QFile::copy(small_, folder_.filePath(name)));
        QVERIFY(openSmall(window));
        window.open(folder_.filePath(name));
        QTRY_VERIFY(window.windowTitle().startsWith(name));
        QVERIFY(settled(window));
        QVERIFY(QTest::qWaitFor([&] { return window.session()->readGbps() > 0; }, patience_ms));
        auto* throughput = window.findChild<QToolButton*>("throughput");
        auto* text = window.findChild<QLabel*>("progressText");
        const auto fits = [&] {
            return text->width() >= text->sizeHint().width() && throughput->width() >= throughput->sizeHint().width() &&
                   throughput->mapTo(&window, QPoint(throughput->width(), 0)).x() <= window.width();
        };
        QTRY_VERIFY(fits());
        const QString wide = text->text() + throughput->text();
        QVERIFY(wide.contains("analysed in"));
        window.resize(1024, 700);
        QTRY_COMPARE(window.width(), 1024);
        QTRY_VERIFY(fits());
        QVERIFY(text->text().startsWith(name.left(20)));
        QVERIFY((text->text() + throughput->text()).size() < wide.size());
        QVERIFY2(throughput->text().contains(" of the memory's "), qPrintable(throughput->text()));
        window.resize(window.minimumSizeHint());
        QTRY_VERIFY(fits());
    }

    void comparesWithTheCpu() {
        Machine machine;
        MainWindow window(nullptr, machine.source());
        QVERIFY(!comparison(window)->isEnabled());
        QVERIFY(openSmall(window));
        QTRY_VERIFY(comparison(window)->isEnabled());
        QCOMPARE(comparison(window)->text(), QString("Compare with the CPU…"));
        comparison(window)->trigger();
        const DeviceComparison* panel = compared(window);
        QVERIFY(panel != nullptr && panel->isVisible() && !panel->window()->isModal());
        QVERIFY2(verdict(panel).startsWith("The results agree: all "), qPrintable(verdict(panel)));
        QVERIFY(panel->findChild<QLabel*>("comparisonTitle")->text().startsWith("Made cuda:0 beside CPU"));
        QCOMPARE(panel->findChild<QTableWidget*>("comparison")->rowCount(), 4);
        const QStringList names{"Weights", "nf4", "q8_0", "All"};
        for (int row = 0; row < 4; ++row) {
            QCOMPARE(cell(panel, row, 0), names[row]);
            QCOMPARE(cell(panel, row, 1), QString::number(window.session()->coverage().tensors.size()));
            QVERIFY(cell(panel, row, 2).endsWith(" equal"));
            QCOMPARE(cell(panel, row, 3), QString("0"));
        }
        panel->findChild<QPushButton*>("comparisonCopy")->click();
        QVERIFY(QGuiApplication::clipboard()->text().contains("nf4\t16\t0 of "));
    }

    void aDeviationIsShownWithItsPlace() {
        Machine machine;
        machine.error_factor = 1 + 1e-6;
        QSettings().setValue("device", "cpu");
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QTRY_VERIFY(comparison(window)->isEnabled());
        QCOMPARE(comparison(window)->text(), QString("Compare with Made cuda:0…"));
        QAction* other = entry(window.findChild<QMenu*>("deviceComparisons"), "cuda:0");
        QVERIFY(other != nullptr);
        QVERIFY(entry(window.findChild<QMenu*>("deviceComparisons"), "cpu") == nullptr);
        other->trigger();
        const DeviceComparison* panel = compared(window);
        QVERIFY(panel != nullptr);
        QVERIFY2(verdict(panel).startsWith("The results do not agree: all counts are equal"),
                 qPrintable(verdict(panel)));
        QVERIFY(cell(panel, 0, 0) == "Weights" && cell(panel, 0, 3) == "0");
        QCOMPARE(cell(panel, 1, 0), QString("nf4 !"));
        QCOMPARE(cell(panel, 1, 3), QString("1.00·10⁻⁶"));
        QVERIFY2(cell(panel, 1, 4).startsWith("mse of ") && cell(panel, 1, 4).endsWith(".weight"),
                 qPrintable(cell(panel, 1, 4)));
        QVERIFY(cell(panel, 3, 2).endsWith(" equal"));
    }

    void theOtherDeviceIsNotReplacedByTheCpu() {
        Machine machine;
        machine.works_for = 3;
        QSettings().setValue("device", "cpu");
        MainWindow window(nullptr, machine.source());
        QVERIFY(openSmall(window));
        QTRY_VERIFY(comparison(window)->isEnabled());
        comparison(window)->trigger();
        const DeviceComparison* panel = compared(window);
        QVERIFY(panel != nullptr);
        QVERIFY2(verdict(panel).contains("cuda:0") && verdict(panel).contains("the GPU has fallen off the bus"),
                 qPrintable(verdict(panel)));
        QCOMPARE(panel->findChild<QTableWidget*>("comparison")->rowCount(), 0);
        QCOMPARE(window.session()->deviceId(), QString("cpu"));
    }

    void aComparisonEndsWithItsWindow() {
        Machine machine;
        MainWindow window(nullptr, machine.source());
        window.show();
        window.open(big_);
        QVERIFY(settled(window));
        QTRY_VERIFY(comparison(window)->isEnabled());
        comparison(window)->trigger();
        auto* panel = window.findChild<DeviceComparison*>();
        QVERIFY(panel->running());
        panel->window()->close();
        QVERIFY(QTest::qWaitFor([&] { return window.findChild<DeviceComparison*>() == nullptr; }));
        QTest::qWait(50);
    }
};

QTEST_MAIN(GuiDevicesTest)
#include "gui_devices.moc"
