#pragma once

#include "gpu/workspace.h"

/// Throughput of one GPU.
namespace qs::cuda {

/// 10⁹ bytes a second that are read from device memory.
double measure_read_gbps(Workspace& work, JobControl& job);
/// 10⁹ bytes a second that are copied from page-locked memory to the device.
double measure_copy_gbps(Workspace& work, JobControl& job);

/// Device::bench on the GPU.
BenchResult bench(Workspace& work, std::span<const FormatSpec> specs, const std::string& operation, JobControl& job);

} // namespace qs::cuda
