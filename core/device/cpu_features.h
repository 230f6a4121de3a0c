#pragma once

#include "core/device/device.h"

namespace qs {

/// Name, memory and the best instruction set that this build uses on the machine's CPU.
DeviceInfo cpu_info();

} // namespace qs
