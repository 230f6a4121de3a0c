#pragma once

#include <string>
#include <vector>

#include "core/base/job.h"
#include "core/checkpoint/checkpoint.h"
#include "core/model/matrix.h"

namespace qs {

/// Whether a tensor is a part of the model and holds plain floats of 16 bits or more, which can be cast.
bool is_castable(const TensorInfo& tensor);

/// The values of such a tensor as F32, F16 or BF16. Throws Error where one is not finite, or not in that
/// type.
std::vector<std::byte> cast_tensor(const Checkpoint& checkpoint, const TensorInfo& tensor, const std::string& dtype,
                                   JobControl& job);
/// The same of values that stand in the place of the tensor's.
std::vector<std::byte> cast_values(const Checkpoint& checkpoint, const TensorInfo& tensor, const RowVector& values,
                                   const std::string& dtype);

} // namespace qs
