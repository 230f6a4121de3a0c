#pragma once

#include <memory>

#include "core/device/device.h"

namespace qs::cuda {

/// The GPU of this ordinal. Throws Error where the driver refuses.
std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceInfo& info);

} // namespace qs::cuda
