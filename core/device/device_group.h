#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace qs {

/// What is said of several devices of one kind that work as one: their names ("2 x NVIDIA H100"), the sum of their
/// memory; the id is the kind ("cuda").
DeviceInfo group_info(const std::vector<DeviceInfo>& members);

/// `devices` with an entry for all usable GPUs together before the first GPU, where there are two or more.
std::vector<DeviceInfo> with_gpu_group(std::vector<DeviceInfo> devices);

/// One device of several of one kind, each of which does whole tensors, so that results are those of one alone. A
/// tensor of a mapped file goes to the member that had it before, where it may still lie in memory, unless that is
/// taken; all else goes to the member with the fewest calls under way. The bandwidths are the members' sums; bench()
/// and algebra() are the first member's. A call that fails on a member fails: with_cpu_fallback() then replaces all.
std::unique_ptr<Device> make_device_group(std::vector<std::unique_ptr<Device>> members);

} // namespace qs
