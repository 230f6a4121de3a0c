#include "core/formats/floating.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, RunContext context) {
    if constexpr (std::is_base_of_v<ElementCodec, Codec>)
        return std::make_unique<ElementRun<Codec>>(codec, std::move(context.host_codec));
    else
        return run_by_scope(codec, context.shape, std::move(context.host_codec), context.scratch);
}

template std::unique_ptr<FormatRun> make_codec_run(const Fp32Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Tf32Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Fp16Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Bf16Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Fp8Codec<E4M3>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Fp8Codec<E5M2>&, RunContext);

} // namespace qs::cuda
