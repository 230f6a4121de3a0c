#include "gpu/statistics.h"

#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

namespace qs::cuda {

namespace {

/// Each thread merges a run of neighbouring units, and the runs are merged in order.
template <class Sums>
__device__ void merge_in_order(const Sums* of_units, std::uint64_t units, Sums& whole) {
    const std::uint64_t each = (units + block_threads - 1) / block_threads, begin = threadIdx.x * each;
    const std::uint64_t end = begin + each < units ? begin + each : units;
    Sums sums;
    if (begin < end)
        sums = of_units[begin];
    for (std::uint64_t unit = begin + 1; unit < end; ++unit)
        sums.merge(of_units[unit]);
    sums = block_reduce(sums);
    if (threadIdx.x == 0)
        whole = sums;
}

/// The first thread block has the moments, the others a format each.
__global__ void __launch_bounds__(block_threads)
    merge_kernel(const Moments* of_units, Moments* moments, const ErrorSums* errors_of_units, ErrorSums* errors,
                 std::uint64_t units) {
    if (blockIdx.x == 0)
        merge_in_order(of_units, units, *moments);
    else
        merge_in_order(errors_of_units + (blockIdx.x - 1) * units, units, errors[blockIdx.x - 1]);
}

struct Beyond {
    unsigned three = 0, six = 0;
    __device__ void merge(const Beyond& later) {
        three += later.three;
        six += later.six;
    }
};

__global__ void __launch_bounds__(block_threads) beyond_kernel(Piece piece, const Moments* moments, Count* beyond) {
    const Unit unit = unit_of(piece, blockIdx.x);
    const double mean = moments->mean, std = moments->standard_deviation();
    Beyond counts;
    for_each_weight(piece, unit, [&](unsigned, float w) {
        const double distance = fabs(static_cast<double>(w) - mean);
        counts.three += isfinite(w) && distance > 3 * std;
        counts.six += isfinite(w) && distance > 6 * std;
    });
    counts = block_reduce(counts);
    if (threadIdx.x != 0)
        return;
    atomicAdd(&beyond[0], Count{counts.three});
    atomicAdd(&beyond[1], Count{counts.six});
}

} // namespace

void merge_units(const Moments* of_units, Moments* moments, const ErrorSums* errors_of_units, ErrorSums* errors,
                 std::uint64_t units, unsigned formats, cudaStream_t stream) {
    launch({1 + std::uint64_t{formats}, stream}, merge_kernel, of_units, moments, errors_of_units, errors, units);
}

void count_beyond_sigma(const Piece& piece, const Moments* moments, Count* beyond, cudaStream_t stream) {
    launch({blocks_for(piece), stream}, beyond_kernel, piece, moments, beyond);
}

} // namespace qs::cuda
