#include "core/formats/integer.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, RunContext context) {
    return run_by_scope(codec, context.shape, std::move(context.host_codec), context.scratch);
}

template std::unique_ptr<FormatRun> make_codec_run(const SymmetricIntCodec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const AffineIntCodec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const LlmInt8Codec&, RunContext);

} // namespace qs::cuda
