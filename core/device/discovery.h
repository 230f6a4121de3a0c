#pragma once

#include <string>

#include "core/device/device.h"

namespace qs {

/// The entry that stands for CUDA where no GPU can be used, with the reason.
DeviceInfo no_cuda(const std::string& reason);

} // namespace qs
