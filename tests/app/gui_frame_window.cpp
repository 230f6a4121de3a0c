#include <QAction>
#include <QApplication>
#include <QClipboard>
#include <QComboBox>
#include <QDockWidget>
#include <QDropEvent>
#include <QElapsedTimer>
#include <QFileDialog>
#include <QImage>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QMimeData>
#include <QPushButton>
#include <QSettings>
#include <QSignalSpy>
#include <QStandardPaths>
#include <QTabWidget>
#include <QTemporaryDir>
#include <QTest>
#include <QToolButton>
#include <QTreeView>
#include <QTreeWidget>

#include "app/gui/MainWindow.h"
#include "app/gui/panels/FailureBanner.h"
#include "app/gui/panels/FormatChip.h"
#include "app/gui/panels/FormatPicker.h"
#include "app/gui/panels/FormatsBar.h"
#include "app/gui/plot/Theme.h"
#include "core/formats/registry.h"
#include "gui_frame_files.h"

using namespace qs;
using namespace qs::gui;

class GuiWindowTest : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString small_, big_, broken_;

    static bool settled(const MainWindow& window) {
        return QTest::qWaitFor(
            [&] {
                return window.session()->checkpoint() && !window.session()->running() && window.session()->measured() &&
                       !window.session()->model().model.empty();
            },
            30000);
    }
    static void showWindow(MainWindow& window) {
        window.show();
        QVERIFY(QTest::qWaitForWindowExposed(&window));
    }
    static QAction* action(const MainWindow& window, const char* name) { return window.findChild<QAction*>(name); }
    static FormatsBar* bar(const MainWindow& window) { return window.findChild<FormatsBar*>(); }
    static std::vector<std::string> formatTexts(const MainWindow& window) {
        std::vector<std::string> texts;
        for (const FormatSpec& spec : window.session()->formats())
            texts.push_back(spec.text());
        return texts;
    }
    static void drop(MainWindow& window, const QString& path) {
        QMimeData data;
        data.setUrls({QUrl::fromLocalFile(path)});
        QDragEnterEvent enter({50, 50}, Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(&window, &enter);
        QVERIFY(enter.isAccepted());
        QDropEvent event({50, 50}, Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(&window, &event);
        QVERIFY(event.isAccepted());
    }

private slots:
    void initTestCase() {
        QStandardPaths::setTestModeEnabled(true);
        QCoreApplication::setOrganizationName("quantoscope-test");
        QCoreApplication::setApplicationName("quantoscope-test");
        QSettings::setDefaultFormat(QSettings::IniFormat);
        QSettings::setPath(QSettings::IniFormat, QSettings::UserScope, folder_.filePath("settings"));
        small_ = folder_.filePath("small.safetensors");
        big_ = folder_.filePath("big.safetensors");
        broken_ = folder_.filePath("broken.safetensors");
        writeSafetensors(small_, decoder(2, 64));
        writeSafetensors(big_, decoder(6, 768));
        QFile file(broken_);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10);
    }
    void init() { QSettings().clear(); }

    void firstScreenIsAliveOnTheDemoModel() {
        if (!QFile::exists(QUANTOSCOPE_RESOURCES_DIR "/demo/model.safetensors"))
            QSKIP("the demo model is not in resources/demo");
        QElapsedTimer clock;
        clock.start();
        MainWindow window;
        showWindow(window);
        window.openDemo();
        QVERIFY(settled(window));
        qInfo("alive after %lld ms", clock.elapsed());
        QCOMPARE(formatTexts(window), (std::vector<std::string>{"bf16", "fp8_e4m3", "int8", "nf4", "int4"}));
        QVERIFY(window.session()->selectedTensor().has_value());
        QVERIFY(window.windowTitle().startsWith("Demo model"));
        QVERIFY(window.recentFiles().isEmpty());
    }

    void opensByCommandAndByDrop() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        QCOMPARE(window.session()->checkpoint()->tensors.size(), std::size_t(19));
        QVERIFY(window.windowTitle().startsWith("small.safetensors"));
        drop(window, big_);
        QVERIFY(QTest::qWaitFor([&] { return window.windowTitle().startsWith("big.safetensors"); }));
        QVERIFY(window.session()->running());
        QCOMPARE(window.recentFiles(), QStringList({big_, small_}));
    }

    void recentFilesOpenAgain() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        window.open(big_);
        QVERIFY(QTest::qWaitFor([&] { return window.recentFiles().size() == 2; }));

        MainWindow later;
        QCOMPARE(later.recentFiles(), QStringList({big_, small_}));
        auto* menu = later.findChild<QMenu*>("recentMenu");
        emit menu->aboutToShow();
        QCOMPARE(menu->actions().at(1)->data().toString(), small_);
        menu->actions().at(1)->trigger();
        QVERIFY(settled(later));
        QCOMPARE(later.recentFiles(), QStringList({small_, big_}));
        emit menu->aboutToShow();
        menu->actions().last()->trigger();
        QVERIFY(later.recentFiles().isEmpty());
    }

    void chipsSelectAndRemove() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        QCOMPARE(bar(window)->chips().size(), std::size_t(5));
        FormatChip* int8 = bar(window)->chips()[2];
        QTest::mouseClick(int8, Qt::LeftButton, {}, {12, int8->height() / 2});
        QCOMPARE(window.session()->selectedFormat(), std::size_t(2));
        QVERIFY(int8->isChecked());
        QTest::mouseClick(int8, Qt::LeftButton, {}, int8->crossRect().center());
        QCOMPARE(formatTexts(window), (std::vector<std::string>{"bf16", "fp8_e4m3", "nf4", "int4"}));
        FormatChip* first = bar(window)->chips()[0];
        first->setFocus();
        QTest::keyClick(first, Qt::Key_Delete);
        QCOMPARE(formatTexts(window), (std::vector<std::string>{"fp8_e4m3", "nf4", "int4"}));
        QTest::keyClick(&window, Qt::Key_BracketRight, Qt::ControlModifier);
        QVERIFY(window.session()->selectedFormat() < 3);
    }

    void pickerAddsAndEdits() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        QTest::mouseClick(window.findChild<QToolButton*>("addFormat"), Qt::LeftButton);
        FormatPicker* picker = bar(window)->picker();
        QVERIFY(picker->isVisible());
        auto* list = picker->findChild<QTreeWidget*>("formatList");
        int listed = 0;
        for (int i = 0; i < list->topLevelItemCount(); ++i)
            listed += list->topLevelItem(i)->childCount();
        QCOMPARE(listed, static_cast<int>(formats().size()));

        const auto choose = [&](const QString& id) {
            for (int i = 0; i < list->topLevelItemCount(); ++i)
                for (int j = 0; j < list->topLevelItem(i)->childCount(); ++j)
                    if (list->topLevelItem(i)->child(j)->data(0, Qt::UserRole).toString() == id)
                        list->setCurrentItem(list->topLevelItem(i)->child(j));
        };
        choose("q4_0");
        QVERIFY(picker->spec().has_value());
        QTest::mouseClick(picker->findChild<QPushButton*>("formatApply"), Qt::LeftButton);
        QVERIFY(!picker->isVisible());
        QCOMPARE(formatTexts(window).back(), std::string("q4_0"));
        QCOMPARE(window.session()->selectedSpec(), std::optional(parse_spec("q4_0")));
        // It is compared with what was measured, without being asked for.
        QVERIFY(QTest::qWaitFor([&] {
            return window.session()->result(window.session()->coverage().tensors.front(), parse_spec("q4_0")) !=
                   nullptr;
        }));

        // A double click edits: every parameter has an editor of its kind.
        FormatChip* nf4 = bar(window)->chips()[3];
        QTest::mouseDClick(nf4, Qt::LeftButton, {}, {12, nf4->height() / 2});
        QVERIFY(picker->isVisible());
        for (const FormatParameter& parameter : format("nf4").parameters)
            QVERIFY(picker->findChild<QWidget*>("parameter_" + QString::fromStdString(parameter.name)) != nullptr);
        auto* block = picker->findChild<QComboBox*>("parameter_block");
        QVERIFY(block != nullptr);
        block->setCurrentIndex(block->findData("128"));
        QTest::mouseClick(picker->findChild<QPushButton*>("formatApply"), Qt::LeftButton);
        QCOMPARE(formatTexts(window)[3], std::string("nf4:block=128"));
        QVERIFY(settled(window));
    }

    void everyFormatCanBePicked() {
        FormatPicker picker;
        QSignalSpy edited(&picker, &FormatPicker::edited);
        int choosable = 0;
        for (const Format& entry : formats()) {
            const FormatSpec spec = parse_spec(entry.id);
            picker.showToEdit(spec);
            QCOMPARE(picker.spec(), std::optional(spec));
            picker.findChild<QPushButton*>("formatApply")->click();
            choosable += entry.importance != Importance::required;
        }
        QCOMPARE(edited.count(), choosable);
    }

    void pickerShowsWhatNeedsImportanceDisabled() {
        // A registry in which some formats cannot do without, the first included.
        std::vector<Format> table(formats().begin(), formats().end());
        for (Format& entry : table)
            if (entry.id == "fp32" || entry.id == "q2_K")
                entry.importance = Importance::required;
        FormatPicker picker(nullptr, table);
        picker.showToAdd({});
        QVERIFY(picker.spec()->id != "fp32");
        auto* list = picker.findChild<QTreeWidget*>("formatList");
        std::vector<std::string> listed;
        for (int i = 0; i < list->topLevelItemCount(); ++i)
            for (int j = 0; j < list->topLevelItem(i)->childCount(); ++j) {
                const QTreeWidgetItem* item = list->topLevelItem(i)->child(j);
                listed.push_back(item->data(0, Qt::UserRole).toString().toStdString());
                const auto entry = std::ranges::find(table, listed.back(), &Format::id);
                QVERIFY(entry != table.end());
                QVERIFY(!item->text(1).isEmpty());
                QCOMPARE(item->isDisabled(), entry->importance == Importance::required);
                QCOMPARE(item->toolTip(0).contains("importance matrix"), item->isDisabled());
            }
        QCOMPARE(listed.size(), table.size());
        for (const Format& entry : table)
            QVERIFY(std::ranges::find(listed, entry.id) != listed.end());

        picker.showToEdit(parse_spec("q2_K"));
        QVERIFY(!picker.findChild<QPushButton*>("formatApply")->isEnabled());
        QVERIFY(picker.findChild<QLabel*>("formatFacts")->text().contains("importance matrix"));
    }

    void pickerIsUsedByKeyboard() {
        FormatPicker picker;
        QSignalSpy added(&picker, &FormatPicker::added);
        picker.showToAdd({});
        QVERIFY(QTest::qWaitForWindowActive(&picker));
        auto* search = picker.findChild<QLineEdit*>("formatSearch");
        QVERIFY(search->hasFocus());
        QTest::keyClicks(search, "iq4");
        QCOMPARE(picker.spec()->id, std::string("iq4_nl"));
        QTest::keyClick(search, Qt::Key_Down);
        QCOMPARE(picker.spec()->id, std::string("iq4_xs"));
        QTest::keyClick(search, Qt::Key_Return);
        QCOMPARE(added.count(), 1);
        QCOMPARE(added.front().front().value<FormatSpec>(), parse_spec("iq4_xs"));
    }

    void runsAndCancels() {
        MainWindow window;
        showWindow(window);
        window.open(big_);
        QVERIFY(QTest::qWaitFor([&] { return window.session()->running() && window.session()->progress().done > 0; },
                                10000));
        auto* run = window.findChild<QToolButton*>("runButton");
        QCOMPARE(run->defaultAction(), action(window, "stop"));
        auto* text = window.findChild<QLabel*>("progressText");
        QVERIFY(QTest::qWaitFor([&] { return text->text().contains(" of "); }));
        QElapsedTimer clock;
        clock.start();
        QTest::keyClick(&window, Qt::Key_Escape);
        QVERIFY(!window.session()->running());
        QVERIFY2(clock.elapsed() < 100, qPrintable(QString::number(clock.elapsed())));
        QCOMPARE(run->defaultAction(), action(window, "analyse"));
        QVERIFY(text->text().contains("stopped at"));

        // A format added after a stop does not start the run again by itself.
        window.session()->setFormats(parse_specs("nf4,q8_0"));
        QVERIFY(!window.session()->running());
        QTest::mouseClick(run, Qt::LeftButton);
        QVERIFY(window.session()->running());
        QVERIFY(settled(window));
    }

    void failureIsABannerNotABox() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        window.open(broken_);
        FailureBanner* banner = window.banner();
        QVERIFY(QTest::qWaitFor([&] { return banner->isVisible(); }));
        QVERIFY(QApplication::activeModalWidget() == nullptr);
        QVERIFY(banner->findChild<QLabel*>("failureSummary")->text().contains("broken.safetensors"));
        QVERIFY(!banner->findChild<QLabel*>("failureDetails")->isVisible());
        QTest::mouseClick(banner->findChild<QToolButton*>("failureShowDetails"), Qt::LeftButton);
        QVERIFY(banner->findChild<QLabel*>("failureDetails")->isVisible());
        QTest::mouseClick(banner->findChild<QToolButton*>("failureCopy"), Qt::LeftButton);
        QVERIFY(QGuiApplication::clipboard()->text().contains(broken_));
        QTest::mouseClick(banner->findChild<QToolButton*>("failureClose"), Qt::LeftButton);
        QVERIFY(!banner->isVisible());
        QVERIFY(window.windowTitle().startsWith("small.safetensors"));
        QCOMPARE(window.recentFiles(), QStringList(small_));
        window.open(broken_);
        QVERIFY(QTest::qWaitFor([&] { return banner->isVisible(); }));
        window.open(small_); // what works takes the message away
        QVERIFY(!banner->isVisible());
    }

    void dialogsOpenAndExport() {
        MainWindow window;
        showWindow(window);
        const auto answer = [&](const QString& path) {
            auto* dialog = window.findChild<QFileDialog*>();
            QVERIFY(dialog != nullptr);
            dialog->selectFile(path);
            QMetaObject::invokeMethod(dialog, "accept");
            QVERIFY(QTest::qWaitFor([&] { return window.findChild<QFileDialog*>() == nullptr; }));
        };
        QApplication::setAttribute(Qt::AA_DontUseNativeDialogs);
        action(window, "openFile")->trigger();
        answer(small_);
        QVERIFY(settled(window));
        window.activateWindow(); // no window manager gives the focus back
        QVERIFY(QTest::qWaitForWindowActive(&window));
        QTest::keyClick(&window, Qt::Key_E, Qt::ControlModifier);
        const QString picture = folder_.filePath("view.png");
        answer(picture);
        QVERIFY(QTest::qWaitFor([&] { return QFile::exists(picture); }));
        QVERIFY(!QImage(picture).isNull());
    }

    void analysesAgainOnF5() {
        MainWindow window;
        showWindow(window);
        window.open(small_);
        QVERIFY(settled(window));
        QVERIFY(action(window, "analyse")->isEnabled());
        QVERIFY(!action(window, "stop")->isEnabled());
        window.open(big_);
        QVERIFY(QTest::qWaitFor([&] { return window.windowTitle().startsWith("big") && window.session()->running(); }));
        action(window, "stop")->trigger();
        QVERIFY(!window.session()->running());
        QTest::keyClick(&window, Qt::Key_F5);
        QVERIFY(window.session()->running());
    }

    void helpOpensBesideTheWindow() {
        MainWindow window;
        showWindow(window);
        const auto open_sheet = [&]() -> QDialog* {
            for (auto* dialog : window.findChildren<QDialog*>())
                if (dialog->isVisible())
                    return dialog;
            return nullptr;
        };
        for (const char* name : {"shortcuts", "about"}) {
            action(window, name)->trigger();
            QDialog* dialog = open_sheet();
            QVERIFY2(dialog != nullptr && !dialog->isModal(), name);
            dialog->close();
            QVERIFY(QTest::qWaitFor([&] { return open_sheet() == nullptr; }));
        }
    }

    void remembersAcrossStarts() {
        {
            MainWindow window;
            showWindow(window);
            window.session()->setFormats(parse_specs("nf4:block=128,q8_0"));
            action(window, "theme_dark")->trigger();
            window.findChild<QDockWidget*>("inspectorDock")->hide();
            window.findChild<QTabWidget*>("views")->setCurrentIndex(1);
            window.close();
        }
        MainWindow window;
        showWindow(window);
        QCOMPARE(formatTexts(window), (std::vector<std::string>{"nf4:block=128", "q8_0"}));
        QVERIFY(Theme::instance().dark());
        QVERIFY(action(window, "theme_dark")->isChecked());
        QVERIFY(!window.findChild<QDockWidget*>("inspectorDock")->isVisible());
        QCOMPARE(window.findChild<QTabWidget*>("views")->currentIndex(), 1);
        action(window, "resetLayout")->trigger();
        QVERIFY(window.findChild<QDockWidget*>("inspectorDock")->isVisible());
        action(window, "theme_light")->trigger();
        QVERIFY(!Theme::instance().dark());
    }

    void shortcutsReachEverything() {
        MainWindow window;
        showWindow(window);
        window.activateWindow();
        window.open(small_);
        QVERIFY(settled(window));
        auto* tabs = window.findChild<QTabWidget*>("views");
        for (int i = tabs->count() - 1; i >= 0; --i) {
            QTest::keyClick(&window, static_cast<Qt::Key>(Qt::Key_1 + i), Qt::ControlModifier);
            QCOMPARE(tabs->currentIndex(), i);
        }
        QTest::keyClick(&window, Qt::Key_F, Qt::ControlModifier);
        QVERIFY(window.findChild<QLineEdit*>("search")->hasFocus());
        QStringList seen;
        for (const QAction* each : window.findChildren<QAction*>())
            if (!each->shortcut().isEmpty() && each->shortcutContext() == Qt::WindowShortcut) {
                const QString keys = each->shortcut().toString();
                QVERIFY2(!seen.contains(keys), qPrintable("twice: " + keys));
                seen += keys;
            }
        for (const char* expected : {"Ctrl+O", "F5", "Esc", "Ctrl+E", "Ctrl+F", "Ctrl+K"})
            QVERIFY2(seen.contains(expected), expected);
    }

    void smallWindowsStillWork() {
        MainWindow window;
        window.resize(1024, 700);
        showWindow(window);
        QCOMPARE(window.size(), QSize(1024, 700));
        QVERIFY2(window.minimumSizeHint().width() <= 1024,
                 qPrintable(QString::number(window.minimumSizeHint().width())));
        QVERIFY2(window.minimumSizeHint().height() <= 700,
                 qPrintable(QString::number(window.minimumSizeHint().height())));
    }

    void closesQuicklyWhileRunning() {
        auto window = std::make_unique<MainWindow>();
        showWindow(*window);
        window->open(big_);
        QVERIFY(QTest::qWaitFor([&] { return window->session()->running(); }, 10000));
        QElapsedTimer clock;
        clock.start();
        window->close();
        window.reset();
        QVERIFY2(clock.elapsed() < 500, qPrintable(QString::number(clock.elapsed())));
    }
};

QTEST_MAIN(GuiWindowTest)
#include "gui_frame_window.moc"
