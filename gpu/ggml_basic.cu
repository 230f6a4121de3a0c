#include "core/formats/ggml_basic.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"
#include "gpu/packed.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context) {
    return std::make_unique<PackedRun<Codec>>(std::move(host_codec), use, context);
}

template std::unique_ptr<FormatRun> make_codec_run(const Q4_0Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Q4_1Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Q5_0Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Q5_1Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Q8_0Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q4_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q4_1>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q5_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q5_1>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q8_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);

template void decode_packed<Q4_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q4_1>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q5_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q5_1>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q8_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);

} // namespace qs::cuda
