#pragma once

#include "core/formats/block_codec.h"

/// bitsandbytes' 4-bit codebooks: FORMATS part "bitsandbytes 4-bit". Levels and thresholds are those of
/// bitsandbytes/functional.py and csrc/kernels.cu at 95f9af30.
namespace qs {

/// The scale of a block: what encoding multiplies by, and what decoding does (its absmax; with double quantization what
/// is left of it).
struct AbsmaxScale {
    float reciprocal;
    float decode;
};

QS_HD inline AbsmaxScale absmax_scale(float absmax) {
    // 1/absmax must be finite: the reference clamps its absmax so.
    return {1.0F / (absmax > 1e-38F ? absmax : 1e-38F), absmax};
}

struct Nf4Codec {
    static constexpr std::uint32_t code_count = 16;
    using Extent = AbsMax;
    using Scale = AbsmaxScale;
    std::uint64_t block;

    /// Dettmers et al., "QLoRA" (2023): quantiles of a normal distribution, ascending with the code.
    QS_HD static float level(std::uint32_t code) {
        constexpr float levels[16] = {-1.0F,
                                      -0.6961928009986877F,
                                      -0.5250730514526367F,
                                      -0.39491748809814453F,
                                      -0.28444138169288635F,
                                      -0.18477343022823334F,
                                      -0.09105003625154495F,
                                      0.0F,
                                      0.07958029955625534F,
                                      0.16093020141124725F,
                                      0.24611230194568634F,
                                      0.33791524171829224F,
                                      0.44070982933044434F,
                                      0.5626170039176941F,
                                      0.7229568362236023F,
                                      1.0F};
        return levels[code];
    }
    /// Above threshold(i) comes code i + 1; at it, still code i.
    QS_HD static float threshold(std::uint32_t lower) {
        return static_cast<float>((static_cast<double>(level(lower)) + static_cast<double>(level(lower + 1))) / 2);
    }

    QS_HD Scope scope() const { return {Scope::Kind::flat, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return absmax_scale(extent.value); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = is_finite(w) ? w * scale.reciprocal : 0.0F;
        std::uint32_t code = 0;
        for (std::uint32_t step = 8; step > 0; step /= 2)
            code += x > threshold(code + step - 1) ? step : 0;
        return code;
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const { return level(code) * scale.decode; }
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal; }
};

struct Fp4Codec {
    static constexpr std::uint32_t code_count = 16;
    using Extent = AbsMax;
    using Scale = AbsmaxScale;
    std::uint64_t block;

    /// Ascending magnitudes and the codes they have; bit 3 of a code is the sign.
    QS_HD static float magnitude(std::uint32_t rank) {
        constexpr float magnitudes[8] = {0.0F,  0.0052083334885537624F, 0.1666666716337204F, 0.25F, 0.3333333432674408F,
                                         0.5F, 0.6666666865348816F,    1.0F};
        return magnitudes[rank];
    }
    QS_HD static std::uint32_t code_of_rank(std::uint32_t rank) {
        constexpr std::uint8_t codes[8] = {0, 1, 6, 7, 4, 5, 2, 3};
        return codes[rank];
    }
    /// Above threshold(i), as a magnitude, comes rank i + 1; at it, still rank i. The CUDA kernel's literals.
    QS_HD static float threshold(std::uint32_t lower) {
        constexpr float thresholds[7] = {0.00260417F, 0.0859375F, 0.20833333F, 0.29166667F,
                                         0.4166667F,  0.583333F,  0.8333333F};
        return thresholds[lower];
    }
    QS_HD static float level(std::uint32_t code) {
        constexpr float levels[8] = {0.0F,
                                     0.0052083334885537624F,
                                     0.6666666865348816F,
                                     1.0F,
                                     0.3333333432674408F,
                                     0.5F,
                                     0.1666666716337204F,
                                     0.25F};
        return code < 8 ? levels[code] : -levels[code - 8];
    }

    QS_HD Scope scope() const { return {Scope::Kind::flat, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return absmax_scale(extent.value); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = is_finite(w) ? w * scale.reciprocal : 0.0F;
        std::uint32_t rank = 0;
        for (std::uint32_t step = 4; step > 0; step /= 2)
            rank += fabsf(x) > threshold(rank + step - 1) ? step : 0;
        return code_of_rank(rank) | (x < 0 ? 8U : 0U);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const { return level(code) * scale.decode; }
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal; }
};

} // namespace qs
