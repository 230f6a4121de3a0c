#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/methods/method_spec.h"
#include "core/model/evaluation.h"
#include "core/model/quantized_weights.h"

namespace qs {

/// The methods whose weights VariantWeights and evaluate_variants() make: those that work without a calibration text,
/// and if there is one (`calibrated`) those that take it.
std::vector<MethodSpec> runnable_methods(bool calibrated = false);

/// Every format with every method that is defined for it, in their order, and the inputs of layers rounded where the
/// method does not round them itself.
std::vector<Variant> combine(const std::vector<FormatSpec>& formats, const std::vector<MethodSpec>& methods,
                             Activations activations = Activations::none);

/// Why a variant cannot be made of a checkpoint, as the end of a sentence about it; empty where it can.
std::string why_not(const Variant& variant, bool calibrated = false);

using VariantResults = Evaluation;

/// evaluate() for variants; results come after about an eighth of the text each. Throws Error where a variant cannot be
/// made.
VariantResults evaluate_variants(const Decoder& decoder, const std::vector<Variant>& variants,
                                 const std::vector<std::vector<int>>& windows, Device& device, JobControl& job,
                                 const std::function<void(const VariantResults&)>& on_progress = {},
                                 const std::vector<std::vector<int>>& calibration = {});

/// The weights of variants for models that run with them alone. What methods make is held in memory, as float32.
class VariantWeights {
public:
    /// `decoder`, `device` and `job` must outlive the object and its hooks. Throws Error where a variant cannot be
    /// made, Cancelled. Adds what methods have to do to the total of `job`.
    VariantWeights(const Decoder& decoder, const std::vector<Variant>& variants, Device& device, JobControl& job,
                   const std::vector<std::vector<int>>& calibration = {});
    VariantWeights(const VariantWeights&) = delete;
    VariantWeights& operator=(const VariantWeights&) = delete;

    WeightHook hook(std::size_t variant) const;

private:
    struct Made {
        Matrix weight;
        LinearProduct product;
    };
    using Matrices = std::map<std::size_t, Made>; ///< by tensor

    /// Makes the variants at these places.
    void make(const Decoder& decoder, const std::vector<std::size_t>& places, const std::vector<Variant>& by_method,
              const std::vector<std::vector<int>>& calibration, JobControl& job, LayerMath* math);

    std::vector<Variant> variants_;
    std::vector<FormatSpec> formats_;
    QuantizedWeights weights_;             ///< refers to formats_
    std::map<std::size_t, Matrices> made_; ///< of variants that are not rounded to nearest
};

} // namespace qs
