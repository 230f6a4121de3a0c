#include "app/gui/panels/DeviceChooser.h"

#include <QActionGroup>
#include <QMenu>
#include <QRegularExpression>

#include <algorithm>

#include "app/gui/Numbers.h"

namespace qs::gui {

namespace {

constexpr int name_width = 150;   ///< of the device on the button
constexpr int reason_width = 420; ///< of what cannot be used, in the menu

/// As a menu shows it: "&" stands for itself.
QString menuText(const QString& text) {
    return QString(text).replace('&', QStringLiteral("&&"));
}

} // namespace

QString shortDeviceName(const DeviceInfo& device) {
    if (device.members > 1)
        return QStringLiteral("all %1 GPUs").arg(device.members);
    static const QRegularExpression noise(
        QStringLiteral("\\((R|TM|tm|r)\\)|\\b(CPU|Processor|processor|NVIDIA|GeForce)\\b|@.*$|\\b\\d+-Core\\b"));
    const QString name = QString::fromStdString(device.name).remove(noise).simplified();
    const QString kind = device.kind == "cpu" ? QStringLiteral("CPU") : QString();
    if (name.isEmpty())
        return kind.isEmpty() ? QString::fromStdString(device.id) : kind;
    return kind.isEmpty() ? name : kind + QStringLiteral(" · ") + name;
}

QString deviceFacts(const DeviceInfo& device) {
    QStringList facts{QString::fromStdString(device.name)};
    if (device.threads > 0)
        facts += QStringLiteral("%1 threads").arg(device.threads);
    if (!device.instructions.empty())
        facts += QString::fromStdString(device.instructions);
    if (!device.compute_capability.empty())
        facts += QStringLiteral("compute capability ") + QString::fromStdString(device.compute_capability);
    if (device.memory_bytes > 0)
        facts += bytes(static_cast<double>(device.memory_bytes));
    if (!device.usable)
        facts += QStringLiteral("cannot be used: ") + QString::fromStdString(device.reason);
    return facts.join(QStringLiteral(" · "));
}

DeviceChooser::DeviceChooser(Session* session, QWidget* parent)
    : QToolButton(parent), session_(session), devices_(new QMenu(this)),
      others_(new QMenu(QStringLiteral("Compare results with"), this)), group_(new QActionGroup(this)) {
    setObjectName("deviceChooser");
    setAccessibleName("Device");
    setPopupMode(QToolButton::InstantPopup);
    setFocusPolicy(Qt::TabFocus);
    devices_->setObjectName("deviceMenu");
    devices_->setToolTipsVisible(true);
    others_->setObjectName("deviceComparisons");
    others_->setToolTipsVisible(true);
    setMenu(devices_);
    connect(session, &Session::deviceChanged, this, &DeviceChooser::follow);
    follow();
}

void DeviceChooser::follow() {
    devices_->clear();
    for (const DeviceInfo& device : session_->devices())
        addDevice(device);
    if (!session_->devices().empty())
        addComparisons();

    const auto& all = session_->devices();
    const auto used = std::ranges::find(all, session_->deviceId().toStdString(), &DeviceInfo::id);
    const DeviceInfo info = used != all.end() ? *used : session_->device()->info();
    const bool plain_cpu = info.kind == "cpu" && info.id == "cpu";
    const QString name = plain_cpu ? QStringLiteral("CPU") : shortDeviceName(info);
    setText(fontMetrics().elidedText(QStringLiteral("device: ") + name, Qt::ElideRight,
                                     fontMetrics().horizontalAdvance(QStringLiteral("device: ")) + name_width));
    setToolTip(deviceFacts(info) +
               QStringLiteral("\nThe processor that does the analysis; results are the same on each."));
    setAccessibleDescription(deviceFacts(info));
}

void DeviceChooser::addDevice(const DeviceInfo& device) {
    QString text = shortDeviceName(device);
    if (!device.usable)
        text = fontMetrics().elidedText(text + QStringLiteral(" – ") + QString::fromStdString(device.reason),
                                        Qt::ElideRight, reason_width);
    else if (device.kind != "cpu" && device.memory_bytes > 0)
        text += QStringLiteral(" · ") + bytes(static_cast<double>(device.memory_bytes));
    const QString id = QString::fromStdString(device.id);
    QAction* choose = devices_->addAction(menuText(text));
    choose->setData(id);
    choose->setToolTip(deviceFacts(device));
    choose->setEnabled(device.usable);
    choose->setCheckable(true);
    group_->addAction(choose);
    choose->setChecked(id == session_->deviceId());
    connect(choose, &QAction::triggered, this, [this, id] {
        if (id != session_->deviceId())
            session_->setDevice(id);
        emit chosen(id);
    });
}

void DeviceChooser::addComparisons() {
    devices_->addSeparator();
    devices_->addMenu(others_);
    others_->clear();
    for (const DeviceInfo& device : session_->devices()) {
        const QString id = QString::fromStdString(device.id);
        if (!device.usable || id == session_->deviceId())
            continue;
        QAction* compare = others_->addAction(menuText(shortDeviceName(device)) + QStringLiteral("…"));
        compare->setData(id);
        compare->setToolTip(deviceFacts(device));
        connect(compare, &QAction::triggered, this, [this, id] { emit comparisonRequested(id); });
    }
    setComparable(comparable_);
}

void DeviceChooser::setComparable(bool on) {
    comparable_ = on;
    others_->setEnabled(on && !others_->isEmpty());
}

} // namespace qs::gui
