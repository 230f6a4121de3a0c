#include "app/gui/panels/DeviceBox.h"

#include <QRegularExpression>
#include <QStandardItemModel>

#include "app/gui/Numbers.h"

namespace qs::gui {

QString shortDeviceName(const DeviceInfo& device) {
    static const QRegularExpression noise(
        QStringLiteral("\\((R|TM|tm|r)\\)|\\b(CPU|Processor|processor|NVIDIA|GeForce)\\b|@.*$|\\b\\d+-Core\\b"));
    const QString name = QString::fromStdString(device.name).remove(noise).simplified();
    const QString kind = device.kind == "cpu" ? QStringLiteral("CPU") : QString();
    if (name.isEmpty())
        return kind.isEmpty() ? QString::fromStdString(device.id) : kind;
    return kind.isEmpty() ? name : kind + QStringLiteral(" · ") + name;
}

DeviceBox::DeviceBox(Session* session, QWidget* parent) : QComboBox(parent), session_(session), listing_(this) {
    setObjectName("deviceBox");
    setAccessibleName("Device");
    setToolTip("The processor that does the analysis; results are the same on each.");
    setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    setMinimumContentsLength(11);
    addItem("Automatic", "auto");
    setItemData(0, "The first GPU that can be used, else the CPU", Qt::ToolTipRole);
    connect(session, &Session::deviceChanged, this, &DeviceBox::follow);
    connect(this, &QComboBox::activated, this, [this](int row) {
        const QString id = itemData(row).toString();
        session_->setDevice(id);
        emit chosen(id);
    });
    connect(&listing_, &Background::failed, session, &Session::failed);
    // Finding GPUs loads their driver, which can take a while.
    listing_.start([](JobControl&) { return list_devices(); },
                   [this](const std::vector<DeviceInfo>& devices) { list(devices); });
}

void DeviceBox::list(const std::vector<DeviceInfo>& devices) {
    for (const DeviceInfo& device : devices) {
        addItem(shortDeviceName(device), QString::fromStdString(device.id));
        QStringList facts{QString::fromStdString(device.name)};
        if (device.threads > 0)
            facts += QStringLiteral("%1 threads").arg(device.threads);
        if (!device.instructions.empty())
            facts += QString::fromStdString(device.instructions);
        if (device.memory_bytes > 0)
            facts += bytes(static_cast<double>(device.memory_bytes));
        if (!device.usable)
            facts += QStringLiteral("cannot be used: ") + QString::fromStdString(device.reason);
        setItemData(count() - 1, facts.join(QStringLiteral(" · ")), Qt::ToolTipRole);
        if (auto* items = qobject_cast<QStandardItemModel*>(model()); items && !device.usable)
            items->item(count() - 1)->setEnabled(false);
    }
    follow();
}

void DeviceBox::follow() {
    if (const int row = findData(session_->deviceId()); row >= 0)
        setCurrentIndex(row);
}

} // namespace qs::gui
