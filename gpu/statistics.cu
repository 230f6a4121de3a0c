#include "gpu/statistics.h"

#include <cmath>

#include "gpu/binning.cuh"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

namespace qs::cuda {

namespace {

/// What is needed before powers about the mean can be taken.
struct FirstLook {
    double sum = 0;
    float min = INFINITY, max = -INFINITY;
    unsigned finite = 0, zeros = 0, nan = 0, inf = 0;

    __device__ void add(float w) {
        if (!isfinite(w)) {
            nan += isnan(w);
            inf += isinf(w) != 0;
            return;
        }
        sum += static_cast<double>(w);
        ++finite;
        zeros += w == 0.0F;
        min = w < min ? w : min;
        max = w > max ? w : max;
    }

    __device__ void merge(const FirstLook& later) {
        sum += later.sum;
        min = later.min < min ? later.min : min;
        max = later.max > max ? later.max : max;
        finite += later.finite;
        zeros += later.zeros;
        nan += later.nan;
        inf += later.inf;
    }
};

struct Powers {
    double second = 0, third = 0, fourth = 0;

    __device__ void add(float w, double mean) {
        if (!isfinite(w))
            return;
        const double d = static_cast<double>(w) - mean, d2 = d * d;
        second += d2;
        third += d2 * d;
        fourth += d2 * d2;
    }

    __device__ void merge(const Powers& later) {
        second += later.second;
        third += later.third;
        fourth += later.fourth;
    }
};

template <NativeType type>
__global__ void __launch_bounds__(block_threads) moments_kernel(Piece piece, Moments* moments) {
    const Unit unit = unit_of(piece, blockIdx.x);
    FirstLook look;
    for_each_weight<type>(piece, unit, [&](unsigned, float w) { look.add(w); });
    look = block_reduce(look);

    __shared__ double shared_mean;
    if (threadIdx.x == 0)
        shared_mean = look.finite > 0 ? look.sum / static_cast<double>(look.finite) : 0.0;
    __syncthreads();
    const double mean = shared_mean;

    Powers powers;
    for_each_weight<type>(piece, unit, [&](unsigned, float w) { powers.add(w, mean); });
    powers = block_reduce(powers);
    if (threadIdx.x != 0)
        return;
    Moments& result = moments[unit.index];
    result.n = look.finite;
    result.zeros = look.zeros;
    result.nan = look.nan;
    result.inf = look.inf;
    result.mean = mean;
    result.m2 = powers.second;
    result.m3 = powers.third;
    result.m4 = powers.fourth;
    result.min = static_cast<double>(look.min);
    result.max = static_cast<double>(look.max);
}

struct Beyond {
    unsigned three = 0, six = 0;
    __device__ void merge(const Beyond& later) {
        three += later.three;
        six += later.six;
    }
};

template <NativeType type>
__global__ void __launch_bounds__(block_threads) beyond_kernel(Piece piece, double mean, double std, Count* beyond) {
    const Unit unit = unit_of(piece, blockIdx.x);
    Beyond counts;
    for_each_weight<type>(piece, unit, [&](unsigned, float w) {
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

struct Zeros {
    unsigned plus = 0, minus = 0;
    __device__ void merge(const Zeros& later) {
        plus += later.plus;
        minus += later.minus;
    }
};

/// Zeros are counted apart: in a sparse tensor all threads would wait for that one count.
__global__ void __launch_bounds__(block_threads) patterns_kernel(Piece piece, Count* counts) {
    constexpr unsigned minus_zero = 0x8000;
    const Unit unit = unit_of(piece, blockIdx.x);
    const auto* patterns = static_cast<const std::uint16_t*>(piece.data) + unit.offset;
    Zeros zeros;
    for (unsigned at = threadIdx.x; at < unit.count; at += block_threads) {
        const unsigned pattern = patterns[at];
        if (pattern == 0)
            ++zeros.plus;
        else if (pattern == minus_zero)
            ++zeros.minus;
        else
            atomicAdd(&counts[pattern], Count{1});
    }
    zeros = block_reduce(zeros);
    if (threadIdx.x != 0)
        return;
    atomicAdd(&counts[0], Count{zeros.plus});
    atomicAdd(&counts[minus_zero], Count{zeros.minus});
}

template <NativeType type>
__global__ void __launch_bounds__(block_threads) bins_kernel(Piece piece, BinCounts bins) {
    unsigned* const shared = dynamic_shared();
    const Unit unit = unit_of(piece, blockIdx.x);
    const Binning binning(bins, shared);
    for_each_weight<type>(piece, unit, [&](unsigned, float w) { binning.add(static_cast<double>(w)); });
    binning.finish();
}

} // namespace

void measure_moments(const Piece& piece, Moments* moments, cudaStream_t stream) {
    with_native_type(piece.type, [&](auto type) {
        launch({blocks_for(piece), stream}, moments_kernel<type()>, piece, moments);
    });
}

void count_beyond_sigma(const Piece& piece, double mean, double std, Count* beyond, cudaStream_t stream) {
    with_native_type(piece.type, [&](auto type) {
        launch({blocks_for(piece), stream}, beyond_kernel<type()>, piece, mean, std, beyond);
    });
}

void count_patterns(const Piece& piece, Count* counts, cudaStream_t stream) {
    launch({blocks_for(piece), stream}, patterns_kernel, piece, counts);
}

void count_bins(const Piece& piece, const BinCounts& bins, cudaStream_t stream) {
    with_native_type(piece.type, [&](auto type) {
        launch({blocks_for(piece), stream, binning_bytes(bins.bins)}, bins_kernel<type()>, piece, bins);
    });
}

} // namespace qs::cuda
