#pragma once

#include <span>
#include <string>

#include "core/checkpoint/imatrix.h"
#include "core/device/device.h"

namespace qs {

/// What an importance matrix says of one tensor.
struct TensorImportance {
    std::span<const float> values; ///< one a column of each matrix; empty where there are none
    std::uint64_t matrices = 1;    ///< that the tensor is made of: stacked experts
    std::string missing;           ///< why there are none

    /// Lets a view of the tensor be quantized with them.
    void give_to(TensorView& view) const;
};

/// The importances of a tensor, a part of `imatrix`: of the entry that bears the name of a GGUF checkpoint's tensor, or
/// the name that llama.cpp's converter makes of a Hugging Face one's. Throws Error where the entry is of another size.
TensorImportance importance_of(const ImportanceMatrix& imatrix, const Checkpoint& checkpoint, const TensorInfo& tensor);

/// The same of a tensor that has `tensor`'s name and shape in a GGUF file.
TensorImportance importance_in_gguf(const ImportanceMatrix& imatrix, const TensorInfo& tensor);

/// Under what name an importance matrix holds a tensor: its own in GGUF, else what llama.cpp's converter makes of it;
/// empty where that is not known.
std::string importance_name(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Whether a format, on a tensor of this shape, does not encode without importances.
bool needs_importance(const FormatSpec& spec, const TensorShape& shape);

} // namespace qs
