#include "core/formats/ggml_k.h"

#include "gpu/families.h"
#include "gpu/packed.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context) {
    return std::make_unique<PackedRun<Codec>>(std::move(host_codec), use, context);
}

template std::unique_ptr<FormatRun> make_packed_run<Q2_K>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q3_K>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q4_K>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q5_K>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q6_K>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);

template void decode_packed<Q2_K>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q3_K>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q4_K>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q5_K>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q6_K>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);

} // namespace qs::cuda
