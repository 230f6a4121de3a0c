#include "core/model/variants.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/device/with_layer_math.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"
#include "core/model/calibrated_layers.h"

namespace qs {

namespace {

/// Results after this part of a text, but never so few tokens that quantizing the layers anew outweighs running them.
constexpr std::size_t parts = 8;
constexpr std::size_t least_group_tokens = 1024;

std::vector<FormatSpec> formats_of(const std::vector<Variant>& variants, bool calibrated) {
    std::vector<FormatSpec> formats;
    for (const Variant& variant : variants) {
        if (const std::string reason = why_not(variant, calibrated); !reason.empty())
            throw Error(variant.text(), reason);
        formats.push_back(variant.format);
    }
    return formats;
}

std::size_t group_tokens(const std::vector<std::vector<int>>& windows, std::size_t most) {
    std::size_t tokens = 0;
    for (const auto& window : windows)
        tokens += window.size();
    return std::clamp(tokens / parts, least_group_tokens, most);
}

} // namespace

std::vector<MethodSpec> runnable_methods(bool calibrated) {
    std::vector<MethodSpec> runnable;
    for (const Method& entry : methods())
        if (calibrated || !entry.calibrates)
            runnable.push_back(parse_method(entry.id));
    return runnable;
}

std::vector<Variant> combine(const std::vector<FormatSpec>& formats, const std::vector<MethodSpec>& methods,
                             Activations activations) {
    std::vector<Variant> variants;
    for (const FormatSpec& format : formats)
        for (const MethodSpec& chosen : methods)
            if (Variant variant{format, chosen}; is_defined(variant)) {
                variant.activations = variant.rounds_inputs() ? Activations::none : activations;
                variants.push_back(std::move(variant));
            }
    return variants;
}

std::string why_not(const Variant& variant, bool calibrated) {
    if (variant.trained)
        return {};
    if (!calibrated && variant.calibrates())
        return "needs a text to calibrate on";
    if (!is_defined(variant))
        return "is made by a method that is not defined for the format";
    if (variant.rounds_to_nearest() && recipe_of(variant.format) == nullptr &&
        format(variant.format.id).importance == Importance::required)
        return "needs an importance matrix";
    return {};
}

VariantResults evaluate_variants(const Decoder& decoder, const std::vector<Variant>& variants,
                                 const std::vector<std::vector<int>>& windows, Device& device, JobControl& job,
                                 const std::function<void(const VariantResults&)>& on_progress,
                                 const std::vector<std::vector<int>>& calibration) {
    formats_of(variants, !calibration.empty());
    EvaluationRequest request;
    request.calibration = calibration;
    request.windows = windows;
    request.variants = variants;
    request.group_tokens = group_tokens(windows, request.group_tokens);
    return evaluate(decoder, request, device, job, on_progress);
}

VariantWeights::VariantWeights(const Decoder& decoder, const std::vector<Variant>& variants, Device& device,
                               JobControl& job, const std::vector<std::vector<int>>& calibration)
    : variants_(variants), formats_(formats_of(variants, !calibration.empty())),
      weights_(decoder.weights().checkpoint(), formats_, device, job) {
    std::vector<std::size_t> places;
    std::vector<Variant> by_method;
    for (std::size_t i = 0; i < variants.size(); ++i)
        if (!variants[i].rounds_to_nearest()) {
            places.push_back(i);
            by_method.push_back(variants[i]);
        }
    if (places.empty())
        return;
    job.set_total(job.total() + CalibratedLayers::work(decoder, by_method, calibration));
    with_layer_math(device, [&](LayerMath* math) { make(decoder, places, by_method, calibration, job, math); });
}

void VariantWeights::make(const Decoder& decoder, const std::vector<std::size_t>& places,
                          const std::vector<Variant>& by_method, const std::vector<std::vector<int>>& calibration,
                          JobControl& job, LayerMath* math) {
    CalibratedLayers layers(decoder, by_method, calibration, job, math);
    LayerWeights target;
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        const LayerWeights weights = decoder.weights().layer(layer);
        layers.begin(weights);
        for (std::size_t i = 0; i < places.size(); ++i) {
            layers.quantize(i, target);
            for (auto& linear : target.linears)
                if (linear)
                    made_[places[i]][linear->tensor.tensor] = {std::move(linear->weight), std::move(linear->product)};
        }
    }
}

WeightHook VariantWeights::hook(std::size_t variant) const {
    if (const auto made = made_.find(variant); made != made_.end()) {
        const Matrices& matrices = made->second;
        WeightHook hook(
            [&matrices](const LinearTensor& tensor, Matrix& weight) { weight = matrices.at(tensor.tensor).weight; });
        hook.product = [&matrices](const LinearTensor& tensor) { return matrices.at(tensor.tensor).product; };
        return hook;
    }
    const Variant& rounded = variants_[variant];
    WeightHook hook = weights_.hook(variant);
    if (rounded.trained)
        hook = [trained = rounded.trained](const LinearTensor& tensor, Matrix& weight) {
            weight = trained->weights.at(tensor.tensor);
        };
    if (rounded.activations != Activations::none)
        hook.product = [activations = rounded.activations](const LinearTensor&) {
            return rounded_product(activations);
        };
    return hook;
}

} // namespace qs
