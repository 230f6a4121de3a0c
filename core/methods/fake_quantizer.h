#pragma once

#include <memory>
#include <span>

#include "core/base/job.h"
#include "core/device/device.h"
#include "core/model/matrix.h"

namespace qs {

/// Stands between the master weights of a linear layer and the forward pass while they are trained: the model computes
/// with what a format makes of them, and rounding, which has no useful derivative, is passed over by the
/// straight-through estimator (Bengio, Léonard and Courville 2013): gradients of the rounded weights are taken for
/// those of the weights, but where a weight lies beyond what the format reaches, and so cannot change, they are 0.
class FakeQuantizer {
public:
    virtual ~FakeQuantizer() = default;

    /// What the format makes of the weights.
    virtual void quantize(const Matrix& weight, Matrix& quantized, JobControl& job) = 0;
    /// Turns the gradient of the quantized weights into that of the weights they were made of, in place.
    virtual void backward(const Matrix& weight, Matrix& gradient, JobControl& job) = 0;
    virtual double stored_bits() const = 0; ///< after quantize()

    /// Step sizes that are trained with the weights, and their gradients as backward() left them; empty where scales
    /// are fitted to the weights.
    virtual std::span<float> steps() { return {}; }
    virtual std::span<const float> step_gradients() const { return {}; }
};

/// A quantizer that fits scales to the weights anew each time, as quantizing them does. `format` must be effective for
/// the shape; the device must outlive it.
std::unique_ptr<FakeQuantizer> make_fitting_quantizer(const FormatSpec& format, const TensorShape& shape,
                                                      Device& device);

/// Whether make_learned_quantizer() takes a format.
bool has_learned_steps(const FormatSpec& format);

/// A quantizer to symmetric integers whose scales are parameters: "Learned Step Size Quantization" (LSQ; Esser et al.
/// 2020), with its gradient and the factor 1 / √(weights · levels) of it. Steps begin as the format's scale or as
/// 2 · mean |w| / √levels, the paper's beginning, whichever is closer to the weights; they are rounded as the format
/// stores them. Throws Error where the format is not one of those.
std::unique_ptr<FakeQuantizer> make_learned_quantizer(const FormatSpec& format, const Matrix& weight);

} // namespace qs
