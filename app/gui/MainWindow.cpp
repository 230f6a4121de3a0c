#include "app/gui/MainWindow.h"

#include <QActionGroup>
#include <QCloseEvent>
#include <QDialog>
#include <QDialogButtonBox>
#include <QDir>
#include <QDockWidget>
#include <QDragEnterEvent>
#include <QFileDialog>
#include <QGridLayout>
#include <QLabel>
#include <QMenuBar>
#include <QMimeData>
#include <QPushButton>
#include <QScrollArea>
#include <QSettings>
#include <QStackedWidget>
#include <QStatusBar>
#include <QTabWidget>
#include <QToolBar>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <array>

#include "app/gui/Icons.h"
#include "app/gui/Metric.h"
#include "app/gui/models/CheckpointModel.h"
#include "app/gui/panels/CheckpointPanel.h"
#include "app/gui/panels/DeviceChooser.h"
#include "app/gui/panels/DeviceComparison.h"
#include "app/gui/panels/FailureBanner.h"
#include "app/gui/panels/FormatsBar.h"
#include "app/gui/panels/InspectorPanel.h"
#include "app/gui/panels/JobBar.h"
#include "app/gui/plot/Theme.h"
#include "app/gui/views/BinsView.h"
#include "app/gui/views/HistogramView.h"
#include "app/gui/views/LayersView.h"
#include "app/gui/views/MemoryView.h"
#include "app/gui/views/QualityView.h"
#include "core/base/resources.h"
#include "core/device/discovery.h"
#include "core/formats/registry.h"

namespace qs::gui {

namespace {

constexpr int recent_limit = 10;
const char* const default_formats = "bf16,fp8_e4m3,int8,nf4,int4";

/// Changes when docks are added or renamed, so that an old layout is not forced on them.
constexpr int layout_version = 1;

QString joined(const std::vector<FormatSpec>& specs) {
    QStringList texts;
    for (const FormatSpec& spec : specs)
        texts += QString::fromStdString(spec.text());
    return texts.join(',');
}

/// The tensor to show first: a plain attention projection, else whatever is measured.
std::optional<std::size_t> firstToShow(const Checkpoint& checkpoint, const Selection& coverage) {
    for (const Role role : {Role::attention_q, Role::attention_qkv, Role::mlp_up})
        for (const std::size_t tensor : coverage.tensors)
            if (checkpoint.tensors[tensor].role == role)
                return tensor;
    return coverage.tensors.empty() ? std::nullopt : std::optional(coverage.tensors.front());
}

/// A dialog without a decision: it does not stop the window.
QDialog* sheet(QWidget* parent, const QString& title, QWidget* content) {
    auto* dialog = new QDialog(parent);
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setWindowTitle(title);
    auto* layout = new QVBoxLayout(dialog);
    layout->addWidget(content);
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, dialog);
    QObject::connect(buttons, &QDialogButtonBox::rejected, dialog, &QDialog::close);
    layout->addWidget(buttons);
    return dialog;
}

} // namespace

MainWindow::MainWindow(QWidget* parent, DeviceSource devices)
    : QMainWindow(parent), session_(new Session(this, std::move(devices))) {
    setObjectName("mainWindow");
    setWindowTitle("Quantoscope");
    setWindowIcon(applicationIcon());
    setAcceptDrops(true);
    setDockOptions(AllowNestedDocks | AllowTabbedDocks | AnimatedDocks);
    resize(1280, 800);

    makeViews();
    makeDocks();
    makeActions();
    makeToolBar();
    auto* jobs = new JobBar(session_, this);
    statusBar()->addWidget(jobs, 1);
    statusBar()->setSizeGripEnabled(false);
    designLayout_ = saveState(layout_version);

    connect(session_, &Session::checkpointChanged, this, &MainWindow::onCheckpoint);
    connect(session_, &Session::formatsChanged, this, &MainWindow::onFormats);
    connect(session_, &Session::progressChanged, this, &MainWindow::onProgress);
    connect(session_, &Session::failed, this, [this](const Failure& failure) {
        banner_->showFailure(failure);
        bannerIsOfDevice_ = false;
    });
    connect(session_, &Session::deviceChanged, this, &MainWindow::onDevice);
    connect(session_, &Session::deviceNoted, this, [this](const Failure& note) {
        banner_->showFailure(note);
        bannerIsOfDevice_ = true;
    });
    restore();
    onProgress();
}

