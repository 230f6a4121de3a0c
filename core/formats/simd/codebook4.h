#pragma once

#include <cstddef>
#include <cstdint>

#include "core/formats/tensor_codec.h"

namespace qs::simd {

/// A 4-bit codebook of bitsandbytes for blocks scaled by their absmax.
enum class Codebook4 { nf4, fp4 };

/// The fast form of TensorCodec::evaluate for bf16 input, for tensors of at least `word_forms_from` weights. Handles
/// whole blocks of `block` weights (a multiple of 32) from the start of `weights`, which is element `begin` of the
/// tensor, and returns how many weights it has done: it stops before a block that is not finite or whose absmax is
/// beyond 2^±40, and returns 0 on a CPU without AVX2. Codes are those of the scalar codec. `decode_absmax`, if not
/// null, holds what each block is decoded with (double quantization); `usage` has 16 entries or is null.
///
/// The sums are those that TensorCodec::evaluate_bf16 gives. w − v is taken in float32, where it is exact: v is the
/// level nearest to w, so w/2 ≤ v ≤ 2w (Sterbenz's lemma) or v = 0; with double quantization it is rounded once. Terms
/// are added in float32 sixteen at a time and in float64 from there: over a million weights the sums differ from
/// all-float64 ones by less than 1e-9 (tested).
std::size_t evaluate_codebook4(Codebook4 codebook, const std::uint16_t* weights, std::uint64_t begin, std::size_t count,
                               std::size_t block, const float* decode_absmax, ErrorSums& sums, std::uint64_t* usage);

} // namespace qs::simd
