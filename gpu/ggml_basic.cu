#include "core/formats/ggml_basic.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

/// The rows are multiples of the block, so that there is never another scope than the block of 32.
template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, RunContext context) {
    return std::make_unique<BlockRun<Codec>>(codec, std::move(context.host_codec), ggml_block);
}

template std::unique_ptr<FormatRun> make_codec_run(const Q4_0Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Q4_1Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Q5_0Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Q5_1Codec&, RunContext);
template std::unique_ptr<FormatRun> make_codec_run(const Q8_0Codec&, RunContext);

} // namespace qs::cuda
