#pragma once

#include <QMainWindow>

#include <vector>

#include "app/gui/Session.h"

class QActionGroup;
class QDockWidget;
class QStackedWidget;
class QTabWidget;
class QToolButton;

namespace qs::gui {

class CheckpointPanel;
class DeviceChooser;
class FailureBanner;
class FormatsBar;
class InspectorPanel;
class View;

/// The one window: tree, formats, views, inspector and status around a Session. Remembers its layout, theme, formats,
/// device and recent files in QSettings.
class MainWindow : public QMainWindow {
    Q_OBJECT
public:
    explicit MainWindow(QWidget* parent = nullptr, DeviceSource devices = {});

    Session* session() const { return session_; }
    /// Opens a checkpoint file or folder and analyses it at once.
    void open(const QString& path);
    /// Opens the model that comes with the program.
    void openDemo();
    QStringList recentFiles() const { return recent_; }
    FailureBanner* banner() const { return banner_; }

protected:
    void closeEvent(QCloseEvent* event) override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;

private:
    void makeViews();
    void makeDocks();
    void makeActions();
    void makeFileMenu();
    void makeViewMenu();
    void makeAnalysisMenu();
    void makeHelpMenu();
    void makeToolBar();
    QWidget* makeEmptyPage();
    QAction* action(const QString& name, const QString& text, const QKeySequence& shortcut, const QString& tip);

    void chooseFile(bool folder);
    void exportView();
    void showShortcuts();
    void showAbout();
    void resetLayout();
    void stepFormat(int step);

    void onCheckpoint();
    void onFormats();
    void onProgress();
    void onDevice();
    void compareDevices(const QString& other);
    void addRecent(const QString& path);
    void fillRecent(QMenu* menu);
    void restore();
    void save() const;

    Session* session_;
    QStackedWidget* pages_ = nullptr;
    QTabWidget* tabs_ = nullptr;
    std::vector<View*> views_;
    FailureBanner* banner_ = nullptr;
    CheckpointPanel* tree_ = nullptr;
    InspectorPanel* inspector_ = nullptr;
    QDockWidget* treeDock_ = nullptr;
    QDockWidget* inspectorDock_ = nullptr;
    FormatsBar* formatsBar_ = nullptr;
    DeviceChooser* deviceChooser_ = nullptr;
    QToolButton* runButton_ = nullptr;
    QAction* analyse_ = nullptr;
    QAction* cancel_ = nullptr;
    QAction* export_ = nullptr;
    QAction* compareDevices_ = nullptr;
    QActionGroup* themes_ = nullptr;
    QMenu* recentMenu_ = nullptr;
    QByteArray designLayout_;
    QString opening_; ///< what open() was asked for last
    QString demo_;    ///< the folder of the demo model, once it was opened
    QStringList recent_;
    bool stoppedByUser_ = false;
    bool bannerIsOfDevice_ = false; ///< so that opening a checkpoint does not take it away
};

} // namespace qs::gui
