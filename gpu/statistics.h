#pragma once

#include <cuda_runtime_api.h>

#include "gpu/fused.h"

namespace qs::cuda {

/// Adds to beyond[0] and beyond[1] how many finite weights lie further than 3 and 6 `std` from `mean`.
void count_beyond_sigma(const Piece& piece, double mean, double std, Count* beyond, cudaStream_t stream);

} // namespace qs::cuda
