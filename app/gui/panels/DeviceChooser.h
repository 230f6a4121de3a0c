#pragma once

#include <QToolButton>

#include "app/gui/Session.h"

class QActionGroup;
class QMenu;

namespace qs::gui {

/// Shows the device that does the work and offers the others. What cannot be used is listed with the reason.
class DeviceChooser : public QToolButton {
    Q_OBJECT
public:
    explicit DeviceChooser(Session* session, QWidget* parent = nullptr);

    /// Whether there are results that can be compared.
    void setComparable(bool on);

signals:
    /// The user has chosen this device.
    void chosen(const QString& id);
    /// The results of the present device are to be compared with this one's.
    void comparisonRequested(const QString& id);

private:
    void follow();
    void addDevice(const DeviceInfo& device);
    void addComparisons();

    Session* session_;
    QMenu* devices_;
    QMenu* others_; ///< to compare with
    QActionGroup* group_;
    bool comparable_ = false;
};

/// "AMD EPYC 7B13" and the like without what tells nothing: trademarks and the word processor; "all 2 GPUs".
QString shortDeviceName(const DeviceInfo& device);
/// One line of all that is known of a device.
QString deviceFacts(const DeviceInfo& device);

} // namespace qs::gui
