#pragma once

#include "core/base/job.h"

namespace qs {

/// Best read bandwidth of the memory in GB/s with `threads` threads: every byte of a buffer far larger than the caches
/// is read by vector loads, with and without software prefetch; the fastest of several passes.
double measure_read_gbps(int threads, JobControl& job);

} // namespace qs
