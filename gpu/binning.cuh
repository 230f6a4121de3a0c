#pragma once

#include "gpu/reductions.cuh"
#include "gpu/statistics.h"

namespace qs::cuda {

/// Up to this many counts (bins and the three beside them) are kept in shared memory.
inline constexpr unsigned shared_bins = 4096;

/// Words of dynamic shared memory that Binning takes.
__host__ __device__ inline unsigned binning_words(const BinCounts& bins) {
    return bins.counts != nullptr && bins.bins + 3 <= shared_bins ? bins.bins + 3 : 0;
}

/// Counts values of a thread block into equal bins, as the CPU device does: per_bin = bins / (high − low), and the
/// last bin holds `high`.
class Binning {
public:
    /// Counts nothing where `bins` has no counts. `shared` is dynamic shared memory of binning_words(). All threads of
    /// the block must call.
    __device__ Binning(const BinCounts& bins, unsigned* shared)
        : bins_(bins), shared_(bins.counts != nullptr && bins.bins + 3 <= shared_bins ? shared : nullptr) {
        if (shared_ != nullptr)
            for (unsigned i = threadIdx.x; i < bins_.bins + 3; i += blockDim.x)
                shared_[i] = 0;
        __syncthreads();
    }

    __device__ void add(double value) const {
        if (bins_.counts == nullptr)
            return;
        const unsigned at = bin_of(value);
        if (shared_ != nullptr)
            atomicAdd(&shared_[at], 1U);
        else
            atomicAdd(&bins_.counts[at], Count{1});
    }

    /// Hands the block's counts over. All threads of the block must call.
    __device__ void finish() const {
        __syncthreads();
        if (shared_ != nullptr)
            for (unsigned i = threadIdx.x; i < bins_.bins + 3; i += blockDim.x)
                if (shared_[i] != 0)
                    atomicAdd(&bins_.counts[i], Count{shared_[i]});
        __syncthreads();
    }

private:
    __device__ unsigned bin_of(double value) const {
        if (!isfinite(value))
            return bins_.bins + 2;
        if (value < bins_.low)
            return bins_.bins;
        if (value > bins_.high)
            return bins_.bins + 1;
        const auto bin = static_cast<std::uint64_t>((value - bins_.low) * bins_.per_bin);
        return bin < bins_.bins ? static_cast<unsigned>(bin) : bins_.bins - 1;
    }

    BinCounts bins_;
    unsigned* shared_;
};

} // namespace qs::cuda
