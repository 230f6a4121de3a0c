#include <cmath>

#include "core/methods/matrix.h"
#include "core/methods/rounding.h"

// SmoothQuant: Xiao et al. (2022), after smooth_ln_fcs in smoothquant/smooth.py and fake_quant.py of
// mit-han-lab/smoothquant at c61476d7.

namespace qs {

namespace {

constexpr float least = 1e-5F; // of a scale, and of a column's weights

/// The largest magnitude of each column over all layers.
std::vector<float> column_absmax(std::span<const LayerWeight> layers) {
    std::vector<float> absmax(static_cast<std::size_t>(layers.front().shape.columns), least);
    for (const LayerWeight& layer : layers)
        for (std::size_t i = 0; i < layer.shape.count(); ++i) {
            float& largest = absmax[i % absmax.size()];
            largest = std::max(largest, std::abs(layer.values[i]));
        }
    return absmax;
}

/// The largest input once it is divided by the scales.
float smoothed_absmax(const Calibration& calibration, const std::vector<float>& scales) {
    float absmax = 0;
    for (std::size_t i = 0; i < scales.size(); ++i)
        absmax = std::max(absmax, calibration.absmax()[i] / scales[i]);
    return absmax;
}

} // namespace

std::vector<float> smoothquant_scales(const MethodSpec& method, std::span<const LayerWeight> layers,
                                      const Calibration& calibration) {
    const double alpha = method.real("alpha");
    const std::vector<float> weights = column_absmax(layers);
    std::vector<float> scales(weights.size());
    for (std::size_t i = 0; i < scales.size(); ++i)
        scales[i] = std::max(
            static_cast<float>(std::pow(calibration.absmax()[i], alpha) / std::pow(weights[i], 1 - alpha)), least);
    return scales;
}

void apply_smoothquant(const MethodInput& input, MethodResult& result) {
    const LayerWeight layer{input.weights, input.shape};
    result.smoothing = input.smoothing.empty()
                           ? smoothquant_scales(input.method, std::span(&layer, 1), input.calibration)
                           : std::vector(input.smoothing.begin(), input.smoothing.end());
    result.activations = parse_activations(input.method.choice("activations"));
    result.input_absmax = smoothed_absmax(input.calibration, result.smoothing);
    std::vector<float> scaled(input.weights, input.weights + input.shape.count());
    scale_columns(scaled, result.smoothing);
    round_smoothed(*scanned_codec(input.format, scaled.data(), input.shape, nullptr, input.job), scaled, input.job,
                   result);
}

} // namespace qs