// --- parts ---------------------------------------------------------------------------------------------------------

void MainWindow::makeViews() {
    tabs_ = new QTabWidget(this);
    tabs_->setObjectName("views");
    tabs_->setDocumentMode(true);
    tabs_->setAccessibleName("Views");
    tabs_->setMinimumWidth(520); // in a window of 1024 pixels, with both docks shown
    views_ = {new HistogramView(session_, tabs_), new BinsView(session_, tabs_), new LayersView(session_, tabs_),
              new MemoryView(session_, tabs_), new QualityView(session_, tabs_)};
    banner_ = new FailureBanner(this);
    for (View* view : views_) {
        tabs_->addTab(view, view->title());
        tabs_->setTabToolTip(tabs_->count() - 1, view->title() + QStringLiteral(" (Ctrl+%1)").arg(tabs_->count()));
        connect(view, &View::failed, banner_, &FailureBanner::showFailure);
        connect(view, &View::openRequested, this, [this] { chooseFile(false); });
    }

    pages_ = new QStackedWidget(this);
    pages_->addWidget(makeEmptyPage());
    pages_->addWidget(tabs_);
    auto* centre = new QWidget(this);
    auto* layout = new QVBoxLayout(centre);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addWidget(banner_);
    layout->addWidget(pages_, 1);
    setCentralWidget(centre);
}

QWidget* MainWindow::makeEmptyPage() {
    auto* page = new QWidget(this);
    auto* sentence = new QLabel("Open a checkpoint to see what quantization does to its weights.", page);
    sentence->setAlignment(Qt::AlignCenter);
    auto* open = new QPushButton("Open a file…", page);
    auto* demo = new QPushButton("Open the demo model", page);
    connect(open, &QPushButton::clicked, this, [this] { chooseFile(false); });
    connect(demo, &QPushButton::clicked, this, &MainWindow::openDemo);
    auto* buttons = new QHBoxLayout;
    buttons->addStretch();
    buttons->addWidget(open);
    buttons->addWidget(demo);
    buttons->addStretch();
    auto* layout = new QVBoxLayout(page);
    layout->addStretch();
    layout->addWidget(sentence);
    layout->addSpacing(8);
    layout->addLayout(buttons);
    layout->addStretch();
    return page;
}

void MainWindow::makeDocks() {
    tree_ = new CheckpointPanel(session_, this);
    treeDock_ = new QDockWidget("Checkpoint", this);
    treeDock_->setObjectName("checkpointDock");
    treeDock_->setWidget(tree_);
    addDockWidget(Qt::LeftDockWidgetArea, treeDock_);

    inspector_ = new InspectorPanel(session_, this);
    inspectorDock_ = new QDockWidget("Inspector", this);
    inspectorDock_->setObjectName("inspectorDock");
    inspectorDock_->setWidget(inspector_);
    addDockWidget(Qt::RightDockWidgetArea, inspectorDock_);
    resizeDocks({treeDock_, inspectorDock_}, {318, 286}, Qt::Horizontal);
}

QAction* MainWindow::action(const QString& name, const QString& text, const QKeySequence& shortcut,
                            const QString& tip) {
    auto* made = new QAction(text, this);
    made->setObjectName(name);
    made->setShortcut(shortcut);
    made->setToolTip(shortcut.isEmpty() ? tip : tip + " (" + shortcut.toString(QKeySequence::NativeText) + ')');
    made->setStatusTip({});
    addAction(made);
    return made;
}

void MainWindow::makeActions() {
    makeFileMenu();
    makeViewMenu();
    makeAnalysisMenu();
    makeHelpMenu();
}

