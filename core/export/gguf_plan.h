#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/gguf_writer.h"
#include "core/export/gguf_export.h"

// Inside core/export: what a GGUF file is to hold, and where it comes from.

namespace qs {

/// A tensor of the file. Its rows are those of the checkpoint's tensor, changed in what the members say, or `values`.
struct PlannedTensor {
    std::string name;
    std::vector<std::int64_t> shape;    ///< row-major
    std::optional<std::size_t> source;  ///< index into Checkpoint::tensors
    std::vector<float> values;          ///< of one that the checkpoint does not hold
    bool transposed = false;            ///< it is stored with rows and columns the other way round
    Index interleaved_heads = 0;        ///< dimensions of a head whose rows are put into llama.cpp's order; 0: none
    float offset = 0;                   ///< added to each value
    std::optional<LinearTensor> linear; ///< what GgufRequest::replacement is asked for
    std::optional<FormatSpec> format;   ///< that the shape allows; none: it is copied as it is stored
    DType type = DType::f32;            ///< that it has in the file
    const float* importance = nullptr;  ///< of its columns
    std::uint64_t matrices = 1;         ///< that the rows are divided among

    TensorShape matrix() const;
    TensorInfo info() const; ///< as a reader of the file will see it
};

/// The header without its table of tensors, and the tensors in the order of the file, formats not chosen yet.
struct GgufPlan {
    GgufHeader header;
    std::vector<PlannedTensor> tensors;
    std::vector<std::string> notes;
};

/// What a GGUF checkpoint becomes: the same metadata and tensors, in llama-quantize's order.
GgufPlan plan_of_gguf(const std::shared_ptr<const Checkpoint>& checkpoint, bool with_linears);
/// What a Hugging Face checkpoint becomes, as llama.cpp's converter would have it. Throws Error naming what the model
/// has that GGUF files of its architecture do not tell.
GgufPlan plan_of_hugging_face(const std::shared_ptr<const Checkpoint>& checkpoint);

/// Chooses formats and types as llama-quantize would.
void choose_formats(GgufPlan& plan, const Checkpoint& checkpoint, const GgufRequest& request);

/// The metadata of a Hugging Face model but for the tokenizer's, and the tensors that follow from its config alone.
void add_model_metadata(GgufPlan& plan, const Checkpoint& checkpoint, const DecoderConfig& config);
/// The metadata of the tokenizer beside a model with so many tokens; where it cannot be converted, a note says why.
void add_tokenizer_metadata(GgufPlan& plan, const Checkpoint& checkpoint, int vocabulary);

} // namespace qs
