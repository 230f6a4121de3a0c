#include "core/formats/ggml_nonlinear.h"

#include "gpu/families.h"
#include "gpu/packed.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_packed_run(std::unique_ptr<TensorCodec> host_codec, Importance use,
                                           const RunContext& context) {
    return std::make_unique<PackedRun<Codec>>(std::move(host_codec), use, context);
}

template std::unique_ptr<FormatRun> make_packed_run<Iq4Nl>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Iq4Xs>(std::unique_ptr<TensorCodec>, Importance, const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Mxfp4Ggml>(std::unique_ptr<TensorCodec>, Importance,
                                                               const RunContext&);
template std::unique_ptr<FormatRun> make_packed_run<Nvfp4Ggml>(std::unique_ptr<TensorCodec>, Importance,
                                                               const RunContext&);

template void decode_packed<Iq4Nl>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Iq4Xs>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Mxfp4Ggml>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);
template void decode_packed<Nvfp4Ggml>(const std::uint8_t*, std::uint64_t, bool, float*, cudaStream_t);

} // namespace qs::cuda