void MainWindow::makeFileMenu() {
    QMenu* menu = menuBar()->addMenu("&File");
    QAction* file = action("openFile", "&Open file…", QKeySequence::Open, "Open a checkpoint file");
    file->setIcon(icon("open"));
    QAction* folder = action("openFolder", "Open &folder…", QKeySequence("Ctrl+Shift+O"), "Open a Hugging Face folder");
    QAction* demo = action("openDemo", "Open the &demo model", QKeySequence("Ctrl+Shift+D"),
                           "Open the model that comes with the program");
    export_ = action("exportView", "&Export current view…", QKeySequence("Ctrl+E"),
                     "Write the current view as PNG, SVG, PDF or CSV");
    QAction* quit = action("quit", "&Quit", QKeySequence::Quit, "Close the program");
    if (quit->shortcut().isEmpty())
        quit->setShortcut(QKeySequence("Ctrl+Q"));
    connect(file, &QAction::triggered, this, [this] { chooseFile(false); });
    connect(folder, &QAction::triggered, this, [this] { chooseFile(true); });
    connect(demo, &QAction::triggered, this, &MainWindow::openDemo);
    connect(export_, &QAction::triggered, this, &MainWindow::exportView);
    connect(quit, &QAction::triggered, this, &QWidget::close);

    menu->addActions({file, folder});
    recentMenu_ = menu->addMenu("Open &recent");
    recentMenu_->setObjectName("recentMenu");
    connect(recentMenu_, &QMenu::aboutToShow, this, [this] { fillRecent(recentMenu_); });
    menu->addAction(demo);
    menu->addSeparator();
    menu->addAction(export_);
    menu->addSeparator();
    menu->addAction(quit);
}

void MainWindow::makeViewMenu() {
    QMenu* menu = menuBar()->addMenu("&View");
    for (int i = 0; i < tabs_->count(); ++i) {
        QAction* show = action(QStringLiteral("view%1").arg(i + 1), tabs_->tabText(i),
                               QKeySequence(QStringLiteral("Ctrl+%1").arg(i + 1)), "Show " + tabs_->tabText(i));
        connect(show, &QAction::triggered, tabs_, [this, i] {
            tabs_->setCurrentIndex(i);
            tabs_->currentWidget()->setFocus();
        });
        menu->addAction(show);
    }
    menu->addSeparator();
    QAction* search = action("searchTensors", "&Search tensors", QKeySequence::Find, "Search the tree");
    connect(search, &QAction::triggered, this, [this] {
        treeDock_->show();
        tree_->search();
    });
    QAction* all = action("selectNothing", "Show the whole &model", QKeySequence("Ctrl+Shift+M"),
                          "Select no tensor and show the totals of the model");
    connect(all, &QAction::triggered, this, [this] { session_->selectTensor(std::nullopt); });
    menu->addActions({search, all});

    QMenu* metricsMenu = menu->addMenu("&Error in the tree");
    metricsMenu->setToolTipsVisible(true);
    auto* group = new QActionGroup(this);
    for (const Metric& each : metrics()) {
        QAction* choose = metricsMenu->addAction(each.title());
        choose->setToolTip(each.help);
        choose->setCheckable(true);
        choose->setData(each.id);
        group->addAction(choose);
        connect(choose, &QAction::triggered, this, [this, id = each.id] { tree_->setMetric(id); });
    }
    connect(metricsMenu, &QMenu::aboutToShow, this, [this, group] {
        for (QAction* each : group->actions())
            each->setChecked(each->data().toString() == tree_->model()->metric().id);
    });
    menu->addSeparator();

    QMenu* themeMenu = menu->addMenu("&Theme");
    themes_ = new QActionGroup(this);
    const std::array<std::pair<const char*, const char*>, 3> modes = {
        {{"system", "As the &system"}, {"light", "&Light"}, {"dark", "&Dark"}}};
    for (std::size_t i = 0; i < modes.size(); ++i) {
        QAction* choose = action(QString("theme_") + modes[i].first, modes[i].second, {}, "Change the colours");
        choose->setCheckable(true);
        choose->setData(static_cast<int>(i));
        themes_->addAction(choose);
        themeMenu->addAction(choose);
        connect(choose, &QAction::triggered, this, [i] { Theme::instance().setMode(static_cast<Theme::Mode>(i)); });
    }
    treeDock_->toggleViewAction()->setShortcut(QKeySequence("Ctrl+Shift+T"));
    inspectorDock_->toggleViewAction()->setShortcut(QKeySequence("Ctrl+Shift+I"));
    QMenu* panels = menu->addMenu("&Panels");
    panels->addActions({treeDock_->toggleViewAction(), inspectorDock_->toggleViewAction()});
    QAction* reset = action("resetLayout", "&Reset layout", {}, "Put all panels back where they were at first");
    connect(reset, &QAction::triggered, this, &MainWindow::resetLayout);
    menu->addAction(reset);
}

