#include "core/formats/bitsandbytes.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

template <class Codec>
std::unique_ptr<FormatRun> make_double_quant_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                                 const RunContext& context) {
    // The absmax of all blocks are known to the host before the first code is made.
    const auto requantize = [](std::span<AbsmaxScale> scales) {
        std::vector<float> absmax;
        for (const AbsmaxScale& scale : scales)
            absmax.push_back(scale.decode);
        const NestedAbsmax nested = quantize_nested(absmax);
        for (std::size_t i = 0; i < scales.size(); ++i)
            scales[i].decode = nested.decoded[i];
    };
    const auto device_codec = on_device(codec);
    return std::make_unique<ScopedRun<std::remove_const_t<decltype(device_codec)>>>(
        device_codec, std::move(host_codec), map_of(codec.scope(), context.shape), context, requantize);
}

template std::unique_ptr<FormatRun> make_codec_run(const Nf4Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Fp4Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Dynamic8Codec&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_double_quant_run(const Nf4Codec&, std::unique_ptr<TensorCodec>,
                                                          const RunContext&);
template std::unique_ptr<FormatRun> make_double_quant_run(const Fp4Codec&, std::unique_ptr<TensorCodec>,
                                                          const RunContext&);

} // namespace qs::cuda
