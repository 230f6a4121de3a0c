#include "core/formats/ggml_iq.h"

#include "gpu/families.h"
#include "gpu/packed.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context) {
    return std::make_unique<PackedRun<Codec>>(std::move(host_codec), use, context);
}

template std::unique_ptr<FormatRun> make_packed_run<Iq1S>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq1M>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq2Xxs>(std::unique_ptr<TensorCodec>, Importance,
                                                            const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq2Xs>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq2S>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq3Xxs>(std::unique_ptr<TensorCodec>, Importance,
                                                            const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq3S>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);

template void decode_packed<Iq1S>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq1M>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq2Xxs>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq2Xs>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq2S>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq3Xxs>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq3S>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);

} // namespace qs::cuda