void MainWindow::makeAnalysisMenu() {
    QMenu* menu = menuBar()->addMenu("&Analysis");
    analyse_ = action("analyse", "&Analyse", QKeySequence("F5"), "Measure every tensor in every format");
    analyse_->setIcon(icon("analyse"));
    cancel_ = action("stop", "&Stop", QKeySequence("Esc"), "Stop the analysis and keep what it has measured");
    cancel_->setIcon(icon("stop"));
    QAction* compare = action("compareWith", "&Compare with…", QKeySequence("Ctrl+K"), "Add a format to compare");
    QAction* next = action("nextFormat", "&Next format", QKeySequence("Ctrl+]"), "Select the next format");
    QAction* previous =
        action("previousFormat", "&Previous format", QKeySequence("Ctrl+["), "Select the format before");
    connect(analyse_, &QAction::triggered, this, [this] {
        stoppedByUser_ = false;
        session_->analyse();
    });
    connect(cancel_, &QAction::triggered, session_, &Session::cancel);
    connect(compare, &QAction::triggered, this, [this] { formatsBar_->pick(); });
    connect(next, &QAction::triggered, this, [this] { stepFormat(1); });
    connect(previous, &QAction::triggered, this, [this] { stepFormat(-1); });
    menu->addActions({analyse_, cancel_});
    menu->addSeparator();
    menu->addActions({compare, next, previous});
    menu->addSeparator();
    compareDevices_ = action("compareDevices", {}, QKeySequence("Ctrl+Shift+K"), {});
    connect(compareDevices_, &QAction::triggered, this, [this] { compareDevices(compareDevices_->data().toString()); });
    menu->addAction(compareDevices_);
    menu->setToolTipsVisible(true);
}

void MainWindow::makeHelpMenu() {
    QMenu* menu = menuBar()->addMenu("&Help");
    QAction* shortcuts = action("shortcuts", "&Keyboard shortcuts", QKeySequence::HelpContents, "List all shortcuts");
    QAction* about = action("about", "&About Quantoscope", {}, "Version and licence");
    connect(shortcuts, &QAction::triggered, this, &MainWindow::showShortcuts);
    connect(about, &QAction::triggered, this, &MainWindow::showAbout);
    menu->addActions({shortcuts, about});
}

void MainWindow::makeToolBar() {
    auto* bar = addToolBar("Tools");
    bar->setObjectName("tools");
    bar->setMovable(false);
    bar->setIconSize({16, 16});
    bar->setContextMenuPolicy(Qt::PreventContextMenu);
    setContextMenuPolicy(Qt::NoContextMenu);

    auto* open = new QToolButton(bar);
    open->setObjectName("openButton");
    open->setText("Open");
    open->setIcon(icon("open"));
    open->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    open->setPopupMode(QToolButton::MenuButtonPopup);
    open->setFocusPolicy(Qt::TabFocus);
    open->setToolTip("Open a checkpoint (Ctrl+O); the arrow lists recent ones");
    connect(open, &QToolButton::clicked, this, [this] { chooseFile(false); });
    auto* menu = new QMenu(open);
    connect(menu, &QMenu::aboutToShow, this, [this, menu] {
        menu->clear();
        menu->addAction(findChild<QAction*>("openFile"));
        menu->addAction(findChild<QAction*>("openFolder"));
        menu->addAction(findChild<QAction*>("openDemo"));
        menu->addSeparator();
        fillRecent(menu);
    });
    open->setMenu(menu);

    formatsBar_ = new FormatsBar(session_, bar);
    formatsBar_->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);

    runButton_ = new QToolButton(bar);
    runButton_->setObjectName("runButton");
    runButton_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    runButton_->setFocusPolicy(Qt::TabFocus);
    // Wide enough for either text, so that nothing moves when it changes.
    runButton_->setDefaultAction(analyse_);
    runButton_->setMinimumWidth(runButton_->sizeHint().width() + 6);

    deviceChooser_ = new DeviceChooser(session_, bar);
    connect(deviceChooser_, &DeviceChooser::chosen, this,
            [](const QString& id) { QSettings().setValue("device", id); });
    connect(deviceChooser_, &DeviceChooser::comparisonRequested, this, &MainWindow::compareDevices);

    bar->addWidget(open);
    bar->addSeparator();
    bar->addWidget(formatsBar_);
    bar->addSeparator();
    bar->addWidget(runButton_);
    bar->addWidget(deviceChooser_);
    setTabOrder(open, formatsBar_->findChild<QWidget*>("formatsLeft"));
    setTabOrder(formatsBar_->findChild<QWidget*>("addFormat"), runButton_);
    setTabOrder(runButton_, deviceChooser_);
    setTabOrder(deviceChooser_, tree_->findChild<QWidget*>("search"));
}

