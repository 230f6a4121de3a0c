#pragma once

#include <cmath>

#include "core/analysis/statistics.h"
#include "gpu/reductions.cuh"

namespace qs::cuda {

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

/// The moments of a unit, into `result`. All threads of the block must call.
__device__ inline void measure_moments(const Piece& piece, const Unit& unit, Moments& result) {
    FirstLook look;
    for_each_weight(piece, unit, [&](unsigned, float w) { look.add(w); });
    look = block_reduce(look);

    __shared__ double shared_mean;
    if (threadIdx.x == 0)
        shared_mean = look.finite > 0 ? look.sum / static_cast<double>(look.finite) : 0.0;
    __syncthreads();
    const double mean = shared_mean;

    Powers powers;
    for_each_weight(piece, unit, [&](unsigned, float w) { powers.add(w, mean); });
    powers = block_reduce(powers);
    if (threadIdx.x != 0)
        return;
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

} // namespace qs::cuda
