#pragma once

#include "core/formats/packed_codec.h"

/// How ggml searches for the scale of a block: FORMATS part "ggml block types". Own wording of the functions of
/// ggml-org/ggml src/ggml-quants.c at d99724f2 that are named beside each; every sum runs from left to right in
/// float32, as there, so that the bytes are the same.
namespace qs {

/// Blocks below this magnitude count as zero (GROUP_MAX_EPS).
inline constexpr float ggml_least_magnitude = 1e-15F;

/// Round half to even by the bits, as `nearest_int` does it: beyond 2²² it wraps. A NaN is 0.
QS_HD inline std::int32_t ggml_nearest(float value) {
    const std::uint32_t bits = float_bits(value + 12582912.0F);
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    return nan ? 0 : static_cast<std::int32_t>(bits & 0x7FFFFFU) - 0x400000;
}

QS_HD inline std::int32_t clamp_int(std::int32_t value, std::int32_t low, std::int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/// The value of the largest magnitude, with its sign.
template <int n>
QS_HD float signed_largest(const float* x) {
    float largest = 0;
    for (int i = 0; i < n; ++i)
        if (fabsf(x[i]) > fabsf(largest))
            largest = x[i];
    return largest;
}

/// A scale s for x ≈ s·l, −nmax ≤ l < nmax, and the codes l + nmax: of nineteen scales about −nmax / largest the one
/// that leaves the least Σ weight·(x − s·l)², s being the best for its l (`make_qx_quants` with rmse_type 1).
template <int n>
QS_HD float search_symmetric(int nmax, const float* x, const float* weight, std::uint8_t* codes) {
    const float largest = signed_largest<n>(x);
    if (fabsf(largest) < ggml_least_magnitude) {
        for (int i = 0; i < n; ++i)
            codes[i] = 0;
        return 0;
    }
    float scale = 0, best = 0;
    for (int trial = 0; trial < 19; ++trial) {
        // First the plain scale, then those beside it.
        const int step = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
        const float inverse = step == 0 ? static_cast<float>(-nmax) / largest
                                        : -(static_cast<float>(nmax) + 0.1F * static_cast<float>(step)) / largest;
        float sum_lx = 0, sum_l2 = 0;
        for (int i = 0; i < n; ++i) {
            const auto l = static_cast<float>(clamp_int(ggml_nearest(inverse * x[i]), -nmax, nmax - 1));
            sum_lx += weight[i] * x[i] * l;
            sum_l2 += weight[i] * l * l;
        }
        const bool better = trial == 0 || (sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2);
        if (!better)
            continue;
        scale = trial > 0 || sum_l2 != 0 ? sum_lx / sum_l2 : 0.0F;
        best = scale * sum_lx;
        for (int i = 0; i < n; ++i)
            codes[i] = static_cast<std::uint8_t>(nmax + clamp_int(ggml_nearest(inverse * x[i]), -nmax, nmax - 1));
    }
    return scale;
}

/// The same with weights x², improved one code at a time in up to five passes (`make_q3_quants`).
template <int n>
QS_HD float search_by_coordinate(int nmax, const float* x, std::uint8_t* codes) {
    const float largest = signed_largest<n>(x);
    if (fabsf(largest) < ggml_least_magnitude) {
        for (int i = 0; i < n; ++i)
            codes[i] = 0;
        return 0;
    }
    const float inverse = static_cast<float>(-nmax) / largest;
    float l[n];
    float sum_lx = 0, sum_l2 = 0;
    for (int i = 0; i < n; ++i) {
        l[i] = static_cast<float>(clamp_int(ggml_nearest(inverse * x[i]), -nmax, nmax - 1));
        const float w = x[i] * x[i];
        sum_lx += w * x[i] * l[i];
        sum_l2 += w * l[i] * l[i];
    }
    bool changed = true;
    for (int pass = 0; pass < 5 && changed; ++pass) {
        changed = false;
        for (int i = 0; i < n; ++i) {
            const float w = x[i] * x[i];
            float lx = sum_lx - w * x[i] * l[i];
            if (!(lx > 0))
                continue;
            float l2 = sum_l2 - w * l[i] * l[i];
            const auto next = static_cast<float>(clamp_int(ggml_nearest(x[i] * l2 / lx), -nmax, nmax - 1));
            if (next == l[i])
                continue;
            lx += w * x[i] * next;
            l2 += w * next * next;
            if (l2 > 0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
                l[i] = next;
                sum_lx = lx;
                sum_l2 = l2;
                changed = true;
            }
        }
    }
    for (int i = 0; i < n; ++i)
        codes[i] = static_cast<std::uint8_t>(static_cast<int>(l[i]) + nmax);
    return sum_l2 > 0 ? sum_lx / sum_l2 : 0.0F;
}

/// A scale and what is subtracted: x ≈ scale·l − min, min ≥ 0.
struct AffineFit {
    float scale, min;
};

/// Which scales a search for an AffineFit tries: (nmax + first + i·step) / range for i = 0 … steps.
struct AffineTrials {
    float first, step;
    int steps;
    bool absolute; ///< errors count by their magnitude, not their square
};

/// A fit for x ≈ scale·l − min, 0 ≤ l ≤ nmax, and the codes l: each trial's codes get the least-squares scale and
/// minimum, and the fit of the least error is kept (`make_qkx2_quants`, `make_qkx3_quants`). As there, a better minimum
/// changes the range that later trials start from.
template <int n>
QS_HD AffineFit search_affine(int nmax, const float* x, const float* weight, const AffineTrials& trials,
                              std::uint8_t* codes) {
    float min = x[0], max = x[0], sum_w = weight[0], sum_x = sum_w * x[0];
    for (int i = 1; i < n; ++i) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        sum_w += weight[i];
        sum_x += weight[i] * x[i];
    }
    min = min > 0 ? 0.0F : min;
    if (max <= min) {
        for (int i = 0; i < n; ++i)
            codes[i] = 0;
        return {0, -min};
    }
    const auto error_of = [&](float scale, float low, const std::uint8_t* l) {
        float error = 0;
        for (int i = 0; i < n; ++i) {
            const float difference = scale * static_cast<float>(l[i]) + low - x[i];
            error += weight[i] * (trials.absolute ? fabsf(difference) : difference * difference);
        }
        return error;
    };
    float inverse = static_cast<float>(nmax) / (max - min);
    for (int i = 0; i < n; ++i)
        codes[i] = static_cast<std::uint8_t>(clamp_int(ggml_nearest(inverse * (x[i] - min)), 0, nmax));
    float scale = 1 / inverse;
    float best = error_of(scale, min, codes);
    std::uint8_t tried[n];
    for (int trial = 0; trial <= trials.steps; ++trial) {
        inverse = (trials.first + trials.step * static_cast<float>(trial) + static_cast<float>(nmax)) / (max - min);
        float sum_l = 0, sum_l2 = 0, sum_xl = 0;
        for (int i = 0; i < n; ++i) {
            tried[i] = static_cast<std::uint8_t>(clamp_int(ggml_nearest(inverse * (x[i] - min)), 0, nmax));
            const auto l = static_cast<float>(tried[i]);
            sum_l += weight[i] * l;
            sum_l2 += weight[i] * l * l;
            sum_xl += weight[i] * l * x[i];
        }
        const float determinant = sum_w * sum_l2 - sum_l * sum_l;
        if (!(determinant > 0))
            continue;
        float new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        float new_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        if (new_min > 0) {
            new_min = 0;
            new_scale = sum_xl / sum_l2;
        }
        const float error = error_of(new_scale, new_min, tried);
        if (error < best) {
            for (int i = 0; i < n; ++i)
                codes[i] = tried[i];
            best = error;
            scale = new_scale;
            min = new_min;
        }
    }
    return {scale, -min};
}

/// A scale s for x ≈ s·l, 0 ≤ l ≤ nmax, and the codes l, where x is not negative: first of nine scales the best, then
/// one code at a time in up to five passes (`make_qp_quants`).
template <int n>
QS_HD float search_positive(int nmax, const float* x, const float* weight, std::uint8_t* codes) {
    float max = 0;
    for (int i = 0; i < n; ++i)
        max = max > x[i] ? max : x[i];
    if (max < ggml_least_magnitude) {
        for (int i = 0; i < n; ++i)
            codes[i] = 0;
        return 0;
    }
    float inverse = static_cast<float>(nmax) / max;
    float best = 0;
    for (int trial = 0; trial < 9; ++trial) {
        const int step = trial == 0 ? 0 : trial <= 4 ? trial - 5 : trial - 4;
        const float tried = step == 0 ? inverse : (0.1F * static_cast<float>(step) + static_cast<float>(nmax)) / max;
        const float scale = 1 / tried;
        float error = 0;
        for (int i = 0; i < n; ++i) {
            std::int32_t l = ggml_nearest(tried * x[i]);
            // Not clamped in the first trial, but stored in a byte.
            l = step == 0 ? static_cast<std::uint8_t>(l) : l < nmax ? l : nmax;
            const float difference = x[i] - scale * static_cast<float>(l);
            error += weight[i] * difference * difference;
        }
        if (trial == 0) {
            best = error;
        } else if (error < best) {
            best = error;
            inverse = tried;
        }
    }
    float sum_lx = 0, sum_l2 = 0;
    for (int i = 0; i < n; ++i) {
        const std::int32_t nearest = ggml_nearest(inverse * x[i]);
        codes[i] = static_cast<std::uint8_t>(nearest < nmax ? nearest : nmax);
        // The sums take the number before it is stored in a byte.
        const auto l = static_cast<float>(nearest < nmax ? nearest : nmax);
        sum_lx += weight[i] * x[i] * l;
        sum_l2 += weight[i] * l * l;
    }
    bool changed = true;
    for (int pass = 0; pass < 5 && changed; ++pass) {
        changed = false;
        for (int i = 0; i < n; ++i) {
            const auto l = static_cast<float>(codes[i]);
            float lx = sum_lx - weight[i] * x[i] * l;
            float l2 = sum_l2 - weight[i] * l * l;
            if (!(lx > 0 && l2 > 0))
                continue;
            const std::int32_t nearest = ggml_nearest(x[i] * l2 / lx);
            const std::int32_t next = nearest < nmax ? nearest : nmax;
            if (next == codes[i])
                continue;
            lx += weight[i] * x[i] * static_cast<float>(next);
            l2 += weight[i] * static_cast<float>(next) * static_cast<float>(next);
            if (lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
                codes[i] = static_cast<std::uint8_t>(next);
                sum_lx = lx;
                sum_l2 = l2;
                changed = true;
            }
        }
    }
    return sum_l2 > 0 ? sum_lx / sum_l2 : 0.0F;
}

/// Σ x², from left to right.
template <int n>
QS_HD float sum_of_squares(const float* x) {
    float sum = 0;
    for (int i = 0; i < n; ++i)
        sum += x[i] * x[i];
    return sum;
}

/// What squared errors count by, given an importance matrix: importance·√(σ² + x²). Returns their sum.
template <int n>
QS_HD float importance_weights(const float* x, const float* importance, float sigma2, float* weight) {
    float sum = 0;
    for (int i = 0; i < n; ++i) {
        weight[i] = importance[i] * sqrtf(sigma2 + x[i] * x[i]);
        sum += weight[i];
    }
    return sum;
}

/// The same, or the squares of the weights where there is no importance matrix (null).
template <int n>
QS_HD void error_weights(const float* x, const float* importance, float sigma2, float* weight) {
    if (importance != nullptr) {
        importance_weights<n>(x, importance, sigma2, weight);
        return;
    }
    for (int i = 0; i < n; ++i)
        weight[i] = x[i] * x[i];
}

/// The trials of search_affine() where an importance matrix weighs the errors.
QS_HD inline AffineTrials importance_trials() {
    return {-0.9F, 0.05F, 36, false};
}

/// A little-endian 16-bit word.
QS_HD inline void put_half(std::uint8_t* bytes, std::uint16_t half) {
    bytes[0] = static_cast<std::uint8_t>(half);
    bytes[1] = static_cast<std::uint8_t>(half >> 8);
}
QS_HD inline std::uint16_t half_at(const std::uint8_t* bytes) {
    return static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8);
}

} // namespace qs
