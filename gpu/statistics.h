#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/analysis/statistics.h"
#include "gpu/piece.h"

namespace qs::cuda {

/// Counts on the device; 64 bits wide, so that no tensor overflows them.
using Count = unsigned long long;

/// Equal bins over [low, high]: counts[i] of bin i, then what lies below, above and is not finite
/// (`bins` + 3 counts in all).
struct BinCounts {
    double low, high;
    double per_bin;
    unsigned bins;
    Count* counts;
};

/// Adds the moments of every unit of the piece to `moments`, an array over all units of the tensor.
void measure_moments(const Piece& piece, Moments* moments, cudaStream_t stream);

/// Adds to beyond[0] and beyond[1] how many finite weights lie further than 3 and 6 `std` from `mean`.
void count_beyond_sigma(const Piece& piece, double mean, double std, Count* beyond, cudaStream_t stream);

/// Adds how often each bit pattern of a bf16 or f16 piece occurs to `counts` (65,536).
void count_patterns(const Piece& piece, Count* counts, cudaStream_t stream);

/// Adds the weights to a histogram.
void count_bins(const Piece& piece, const BinCounts& bins, cudaStream_t stream);

} // namespace qs::cuda
