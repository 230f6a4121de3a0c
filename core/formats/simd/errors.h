#pragma once

#include <cstddef>
#include <cstdint>

#include "core/formats/tensor_codec.h"

namespace qs::simd {

/// Adds the errors of finite pairs in float64; element i of the arrays is element begin + i of the tensor. Which
/// numbers are added in which order does not depend on the instruction set, so neither does the result. Returns false,
/// having done nothing, where a weight or a value is not finite.
bool add_finite_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count,
                       ErrorSums& sums);

} // namespace qs::simd
