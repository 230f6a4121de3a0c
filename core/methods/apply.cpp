#include "core/methods/apply.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/block_codec.h"
#include "core/formats/registry.h"
#include "core/methods/matrix.h"
#include "core/methods/rounding.h"
#include "core/model/product.h"

#include <fmt/format.h>

namespace qs {

namespace {

void check(const MethodSpec& method, const FormatSpec& format, const TensorShape& shape,
           const Calibration& calibration) {
    require_takes(method, format);
    if (shape.count() == 0)
        throw Error("method " + method.id, "the matrix has no weights");
    if (shape.matrices != 1)
        throw Error("method " + method.id, "stacked matrices have calibrations of their own", "apply it to each");
    if (!qs::method(method.id).calibrates && calibration.tokens() == 0)
        return;
    if (calibration.columns() != shape.columns)
        throw Error("method " + method.id, fmt::format("the calibration is of {} inputs, the matrix has {} columns",
                                                       calibration.columns(), shape.columns));
    if (calibration.tokens() == 0)
        throw Error("method " + method.id, "needs a calibration, and no tokens went through the layer",
                    "give a calibration text");
}

/// Finite weights; `storage` holds them where some are not.
const float* finite_weights(const float* weights, std::size_t count, std::vector<float>& storage) {
    if (std::all_of(weights, weights + count, [](float w) { return is_finite(w); }))
        return weights;
    storage.assign(weights, weights + count);
    std::ranges::transform(storage, storage.begin(), finite_or_zero);
    return storage.data();
}

void measure_outputs(const MethodInput& input, MethodResult& result) {
    const std::size_t columns = static_cast<std::size_t>(input.shape.columns);
    const std::vector<double> hessian = input.calibration.hessian();
    const auto h = view(hessian.data(), columns, columns);
    const auto form = [&](const auto& matrix_of) {
        return sum_over_row_chunks(static_cast<std::size_t>(input.shape.rows), input.job,
                                   [&](std::size_t first, std::size_t count) {
                                       const RowMatrix<double> rows = matrix_of(first * columns, count);
                                       return quadratic_form(rows, h);
                                   });
    };
    const auto of = [&](const float* weights, std::size_t offset, std::size_t rows) {
        return view(weights + offset, rows, columns).template cast<double>();
    };
    result.output_power = form(
        [&](std::size_t offset, std::size_t rows) -> RowMatrix<double> { return of(input.weights, offset, rows); });
    result.output_error = form([&](std::size_t offset, std::size_t rows) -> RowMatrix<double> {
        return of(input.weights, offset, rows) - of(result.weight.data(), offset, rows);
    });
}

void multiply(const float* weights, const TensorShape& shape, const float* inputs, std::size_t tokens, float* outputs) {
    const auto rows = static_cast<std::size_t>(shape.rows), columns = static_cast<std::size_t>(shape.columns);
    parallel_product(as_is(view(inputs, tokens, columns)), transposed(view(weights, rows, columns)),
                     view(outputs, tokens, rows));
}

/// With the inputs rounded, which tr(D·H·Dᵀ) says nothing of.
void measure_simulated(const MethodInput& input, MethodResult& result) {
    const std::vector<float> inputs = input.calibration.kept_rows();
    const std::size_t tokens = inputs.size() / static_cast<std::size_t>(input.shape.columns);
    if (tokens == 0)
        return;
    std::vector<float> exact(tokens * static_cast<std::size_t>(input.shape.rows)), simulated(exact.size());
    multiply(input.weights, input.shape, inputs.data(), tokens, exact.data());
    layer_outputs(result, input.shape, inputs.data(), tokens, simulated.data());
    double error = 0, power = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        const double y = exact[i], d = y - simulated[i];
        power += y * y;
        error += d * d;
    }
    result.simulated_error = 2 * error / static_cast<double>(tokens);
    result.simulated_power = 2 * power / static_cast<double>(tokens);
}

} // namespace

MethodResult apply_method(const MethodSpec& method, const FormatSpec& format, const float* weights,
                          const TensorShape& shape, const Calibration& calibration, const JobControl& job,
                          std::span<const float> smoothing, bool measure) {
    MethodResult result;
    result.method = method;
    result.format = effective_spec(format, shape);
    check(method, format, shape, calibration);
    std::vector<float> storage;
    const float* finite = finite_weights(weights, static_cast<std::size_t>(shape.count()), storage);
    const MethodInput input{method, result.format, finite, shape, calibration, smoothing, job};
    qs::method(method.id).apply(input, result);
    job.check();
    add_errors(weights, result.weight.data(), 0, result.weight.size(), result.weight_error);
    if (measure && calibration.tokens() > 0) {
        measure_outputs(input, result);
        measure_simulated(input, result);
    }
    return result;
}

std::vector<float> shared_smoothing(const MethodSpec& method, const FormatSpec& format,
                                    std::span<const LayerWeight> layers, const Calibration& calibration,
                                    const JobControl& job) {
    if (method.id != "awq" && method.id != "smoothquant")
        return {};
    std::vector<std::vector<float>> storage(layers.size());
    std::vector<LayerWeight> finite;
    for (const LayerWeight& layer : layers) {
        check(method, format, layer.shape, calibration);
        finite.push_back(
            {finite_weights(layer.values, static_cast<std::size_t>(layer.shape.count()), storage[finite.size()]),
             layer.shape});
    }
    if (method.id == "awq")
        return awq_scales(method, format, finite, calibration, job).scales;
    return smoothquant_scales(method, finite, calibration);
}

namespace {

void round_rows(const MethodResult& result, std::size_t columns, float* inputs, std::size_t tokens) {
    const auto smoothing = std::span(result.smoothing);
    for (std::size_t i = 0; i < tokens * columns && !smoothing.empty(); ++i)
        inputs[i] /= smoothing[i % columns];
    round_activations(result.activations, inputs, tokens, columns, result.input_absmax);
    for (std::size_t i = 0; i < tokens * columns && !smoothing.empty(); ++i)
        inputs[i] *= smoothing[i % columns];
}

} // namespace

void round_inputs(const MethodResult& result, std::size_t columns, float* inputs, std::size_t tokens) {
    if (result.activations == Activations::none)
        return;
    if (result.activations == Activations::int8_tensor)
        return round_rows(result, columns, inputs, tokens);
    for_row_chunks(tokens, JobControl(), [&](std::size_t first, std::size_t count) {
        round_rows(result, columns, inputs + first * columns, count);
    });
}

void layer_outputs(const MethodResult& result, const TensorShape& shape, const float* inputs, std::size_t tokens,
                   float* outputs) {
    layer_outputs(result, result.weight.data(), shape, inputs, tokens, outputs);
}

void layer_outputs(const MethodResult& result, const float* weight, const TensorShape& shape, const float* inputs,
                   std::size_t tokens, float* outputs) {
    if (result.outlier_threshold > 0) {
        llm_int8_outputs(result, weight, shape, inputs, tokens, outputs);
        return;
    }
    std::vector<float> rounded(inputs, inputs + tokens * shape.columns);
    round_inputs(result, static_cast<std::size_t>(shape.columns), rounded.data(), tokens);
    multiply(weight, shape, rounded.data(), tokens, outputs);
}

} // namespace qs
