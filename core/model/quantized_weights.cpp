#include "core/model/quantized_weights.h"

#include "core/analysis/importance.h"
#include "core/base/error.h"
#include "core/formats/registry.h"

namespace qs {

double QuantizedWeights::quantize(std::size_t spec, const LinearTensor& tensor, const Matrix& weight,
                                  Matrix& decoded) const {
    const TensorShape shape{static_cast<std::uint64_t>(weight.rows()), static_cast<std::uint64_t>(weight.cols())};
    TensorImportance importance;
    if (imatrix_ != nullptr)
        importance = importance_of(*imatrix_, checkpoint_, checkpoint_.tensors[tensor.tensor]);
    const FormatSpec used = effective_spec(plan_.formats(tensor.tensor)[spec], shape);
    decoded.resize(weight.rows(), weight.cols());
    JobControl part(&job_); // devices count bytes, which are not what the job counts
    try {
        return device_.quantize(weight.data(), shape, used,
                                importance.values.empty() ? nullptr : importance.values.data(), nullptr, decoded.data(),
                                part);
    } catch (const Error& error) {
        throw Error(checkpoint_.path.string() + ": tensor " + tensor.name, error.what());
    }
}

WeightHook QuantizedWeights::hook(std::size_t spec) const {
    return [this, spec](const LinearTensor& tensor, Matrix& weight) {
        Matrix decoded;
        quantize(spec, tensor, weight, decoded);
        weight = std::move(decoded);
    };
}

} // namespace qs