// --- opening and writing -------------------------------------------------------------------------------------------

void MainWindow::open(const QString& path) {
    opening_ = QFileInfo(path).absoluteFilePath();
    banner_->hide();
    session_->open(opening_);
}

void MainWindow::openDemo() {
    try {
        demo_ = QFileInfo(QString::fromStdString((resource_dir() / "demo").string())).absoluteFilePath();
        open(demo_);
    } catch (const Error& error) {
        banner_->showFailure(Background::toFailure(error));
    }
}

void MainWindow::chooseFile(bool folder) {
    auto* dialog = new QFileDialog(this, folder ? "Open a Hugging Face folder" : "Open a checkpoint");
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(folder ? QFileDialog::Directory : QFileDialog::ExistingFile);
    if (!folder)
        dialog->setNameFilters({"Checkpoints (*.safetensors *.gguf *.index.json)", "All files (*)"});
    const QString last = QSettings().value("folder").toString();
    if (QDir(last).exists())
        dialog->setDirectory(last);
    connect(dialog, &QFileDialog::fileSelected, this, [this](const QString& path) {
        QSettings().setValue("folder", QFileInfo(path).absolutePath());
        open(path);
    });
    dialog->open();
}

void MainWindow::exportView() {
    auto* view = qobject_cast<View*>(tabs_->currentWidget());
    if (view == nullptr)
        return;
    auto* dialog = new QFileDialog(this, "Export " + view->title());
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setAcceptMode(QFileDialog::AcceptSave);
    dialog->setNameFilters({"Picture (*.png)", "Vector picture (*.svg)", "Document (*.pdf)", "Data (*.csv)"});
    dialog->setDefaultSuffix("png");
    connect(dialog, &QFileDialog::filterSelected, dialog, [dialog](const QString& filter) {
        const qsizetype dot = filter.indexOf("*.");
        dialog->setDefaultSuffix(filter.mid(dot + 2).chopped(1));
    });
    dialog->selectFile(view->title().toLower().replace(' ', '-'));
    connect(dialog, &QFileDialog::fileSelected, this, [this, view](const QString& path) {
        QString reason;
        if (!view->exportTo(path, &reason))
            banner_->showFailure({path, reason, "choose another folder or another name"});
    });
    dialog->open();
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
    const auto urls = event->mimeData()->urls();
    if (!urls.isEmpty() && urls.front().isLocalFile())
        event->acceptProposedAction();
}

void MainWindow::dropEvent(QDropEvent* event) {
    const auto urls = event->mimeData()->urls();
    if (urls.isEmpty() || !urls.front().isLocalFile())
        return;
    event->acceptProposedAction();
    open(urls.front().toLocalFile());
}

void MainWindow::addRecent(const QString& path) {
    recent_.removeAll(path);
    recent_.prepend(path);
    while (recent_.size() > recent_limit)
        recent_.removeLast();
    QSettings().setValue("recent", recent_);
}

