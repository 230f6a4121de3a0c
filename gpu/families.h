#pragma once

#include <memory>

#include "gpu/format_run.h"

/// How each family makes its runs; the .cu of the family defines them for its codecs.
namespace qs::cuda {

/// A block codec.
template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context);

/// NF4 or FP4 with double quantization.
template <class Codec>
std::unique_ptr<FormatRun> make_double_quant_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                                 const RunContext& context);

std::unique_ptr<FormatRun> make_nvfp4_run(std::unique_ptr<TensorCodec> host_codec, const RunContext& context);

/// A packed codec.
template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context);

/// Enqueues Σ w² of each row, in the order of the weights, as the reference sums them: one row a thread. A row that the
/// piece before began is continued.
void sum_row_squares(const Piece& piece, std::uint64_t columns, float* squares, cudaStream_t stream);

/// Enqueues the decoding of stored blocks.
template <class Codec>
void decode_packed(const std::uint8_t* blocks, std::uint64_t count, bool byte_swapped, float* weights,
                   cudaStream_t stream);

} // namespace qs::cuda
