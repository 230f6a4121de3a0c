#pragma once

#include <cuda_runtime_api.h>

#include "gpu/fused.h"

namespace qs::cuda {

/// Enqueues the merging of what the units of a tensor gave, in an order that depends on nothing but their number: the
/// moments into one, and the error sums of each format, `units` after `units` of them, into one a format.
void merge_units(const Moments* of_units, Moments* moments, const ErrorSums* errors_of_units, ErrorSums* errors,
                 std::uint64_t units, unsigned formats, cudaStream_t stream);

/// Adds to beyond[0] and beyond[1] how many finite weights lie further than 3 and 6 standard deviations from the mean;
/// `moments`, of the whole tensor, are on the device.
void count_beyond_sigma(const Piece& piece, const Moments* moments, Count* beyond, cudaStream_t stream);

} // namespace qs::cuda