/// Adds the recent files to a menu; the menu of its own is cleared first.
void MainWindow::fillRecent(QMenu* menu) {
    if (menu == recentMenu_)
        menu->clear();
    for (const QString& path : recent_) {
        const QFileInfo file(path);
        QAction* entry =
            menu->addAction(file.fileName() + QStringLiteral("  –  ") + QDir::toNativeSeparators(file.path()));
        entry->setData(path);
        connect(entry, &QAction::triggered, this, [this, path] { open(path); });
    }
    if (recent_.isEmpty()) {
        menu->addAction("Nothing was opened yet")->setEnabled(false);
        return;
    }
    menu->addSeparator();
    connect(menu->addAction("Clear this list"), &QAction::triggered, this, [this] {
        recent_.clear();
        QSettings().remove("recent");
    });
}

// --- following the session -----------------------------------------------------------------------------------------

void MainWindow::onCheckpoint() {
    const Checkpoint& checkpoint = *session_->checkpoint();
    const bool demo = opening_ == demo_;
    setWindowTitle((demo ? QStringLiteral("Demo model") : QFileInfo(opening_).fileName()) +
                   QStringLiteral(" – Quantoscope"));
    if (!demo)
        addRecent(opening_);
    if (!bannerIsOfDevice_)
        banner_->hide();
    pages_->setCurrentWidget(tabs_);
    session_->selectTensor(firstToShow(checkpoint, session_->coverage()));
    stoppedByUser_ = false;
    session_->analyse();
}

void MainWindow::onFormats() {
    QSettings().setValue("formats", joined(session_->formats()));
    // A format that is added to measured ones is to be compared with them, unless the user has stopped the run.
    if (session_->measured() && !session_->running() && !stoppedByUser_)
        session_->analyse();
}

void MainWindow::onProgress() {
    const bool running = session_->running();
    if (runButton_->defaultAction() == cancel_ && !running && session_->progress().done < session_->progress().total)
        stoppedByUser_ = true;
    analyse_->setEnabled(!running && session_->checkpoint());
    cancel_->setEnabled(running);
    onDevice();
    export_->setEnabled(session_->checkpoint() != nullptr);
    QAction* offered = running ? cancel_ : analyse_;
    if (runButton_->defaultAction() != offered) {
        runButton_->removeAction(runButton_->defaultAction());
        runButton_->setDefaultAction(offered);
    }
}

/// What the results can be compared with, or why with nothing.
void MainWindow::onDevice() {
    const auto& devices = session_->devices();
    const DeviceInfo* other = counterpart(devices, session_->deviceId().toStdString());
    const bool ready = session_->checkpoint() && session_->measured() && !session_->running();
    QString text = "Compare with another device…", tip = "There is no other device";
    if (other != nullptr) {
        text = other->id == "cpu" ? QStringLiteral("Compare with the CPU…")
                                  : QStringLiteral("Compare with %1…").arg(shortDeviceName(*other));
        tip = ready ? "Analyse on this device too and show how far the results are apart"
                    : "Possible once the analysis has ended";
    } else if (const auto unusable = std::ranges::find(devices, false, &DeviceInfo::usable);
               unusable != devices.end()) {
        text = "Compare with a GPU…";
        tip = "No GPU can be used: " + QString::fromStdString(unusable->reason);
    }
    compareDevices_->setText(text.replace('&', "&&"));
    compareDevices_->setToolTip(tip + " (" + compareDevices_->shortcut().toString(QKeySequence::NativeText) + ')');
    compareDevices_->setData(other != nullptr ? QString::fromStdString(other->id) : QString());
    compareDevices_->setEnabled(other != nullptr && ready);
    deviceChooser_->setComparable(ready);
}

void MainWindow::compareDevices(const QString& other) {
    QDialog* dialog = sheet(this, "Compare devices", new DeviceComparison(session_, other));
    dialog->setObjectName("deviceComparison");
    dialog->resize(760, 380);
    dialog->show();
}

void MainWindow::stepFormat(int step) {
    const auto count = static_cast<int>(session_->formats().size());
    if (count > 0)
        session_->selectFormat(
            static_cast<std::size_t>((static_cast<int>(session_->selectedFormat()) + step + count) % count));
}

// --- help ----------------------------------------------------------------------------------------------------------

