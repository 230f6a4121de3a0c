#pragma once

#include <span>

namespace qs {

/// AdamW: Adam with bias correction whose weight decay goes past the moments (Loshchilov and Hutter 2019, "Decoupled
/// Weight Decay Regularization").
struct AdamW {
    double beta1 = 0.9, beta2 = 0.95;
    double epsilon = 1e-8;
    double decay = 0;
};

/// One step, the first of which has number 1, of parameters and the moments of their gradients, which begin as zeros.
void adamw_step(const AdamW& adamw, int step, double learning_rate, std::span<float> parameters,
                std::span<const float> gradients, std::span<float> mean, std::span<float> square);

/// The learning rate at a step from 1 to `steps`: it climbs to `peak` over the first `warm_up` of them, then falls
/// along half a cosine to `last` times the peak.
double cosine_rate(int step, int steps, int warm_up, double peak, double last);

} // namespace qs
