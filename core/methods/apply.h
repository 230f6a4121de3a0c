#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/base/job.h"
#include "core/formats/format_spec.h"
#include "core/formats/tensor_codec.h"
#include "core/methods/activations.h"
#include "core/methods/calibration.h"
#include "core/methods/method_spec.h"

namespace qs {

/// What a method made of the weight of one linear layer, y = W·x.
struct MethodResult {
    MethodSpec method;
    FormatSpec format;         ///< that the weight really took (ggml's fallbacks)
    std::vector<float> weight; ///< the reconstruction of W, row after row: to be used in W's place
    /// What is stored, named as the format names it. With `smoothing` it is of W·diag(smoothing). Columns of groups
    /// that are not in order have "g_idx.i32" beside.
    std::vector<StoredArray> stored;
    double bits_per_weight = 0;

    /// By which inputs are divided and columns of W multiplied before the codes are chosen; empty: by nothing. To store
    /// W·diag(smoothing) in a checkpoint, whatever makes the inputs must be divided.
    std::vector<float> smoothing;
    double ratio = 0;                 ///< AWQ: the exponent that was chosen
    std::vector<std::uint32_t> order; ///< GPTQ: the columns as they were taken; empty: in order

    Activations activations = Activations::none; ///< how inputs, divided by smoothing, are rounded too
    float input_absmax = 0;                      ///< for Activations::int8_static
    /// LLM.int8(): inputs from this magnitude on are multiplied in float16, 0: none; with what weight; and how many
    /// columns of the calibration have such inputs.
    float outlier_threshold = 0;
    std::vector<float> half_weight;
    std::size_t outlier_columns = 0;

    ErrorSums weight_error; ///< of W and `weight`
    /// tr(D·H·Dᵀ), D = W − weight: twice the squared error of the outputs, a mean over the tokens; and the same of W
    /// alone, twice the squared outputs. NaN without calibration.
    double output_error = std::numeric_limits<double>::quiet_NaN();
    double output_power = std::numeric_limits<double>::quiet_NaN();
    /// output_error and output_power with the inputs rounded too, over the rows that the calibration kept.
    double simulated_error = std::numeric_limits<double>::quiet_NaN();
    double simulated_power = std::numeric_limits<double>::quiet_NaN();
};

/// The weight of a layer.
struct LayerWeight {
    const float* values = nullptr;
    TensorShape shape;
};

/// What a method works on; its weights are finite.
struct MethodInput {
    const MethodSpec& method;
    const FormatSpec& format;
    const float* weights;
    TensorShape shape;
    const Calibration& calibration;
    std::span<const float> smoothing; ///< chosen before, or empty
    const JobControl& job;
};

/// Applies a method to a layer. Weights that are not finite count as 0. `smoothing` is that of layers which share their
/// inputs (shared_smoothing()); where it is empty AWQ and SmoothQuant choose that of this layer alone. The result does
/// not depend on the number of threads. Errors of outputs cost time, and are measured where `measure` asks for them.
/// Throws Error where the method is not defined for the format, or not without
/// calibration; Cancelled.
MethodResult apply_method(const MethodSpec& method, const FormatSpec& format, const float* weights,
                          const TensorShape& shape, const Calibration& calibration, const JobControl& job,
                          std::span<const float> smoothing = {}, bool measure = true);

/// The smoothing for layers with the same inputs (q, k and v; gate and up), so that it can be folded into what comes
/// before them; empty for methods without.
std::vector<float> shared_smoothing(const MethodSpec& method, const FormatSpec& format,
                                    std::span<const LayerWeight> layers, const Calibration& calibration,
                                    const JobControl& job);

/// The outputs that the layer computes for tokens: with inputs rounded and outliers apart, where the method does so.
void layer_outputs(const MethodResult& result, const TensorShape& shape, const float* inputs, std::size_t tokens,
                   float* outputs);
/// The same with the weight kept apart from the result.
void layer_outputs(const MethodResult& result, const float* weight, const TensorShape& shape, const float* inputs,
                   std::size_t tokens, float* outputs);

/// Rounds inputs in place as the layer does, so that `weight` times them are its outputs; where outliers are multiplied
/// apart only layer_outputs() gives those.
void round_inputs(const MethodResult& result, std::size_t columns, float* inputs, std::size_t tokens);

} // namespace qs
