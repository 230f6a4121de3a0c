#pragma once

#include <utility>

#include "core/formats/block_codec.h"
#include "core/formats/dynamic_map.h"

/// bitsandbytes' codebooks: FORMATS part "bitsandbytes 4-bit". Levels and thresholds are those of
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

/// How many of a codebook's thresholds lie below x: comparisons with constants, which a compiler can do many x at a
/// time.
template <class Codec, std::uint32_t... i>
QS_HD std::uint32_t thresholds_below(float x, std::integer_sequence<std::uint32_t, i...>) {
    return (static_cast<std::uint32_t>(x > Codec::threshold(i)) + ...);
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
    /// Above threshold(i) comes code i + 1; at it, still code i. The CUDA kernel's literals, which are the halfway
    /// points but for the last bit of four.
    QS_HD static float threshold(std::uint32_t lower) {
        constexpr float thresholds[15] = {-0.84809643F, -0.6106329F,   -0.45999527F, -0.33967942F, -0.2346074F,
                                          -0.13791174F, -0.045525018F, 0.03979015F,  0.120255254F, 0.20352125F,
                                          0.29201376F,  0.38931254F,   0.5016634F,   0.6427869F,   0.8614784F};
        return thresholds[lower];
    }

    QS_HD Scope scope() const { return {Scope::Kind::flat, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return absmax_scale(extent.value); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = finite_or_zero(w) * scale.reciprocal;
        return thresholds_below<Nf4Codec>(x, std::make_integer_sequence<std::uint32_t, 15>{});
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
        constexpr float magnitudes[8] = {
            0.0F, 0.0052083334885537624F, 0.1666666716337204F, 0.25F, 0.3333333432674408F, 0.5F, 0.6666666865348816F,
            1.0F};
        return magnitudes[rank];
    }
    /// 0, 1, 6, 7, 4, 5, 2, 3.
    QS_HD static std::uint32_t code_of_rank(std::uint32_t rank) { return ((0U - (rank >> 1)) & 3U) << 1 | (rank & 1U); }
    /// Above threshold(i), as a magnitude, comes rank i + 1; at it, still rank i. The CUDA kernel's literals.
    QS_HD static float threshold(std::uint32_t lower) {
        constexpr float thresholds[7] = {0.00260417F, 0.0859375F, 0.20833333F, 0.29166667F,
                                         0.4166667F,  0.583333F,  0.8333333F};
        return thresholds[lower];
    }
    QS_HD static float level(std::uint32_t code) {
        constexpr float levels[16] = {0.0F,
                                      0.0052083334885537624F,
                                      0.6666666865348816F,
                                      1.0F,
                                      0.3333333432674408F,
                                      0.5F,
                                      0.1666666716337204F,
                                      0.25F,
                                      -0.0F,
                                      -0.0052083334885537624F,
                                      -0.6666666865348816F,
                                      -1.0F,
                                      -0.3333333432674408F,
                                      -0.5F,
                                      -0.1666666716337204F,
                                      -0.25F};
        return levels[code];
    }

    QS_HD Scope scope() const { return {Scope::Kind::flat, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return absmax_scale(extent.value); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = finite_or_zero(w) * scale.reciprocal;
        const std::uint32_t rank = thresholds_below<Fp4Codec>(fabsf(x), std::make_integer_sequence<std::uint32_t, 7>{});
        return code_of_rank(rank) | (x < 0 ? 8U : 0U);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const { return level(code) * scale.decode; }
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal; }
};

/// 8-bit dynamic blockwise, as the CUDA kernel encodes it (the CPU library looks a rounded value up in a table).
struct Dynamic8Codec {
    static constexpr std::uint32_t code_count = 256;
    using Extent = AbsMax;
    using Scale = AbsmaxScale;
    std::uint64_t block;

    QS_HD Scope scope() const { return {Scope::Kind::flat, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return absmax_scale(extent.value); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        return encode_dynamic(finite_or_zero(w) * scale.reciprocal);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const { return dynamic_level(code) * scale.decode; }
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal; }
};

} // namespace qs
