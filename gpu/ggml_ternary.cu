#include "core/formats/ggml_ternary.h"

#include "gpu/families.h"
#include "gpu/packed.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context) {
    return std::make_unique<PackedRun<Codec>>(std::move(host_codec), use, context);
}

template std::unique_ptr<FormatRun> make_packed_run<Tq1_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Tq2_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q1_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Q2_0>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);

template void decode_packed<Tq1_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Tq2_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q1_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Q2_0>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);

} // namespace qs::cuda
