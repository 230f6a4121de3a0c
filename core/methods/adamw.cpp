#include "core/methods/adamw.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qs {

void adamw_step(const AdamW& adamw, int step, double learning_rate, std::span<float> parameters,
                std::span<const float> gradients, std::span<float> mean, std::span<float> square) {
    const auto beta1 = static_cast<float>(adamw.beta1), beta2 = static_cast<float>(adamw.beta2);
    const auto kept = static_cast<float>(1 - learning_rate * adamw.decay);
    // m̂ / (√v̂ + ε) with the moments' corrections taken out of the loop.
    const double correction1 = 1 - std::pow(adamw.beta1, step),
                 correction2 = std::sqrt(1 - std::pow(adamw.beta2, step));
    const auto rate = static_cast<float>(learning_rate * correction2 / correction1);
    const auto epsilon = static_cast<float>(adamw.epsilon * correction2);
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, parameters.size(), 1 << 14), [&](const auto& range) {
        for (std::size_t i = range.begin(); i < range.end(); ++i) {
            const float g = gradients[i];
            mean[i] = beta1 * mean[i] + (1 - beta1) * g;
            square[i] = beta2 * square[i] + (1 - beta2) * g * g;
            parameters[i] = kept * parameters[i] - rate * mean[i] / (std::sqrt(square[i]) + epsilon);
        }
    });
}

double cosine_rate(int step, int steps, int warm_up, double peak, double last) {
    if (step <= warm_up)
        return peak * step / warm_up;
    const double along = static_cast<double>(step - warm_up) / std::max(1, steps - warm_up);
    return peak * (last + (1 - last) * 0.5 * (1 + std::cos(std::numbers::pi * along)));
}

} // namespace qs
