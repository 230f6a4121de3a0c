#pragma once

#include <string>

#include "core/device/device.h"

namespace qs {

/// The entry that stands for CUDA where no GPU can be used, with the reason.
DeviceInfo no_cuda(const std::string& reason);

/// The id that `auto` stands for: the usable GPUs, else the CPU.
std::string default_device(const std::vector<DeviceInfo>& devices);

/// The id of the first single device that `id` stands for.
std::string single_device(const std::vector<DeviceInfo>& devices, const std::string& id);

/// The device whose results tell whether those of the device `id` are right: of another kind where one is usable, else
/// any other usable one; null where there is none.
const DeviceInfo* counterpart(const std::vector<DeviceInfo>& devices, const std::string& id);

} // namespace qs
