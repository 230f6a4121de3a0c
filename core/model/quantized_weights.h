#pragma once

#include <span>
#include <vector>

#include "core/analysis/recipe_plan.h"
#include "core/checkpoint/imatrix.h"
#include "core/device/device.h"
#include "core/model/weights.h"

namespace qs {

/// What formats make of the weights of a checkpoint. Blocks run along a matrix's inputs, as every ecosystem has it:
/// GPT-2's transposed matrices are turned round first.
class QuantizedWeights {
public:
    /// `specs` may be recipes; everything given here must outlive the object.
    QuantizedWeights(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs, Device& device,
                     JobControl& job, const ImportanceMatrix* imatrix = nullptr)
        : checkpoint_(checkpoint), plan_(checkpoint, specs, imatrix != nullptr), device_(device), job_(job),
          imatrix_(imatrix) {}

    /// The reconstruction of a matrix in the format of specs[spec]; returns the bits it takes. Throws Error where the
    /// format needs importances that are not there.
    double quantize(std::size_t spec, const LinearTensor& tensor, const Matrix& weight, Matrix& decoded) const;
    /// The same in place, for a model that runs with the format's weights alone.
    WeightHook hook(std::size_t spec) const;

private:
    const Checkpoint& checkpoint_;
    RecipePlan plan_;
    Device& device_;
    JobControl& job_;
    const ImportanceMatrix* imatrix_;
};

} // namespace qs
