#pragma once

#include <QComboBox>

#include "app/gui/Background.h"
#include "app/gui/Session.h"

namespace qs::gui {

/// Chooses the device of the analysis. What cannot be used is listed with the reason.
class DeviceBox : public QComboBox {
    Q_OBJECT
public:
    explicit DeviceBox(Session* session, QWidget* parent = nullptr);

signals:
    /// The user has chosen this device.
    void chosen(const QString& id);

private:
    void list(const std::vector<DeviceInfo>& devices);
    void follow();

    Session* session_;
    Background listing_;
};

/// "AMD EPYC 7B13" and the like without what tells nothing: trademarks and the word processor.
QString shortDeviceName(const DeviceInfo& device);

} // namespace qs::gui
