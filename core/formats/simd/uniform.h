#pragma once

#include <cstddef>
#include <cstdint>

#include "core/formats/integer.h"
#include "core/formats/tensor_codec.h"

namespace qs::simd {

/// The fast forms of TensorCodec::evaluate_bf16 (see there) for evenly spaced levels. Each takes whole scopes from the
/// start of `words`, which is element `begin` of the tensor, and returns how many weights it has done: it stops before
/// a scope that is not finite, is zero or whose absmax is not between 2⁻⁴⁰ and 65504, and does none on a CPU without
/// AVX2. Codes are those of the scalar codec; `usage`, by code, may be null. The sums are as evaluate_codebook4 gives
/// them.
std::size_t evaluate_q4_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage);
std::size_t evaluate_q5_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage);
std::size_t evaluate_q8_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage);
/// Symmetric integers whose scopes are of codec.scope().size weights each, a multiple of 64.
std::size_t evaluate_symmetric(const SymmetricIntCodec& codec, const std::uint16_t* words, std::uint64_t begin,
                               std::size_t count, ErrorSums& sums, std::uint64_t* usage);

} // namespace qs::simd
