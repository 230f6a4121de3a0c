#include <cmath>

#include "core/formats/integer.h"
#include "core/formats/scoped_codec.h"
#include "core/methods/matrix.h"
#include "core/methods/rounding.h"
#include "core/model/product.h"

// LLM.int8(): Dettmers et al. (2022). Columns in which any token of a batch has an outlier are multiplied in float16,
// as the paper has it; bitsandbytes at inference has only the 8-bit weights left and multiplies with those.

namespace qs {

namespace {

float half(float value) {
    return LlmInt8Codec::half(value);
}

std::vector<bool> outlier_columns(const float* inputs, std::size_t tokens, std::size_t columns, float threshold) {
    std::vector<bool> outlier(columns);
    for (std::size_t i = 0; i < tokens * columns; ++i)
        if (std::abs(inputs[i]) >= threshold)
            outlier[i % columns] = true;
    return outlier;
}

/// The columns that are outliers, or those that are not; 0 elsewhere.
std::vector<float> columns_where(const float* values, std::size_t count, const std::vector<bool>& outlier, bool which) {
    std::vector<float> kept(count);
    for (std::size_t i = 0; i < count; ++i)
        kept[i] = outlier[i % outlier.size()] == which ? values[i] : 0;
    return kept;
}

/// The columns that must be at hand in float16.
std::vector<std::int64_t> calibrated_outliers(const Calibration& calibration, float threshold) {
    std::vector<std::int64_t> columns;
    for (std::size_t i = 0; i < calibration.columns(); ++i)
        if (calibration.absmax()[i] >= threshold)
            columns.push_back(static_cast<std::int64_t>(i));
    return columns;
}

} // namespace

void apply_llm_int8(const MethodInput& input, MethodResult& result) {
    round_to_nearest(input.format, input.weights, input.shape, nullptr, input.job, result);
    result.outlier_threshold = static_cast<float>(input.method.real("threshold"));
    result.half_weight.resize(result.weight.size());
    std::transform(input.weights, input.weights + result.weight.size(), result.half_weight.begin(), half);
    const std::vector<std::int64_t> outliers = calibrated_outliers(input.calibration, result.outlier_threshold);
    std::vector<std::uint16_t> kept;
    for (const std::int64_t column : outliers)
        for (std::size_t row = 0; row < input.shape.rows; ++row)
            kept.push_back(float_to_fp16(input.weights[row * input.shape.columns + static_cast<std::size_t>(column)]));
    result.outlier_columns = outliers.size();
    result.bits_per_weight += 16 * static_cast<double>(outliers.size()) / static_cast<double>(input.shape.columns);
    result.stored.push_back(stored_array("outlier_columns.i64", outliers));
    result.stored.push_back(stored_array("outliers.f16", kept));
}

void llm_int8_outputs(const MethodResult& result, const float* weight, const TensorShape& shape, const float* inputs,
                      std::size_t tokens, float* outputs) {
    const auto rows = static_cast<std::size_t>(shape.rows), columns = static_cast<std::size_t>(shape.columns);
    const std::vector<bool> outlier = outlier_columns(inputs, tokens, columns, result.outlier_threshold);
    std::vector<float> regular = columns_where(inputs, tokens * columns, outlier, false);
    round_activations(Activations::int8, regular.data(), tokens, columns);
    auto y = view(outputs, tokens, rows);
    parallel_product(as_is(view(regular.data(), tokens, columns)), transposed(view(weight, rows, columns)), y);
    if (std::ranges::find(outlier, true) == outlier.end())
        return;
    std::vector<float> apart = columns_where(inputs, tokens * columns, outlier, true);
    std::ranges::transform(apart, apart.begin(), half);
    RowMatrix<float> in_half(y.rows(), y.cols());
    parallel_product(as_is(view(apart.data(), tokens, columns)),
                     transposed(view(result.half_weight.data(), rows, columns)), in_half);
    y += in_half;
}

} // namespace qs
