#pragma once

#include "core/analysis/pipeline.h"
#include "core/base/json_number.h"

namespace qs {

/// The fields of PRODUCT.md section 8 for what was measured.
Json statistics_json(const Statistics& statistics);
/// The result fields; beside them `used` (the format that the tensor was stored in), `kept` (null or why a recipe left
/// the tensor as it is), `fallback` (null or the format used because of the tensor's shape), `nonfinite` (pairs left
/// out of the sums) and `flagged` (whether there were any).
Json result_json(const FormatResult& result);
/// `name`, `shape`, `role`, `layer`, `dtype`, `bytes`, `file` of a tensor.
Json tensor_json(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// `imatrix` of `analyze`: its file, how many entries it has and how many of the tensors it was used for; null for
/// none.
Json imatrix_json(const ImportanceMatrix* imatrix, const std::vector<TensorReport>& reports);

/// `tensors`, `model`, `layers`, `roles` and `skipped` of `analyze`, in this order. A tensor has its `results` and its
/// `skipped_formats`, each with a reason.
Json analysis_json(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                   const std::vector<TensorReport>& reports, const std::vector<SkippedTensor>& skipped);

/// One row a tensor and format, with a line of names: the fields of the JSON; text is quoted as RFC 4180 says.
std::string analysis_csv(const Checkpoint& checkpoint, const std::vector<TensorReport>& reports);

} // namespace qs
