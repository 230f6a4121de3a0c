#pragma once

#include <cstddef>
#include <cstdint>

#include "core/checkpoint/checkpoint.h"

namespace qs {

/// Elements [begin, begin + count) of a stored tensor as float32, dequantized where it is a block type.
/// `data` is the tensor's first byte; `begin` and `begin + count` need not be block aligned.
/// f64 is rounded to nearest; integers are not weights and are refused with Error.
void load_weights(DType dtype, bool byte_swapped, const std::byte* data, std::uint64_t begin, std::size_t count,
                  float* out);

} // namespace qs
