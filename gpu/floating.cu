#include "core/formats/floating.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

template std::unique_ptr<FormatRun> make_codec_run(const Fp32Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Tf32Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Fp16Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Bf16Codec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Fp8Codec<E4M3>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const Fp8Codec<E5M2>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);

} // namespace qs::cuda