void MainWindow::showShortcuts() {
    auto* list = new QWidget;
    auto* grid = new QGridLayout(list);
    grid->setHorizontalSpacing(24);
    int row = 0;
    const auto line = [&](const QString& keys, const QString& text) {
        grid->addWidget(new QLabel(keys, list), row, 0);
        grid->addWidget(new QLabel(text, list), row++, 1);
    };
    QList<QAction*> all = actions();
    all << treeDock_->toggleViewAction() << inspectorDock_->toggleViewAction();
    for (const QAction* each : all)
        if (!each->shortcut().isEmpty())
            line(each->shortcut().toString(QKeySequence::NativeText), QString(each->text()).remove('&'));
    line("Ctrl+L", "List tensors without modules");
    line("Space, Delete, F2", "On a format: select, remove, change its parameters");
    line("Ctrl+C", "In the tree or the table of formats: copy");
    line("Arrows, +, −", "In a plot: move and zoom; double click for all");
    line("Page Up, Page Down", "In a plot higher than the window: scroll, as the wheel does; Ctrl and the wheel zoom");
    auto* area = new QScrollArea;
    area->setWidget(list);
    area->setFrameShape(QFrame::NoFrame);
    QDialog* dialog = sheet(this, "Keyboard shortcuts", area);
    dialog->resize(list->sizeHint().width() + 60, 560);
    dialog->show();
}

void MainWindow::showAbout() {
    auto* content = new QWidget;
    auto* layout = new QHBoxLayout(content);
    auto* image = new QLabel(content);
    image->setPixmap(windowIcon().pixmap(96, 96));
    auto* text = new QLabel(QStringLiteral("<h3>Quantoscope %1</h3>"
                                           "<p>A microscope for quantization: what each format costs and saves, on the "
                                           "real weights of a language model.</p>"
                                           "<p>Free software under the GNU General Public License, version 3 or "
                                           "later. Made with Qt %2 and QCustomPlot.</p>")
                                .arg(QUANTOSCOPE_VERSION, qVersion()),
                            content);
    text->setWordWrap(true);
    text->setMinimumWidth(340);
    layout->addWidget(image, 0, Qt::AlignTop);
    layout->addWidget(text, 1);
    sheet(this, "About Quantoscope", content)->show();
}

// --- memory --------------------------------------------------------------------------------------------------------

void MainWindow::resetLayout() {
    restoreState(designLayout_, layout_version);
    treeDock_->show();
    inspectorDock_->show();
    resizeDocks({treeDock_, inspectorDock_}, {318, 286}, Qt::Horizontal);
}

void MainWindow::restore() {
    const QSettings settings;
    restoreGeometry(settings.value("window/geometry").toByteArray());
    restoreState(settings.value("window/layout").toByteArray(), layout_version);
    tabs_->setCurrentIndex(std::clamp(settings.value("window/view", 0).toInt(), 0, std::max(0, tabs_->count() - 1)));
    tree_->restoreState(settings.value("tree/columns").toByteArray());
    tree_->setMetric(settings.value("tree/metric").toString());
    recent_ = settings.value("recent").toStringList();

    const int theme = std::clamp(settings.value("theme", 0).toInt(), 0, 2);
    Theme::instance().setMode(static_cast<Theme::Mode>(theme));
    themes_->actions().at(theme)->setChecked(true);

    std::vector<FormatSpec> formats;
    try {
        formats = parse_specs(settings.value("formats").toString().toStdString());
    } catch (const Error&) {
        // Written by another version of the program: the usual ones do as well.
    }
    session_->setFormats(formats.empty() ? parse_specs(default_formats) : formats);
    if (const auto nf4 = std::ranges::find(session_->formats(), "nf4", &FormatSpec::id);
        nf4 != session_->formats().end())
        session_->selectFormat(static_cast<std::size_t>(nf4 - session_->formats().begin()));
    session_->setDevice(settings.value("device", "auto").toString());
}

void MainWindow::save() const {
    QSettings settings;
    settings.setValue("window/geometry", saveGeometry());
    settings.setValue("window/layout", saveState(layout_version));
    settings.setValue("window/view", tabs_->currentIndex());
    settings.setValue("tree/columns", tree_->saveState());
    settings.setValue("tree/metric", tree_->model()->metric().id);
    settings.setValue("theme", static_cast<int>(Theme::instance().mode()));
}

void MainWindow::closeEvent(QCloseEvent* event) {
    save();
    session_->cancel();
    event->accept();
}

} // namespace qs::gui
