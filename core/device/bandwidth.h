#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/base/job.h"

namespace qs {

/// Best read bandwidth of the memory in GB/s with `threads` threads: every byte of a buffer far larger than the caches
/// is read by vector loads, with and without software prefetch; the fastest of several passes.
double measure_read_gbps(int threads, JobControl& job);

/// 128 Mi normal weights (std 0.02) as bf16, the same on every machine.
std::vector<std::uint16_t> make_bench_weights();

/// An importance matrix's value for each of `columns` columns: log-normal, the same on every machine.
std::vector<float> make_bench_importance(std::size_t columns);

/// Makes the compiler believe that a result is used.
inline void keep_result(double value) {
    volatile double sink = value;
    (void)sink;
}

/// Seconds of the fastest of several runs of `body`, at least three and at least 0.3 s in all.
template <class Body>
double best_seconds(JobControl& job, Body body) {
    using Clock = std::chrono::steady_clock;
    double best = std::numeric_limits<double>::infinity(), spent = 0;
    for (int run = 0; run < 3 || (spent < 0.3 && run < 100); ++run) {
        job.check();
        const auto start = Clock::now();
        body();
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        best = std::min(best, seconds);
        spent += seconds;
    }
    return best;
}

} // namespace qs
