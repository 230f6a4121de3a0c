#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/device/device.h"

/// What the throughput measurements of all devices share, and the one of the CPU.
namespace qs {

/// Columns of the matrix whose throughput is measured.
inline constexpr std::uint64_t bench_columns = 4096;
/// Its weights repeat after this many.
inline constexpr std::size_t bench_period = std::size_t{4} << 20;

/// 128 Mi normal weights (std 0.02) as bf16, the same on every machine.
const std::vector<std::uint16_t>& bench_weights();

/// An importance matrix's value for each of `columns` columns: log-normal, the same on every machine.
std::vector<float> make_bench_importance(std::size_t columns);

/// A result without figures. Throws Error where there is no such operation, or it takes one format at a time.
BenchResult unmeasured_bench(std::span<const FormatSpec> specs, const std::string& operation, int threads);

/// Device::bench on the CPU. Formats that require importance get make_bench_importance().
BenchResult bench_on_cpu(std::span<const FormatSpec> specs, const std::string& operation, int threads, JobControl& job);

/// Makes the compiler believe that a result is used.
inline void keep_result(double value) {
    volatile double sink = value;
    (void)sink;
}

/// Seconds of the fastest of several runs of `body`, at least three and at least `least` seconds in all.
template <class Body>
double best_seconds(JobControl& job, double least, Body body) {
    using Clock = std::chrono::steady_clock;
    double best = std::numeric_limits<double>::infinity(), spent = 0;
    for (int run = 0; run < 3 || (spent < least && run < 100); ++run) {
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
