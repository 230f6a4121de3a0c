#include "core/formats/microscaling.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, RunContext context) {
    return run_by_scope(codec, context.shape, std::move(context.host_codec), context.scratch);
}

template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E4M3>>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E5M2>>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E3M2>>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E2M3>>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E2M1>>&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<IntElement>&, RunContext);

} // namespace qs::cuda
