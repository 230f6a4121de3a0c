#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/analysis/report.h"
#include "core/base/job.h"
#include "core/checkpoint/imatrix.h"
#include "core/device/device.h"

namespace qs {

/// A tensor left out of an analysis, and why.
struct SkippedTensor {
    std::size_t tensor;
    std::string reason;
};

/// Which tensors an analysis covers.
struct Selection {
    std::vector<std::size_t> tensors;
    std::vector<SkippedTensor> skipped;
};

/// Floating-point (or dequantizable) tensors of two or more dimensions; with a `glob` (`*`, `?`, `[…]`, over the
/// whole name) the ones that match instead, of any rank. Throws Error when a glob matches nothing.
Selection select_tensors(const Checkpoint& checkpoint, const std::string& glob = {});

/// The tensor as a device reads it.
TensorView view_of(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Analyses the chosen tensors in one pass each and returns their reports in that order. A spec that is a recipe stands
/// for what it chooses for each tensor of the whole checkpoint. `on_report` is called (from
/// the calling thread or a worker, one call at a time) as each is done. With an importance matrix formats use it on the
/// tensors that it has entries for; those that need it are skipped on the others. Throws Cancelled.
std::vector<TensorReport> analyze(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors,
                                  const std::vector<FormatSpec>& specs, Device& device, JobControl& job,
                                  const std::function<void(const TensorReport&)>& on_report = {},
                                  const ImportanceMatrix* imatrix = nullptr);

} // namespace qs
