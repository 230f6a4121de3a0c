#pragma once

#include <cmath>
#include <cstdint>

#include "core/base/hd.h"

// The scalar functions of a decoder, for the host and for a CUDA device.

namespace qs {

enum class Activation : std::uint8_t { silu, gelu, gelu_tanh, relu };

inline constexpr float root_2_over_pi = 0.7978845608f;

QS_HD inline float activated(Activation activation, float x) {
    switch (activation) {
    case Activation::silu:
        return x / (1 + expf(-x));
    case Activation::gelu:
        return 0.5f * x * (1 + erff(x / 1.4142135624f)); // √2
    case Activation::gelu_tanh:
        return 0.5f * x * (1 + tanhf(root_2_over_pi * (x + 0.044715f * x * x * x)));
    case Activation::relu:
        break;
    }
    return x > 0 ? x : 0.0f;
}

QS_HD inline float activation_derivative(Activation activation, float x) {
    switch (activation) {
    case Activation::silu: {
        const float sigmoid = 1 / (1 + expf(-x));
        return sigmoid * (1 + x * (1 - sigmoid));
    }
    case Activation::gelu: {
        const float distribution = 0.5f * (1 + erff(x / 1.4142135624f));
        const float density = expf(-0.5f * x * x) * 0.3989422804f; // 1 / √(2π)
        return distribution + x * density;
    }
    case Activation::gelu_tanh: {
        const float t = tanhf(root_2_over_pi * (x + 0.044715f * x * x * x));
        return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * root_2_over_pi * (1 + 3 * 0.044715f * x * x);
    }
    case Activation::relu:
        break;
    }
    return x > 0 ? 1.0f : 0.0f;
}

/// c · tanh(x / c).
QS_HD inline float soft_capped(float cap, float x) {
    return cap * tanhf(x / cap);
}
/// Its derivative, of what it gave.
QS_HD inline float soft_cap_derivative(float cap, float capped) {
    const float t = capped / cap;
    return 1 - t * t;
}

} // namespace qs
