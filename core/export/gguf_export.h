#pragma once

#include <memory>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/job.h"
#include "core/checkpoint/imatrix.h"
#include "core/device/device.h"
#include "core/export/summary.h"
#include "core/export/tensor_rules.h"
#include "core/model/weights.h"

namespace qs {

/// What a GGUF file is to hold.
struct GgufRequest {
    /// One of ggml's, fp32, fp16, bf16, or a recipe. Recipes are llama-quantize's mixtures. A format is taken for every
    /// matrix that llama-quantize quantizes at all, token embedding and head too, as with its --pure: what `analyze`
    /// measures under the format's name. Where a shape does not allow a format it gives way as in llama-quantize.
    FormatSpec format;
    const ImportanceMatrix* imatrix = nullptr; ///< for the formats that use it; or null
    /// The first whose pattern matches the name of a tensor that is quantized at all, llama.cpp's or the checkpoint's
    /// own, decides on its format.
    std::vector<TensorTypeRule> overrides;
    /// Stands in for the weights of linear layers before they are quantized; may be empty.
    WeightHook replacement;
};

/// Writes a GGUF file that llama.cpp loads, and commits it. A GGUF checkpoint keeps its metadata to the byte; of a
/// Hugging Face one (safetensors with a config.json) names, order of rows, metadata and tokenizer are made as
/// llama.cpp's converter makes them. Tensors go through one by one in pieces, on as many threads as the device says;
/// the file does not depend on their number. `job` counts bytes of the checkpoint. Throws Error naming file, tensor or
/// option, Cancelled.
ExportSummary export_gguf(const std::shared_ptr<const Checkpoint>& checkpoint, const GgufRequest& request,
                          Device& device, JobControl& job, AtomicFile& file);

} // namespace qs
