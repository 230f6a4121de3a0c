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

} // namespace qs::cuda
