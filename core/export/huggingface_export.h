#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/job.h"
#include "core/export/safetensors_file.h"
#include "core/export/summary.h"
#include "core/model/decoder.h"
#include "core/model/variant.h"

namespace qs {

/// A model to be written as a Hugging Face folder.
struct HuggingFaceRequest {
    Variant variant;
    std::string layout = "auto";               ///< of layouts() (layout.h)
    std::vector<std::vector<int>> calibration; ///< windows of tokens, for methods that calibrate
    bool overwrite = false;                    ///< a folder that is there already
    std::uint64_t file_bytes = SafetensorsWriter::usual_file_bytes;
    int threads = 0; ///< 0: all
};

/// Quantizes the linear layers of the decoder's layers and writes the model as a folder: safetensors in a layout that
/// other programs load, config.json with its quantization_config, and the tokenizer's files. Embedding, norms, biases
/// and head stay as they are, in 16 bits. AWQ's scales are folded into what comes before. The folder is complete or
/// absent. Throws Error where the layout cannot store the variant or one of the matrices, where a tensor is not finite,
/// and for GGUF files, which it does not convert; Cancelled.
ExportSummary export_huggingface(const Decoder& decoder, const HuggingFaceRequest& request, JobControl& job,
                                 const std::filesystem::path& folder);

/// Writes any safetensors checkpoint with its floating-point tensors cast to fp32, fp16 or bf16.
ExportSummary export_cast(const Checkpoint& checkpoint, const HuggingFaceRequest& request, JobControl& job,
                          const std::filesystem::path& folder);

/// Whether the variant is a cast, to be written by export_cast().
bool is_cast(const Variant& variant);

} // namespace qs
