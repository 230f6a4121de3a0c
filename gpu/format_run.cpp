#include "gpu/format_run.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"
#include "gpu/families.h"

namespace qs::cuda {

bool has_kernels(const FormatSpec& spec, const float* importance) {
    const bool weighted = importance != nullptr && format(spec.id).importance != Importance::unused;
    // The kernels decode with the absmax itself, not with what double quantization leaves of it.
    const bool double_quantized = spec.parameters.contains("dq") && spec.flag("dq");
    return !weighted && !double_quantized && has_block_codec(spec);
}

std::unique_ptr<FormatRun> make_run(const FormatSpec& spec, const TensorShape& shape, Scratch& scratch) {
    return with_codec(spec, [&](const auto& codec) {
        return make_codec_run(codec, RunContext{shape, bind_codec(spec, shape), scratch});
    });
}

} // namespace qs::cuda
