#pragma once

#include <memory>

#include "core/device/layer_math.h"
#include "gpu/algebra.h"

namespace qs::cuda {

/// The steps of a decoder on the GPU of this ordinal, in the queue of its algebra, which must have one and outlive it.
std::unique_ptr<LayerMath> make_cuda_layer_math(int ordinal, QueuedAlgebra& algebra);

} // namespace qs::cuda
