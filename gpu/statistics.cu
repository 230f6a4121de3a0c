#include "gpu/statistics.h"

#include <cmath>

#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

namespace qs::cuda {

namespace {

struct Beyond {
    unsigned three = 0, six = 0;
    __device__ void merge(const Beyond& later) {
        three += later.three;
        six += later.six;
    }
};

__global__ void __launch_bounds__(block_threads) beyond_kernel(Piece piece, double mean, double std, Count* beyond) {
    const Unit unit = unit_of(piece, blockIdx.x);
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

void count_beyond_sigma(const Piece& piece, double mean, double std, Count* beyond, cudaStream_t stream) {
    launch({blocks_for(piece), stream}, beyond_kernel, piece, mean, std, beyond);
}

} // namespace qs::cuda
