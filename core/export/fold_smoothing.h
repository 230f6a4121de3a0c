#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/methods/apply.h"
#include "core/model/decoder.h"

namespace qs {

/// What a method made of one linear layer.
struct QuantizedLinear {
    LinearTensor tensor;
    MethodResult result;
};

/// The values of tensors that stay, where they change.
using ChangedTensors = std::map<std::string, RowVector>;

/// Divides whatever makes the inputs of a decoder layer's linear layers by the smoothing that these were quantized with
/// (MethodResult::smoothing), so that what is stored of them computes the same: the norm in front of q, k and v and of
/// gate and up, with its bias; the rows of v in front of o, and those of up in front of down, with theirs. Rows of
/// matrices are divided by way of their scales. Throws Error where an activation lies between the two that a division
/// does not pass through.
ChangedTensors fold_smoothing(const Decoder& decoder, const LayerWeights& weights,
                              std::vector<QuantizedLinear>& linears);

} // namespace qs
