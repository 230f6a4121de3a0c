#pragma once

#include <memory>

#include "core/device/device.h"

namespace qs {

/// `device`, whose work the CPU (with at most `threads` threads) does from the first call on that fails there and works
/// here; a note names the device and the reason, and info() is then the CPU's. Measurements of speed stay where they
/// are asked for. A CPU is returned as it is.
std::unique_ptr<Device> with_cpu_fallback(std::unique_ptr<Device> device, int threads = 0);

} // namespace qs
