#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/methods/method_spec.h"
#include "core/model/evaluation.h"
#include "core/model/quantized_weights.h"

namespace qs {

/// The methods that make_variants() and evaluate_variants() apply to the layers of a decoder.
std::vector<MethodSpec> runnable_methods();

/// Every format with every method that is defined for it, in their order.
std::vector<Variant> combine(const std::vector<FormatSpec>& formats, const std::vector<MethodSpec>& methods);

/// Why a variant cannot be made of a checkpoint, as the end of a sentence about it; empty where it can.
std::string why_not(const Variant& variant);

using VariantResults = Evaluation;

/// evaluate() for variants; results come after about an eighth of the text each.
VariantResults evaluate_variants(const Decoder& decoder, const std::vector<Variant>& variants,
                                 const std::vector<std::vector<int>>& windows, Device& device, JobControl& job,
                                 const std::function<void(const VariantResults&)>& on_progress = {});

/// The weights of variants for models that run with them alone.
class VariantWeights {
public:
    /// Everything given here must outlive the object and its hooks.
    VariantWeights(const Decoder& decoder, const std::vector<Variant>& variants, Device& device, JobControl& job);
    VariantWeights(const VariantWeights&) = delete;
    VariantWeights& operator=(const VariantWeights&) = delete;

    WeightHook hook(std::size_t variant) const { return weights_.hook(variant); }

private:
    std::vector<FormatSpec> formats_;
    QuantizedWeights weights_; ///< refers to formats_
};

} // namespace qs
