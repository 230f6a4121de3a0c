#pragma once

#include "core/formats/block_codec.h"

/// The integer formats: FORMATS part "Integers" and "llm_int8".
namespace qs {

/// A scale as it is stored: float16 (never zero or infinite, so that it can be divided by) or float32. A scope whose
/// scale vanishes has scale 1.
QS_HD inline float stored_scale(float scale, bool half) {
    if (half) {
        scale = fp16_to_float(float_to_fp16(scale));
        scale = scale < 65504.0F ? scale : 65504.0F;
    }
    return scale > 0 ? scale : 1.0F;
}

/// n-bit integers with one scale: codes −2ⁿ⁻¹ … 2ⁿ⁻¹ − 1, counted from 0.
struct SymmetricIntCodec {
    using Extent = AbsMax;
    struct Scale {
        float scale;
    };
    Scope scope_;
    int bits;
    bool half_scales;
    std::uint32_t code_count;

    QS_HD Scope scope() const { return scope_; }
    QS_HD float half_range() const { return static_cast<float>(1 << (bits - 1)); }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const {
        return {stored_scale(extent.value / (half_range() - 1), half_scales)};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float q = is_finite(w) ? rintf(w / scale.scale) : 0.0F;
        return static_cast<std::uint32_t>(clamp(q, -half_range(), half_range() - 1) + half_range());
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - half_range()) * scale.scale;
    }
    QS_HD float position(float w, const Scale& scale) const { return w / scale.scale / (half_range() - 1); }
};

/// n-bit integers with a scale and a zero point: codes 0 … 2ⁿ − 1 over a range that holds 0.
struct AffineIntCodec {
    using Extent = MinMax;
    struct Scale {
        float scale, zero;
    };
    Scope scope_;
    int bits;
    bool half_scales;
    std::uint32_t code_count;

    QS_HD Scope scope() const { return scope_; }
    QS_HD float last() const { return static_cast<float>((1 << bits) - 1); }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const {
        const float low = extent.min < 0 ? extent.min : 0.0F, high = extent.max > 0 ? extent.max : 0.0F;
        const float scale = stored_scale((high - low) / last(), half_scales);
        return {scale, clamp(rintf(-low / scale), 0.0F, last())};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float q = is_finite(w) ? rintf(w / scale.scale) : 0.0F;
        return static_cast<std::uint32_t>(clamp(q + scale.zero, 0.0F, last()));
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - scale.zero) * scale.scale;
    }
    /// −1 is code 0, +1 the last code.
    QS_HD float position(float w, const Scale& scale) const {
        return 2 * (w / scale.scale + scale.zero) / last() - 1;
    }
};

/// The weights of bitsandbytes' LLM.int8(): rows of float16, scaled by their absmax; entries from `threshold` on are not
/// part of the scale (infinite: no threshold).
struct LlmInt8Codec {
    static constexpr std::uint32_t code_count = 256;
    /// 1/127 as the reference's dequantization kernel has it.
    static constexpr float one_127th = 7.874015718698502e-3F;
    using Extent = AbsMax;
    struct Scale {
        float absmax;
    };
    float threshold;

    QS_HD Scope scope() const { return {Scope::Kind::row, 0}; }
    QS_HD static float half(float w) { return fp16_to_float(float_to_fp16(w)); }
    QS_HD bool is_outlier(float w) const { return fabsf(half(w)) >= threshold; }
    QS_HD void extend(Extent& extent, float w) const {
        if (!is_outlier(w))
            extent.add(half(w));
    }
    QS_HD Scale fit(const Extent& extent) const { return {extent.value}; }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const bool kept = scale.absmax > 0 && is_finite(half(w)) && !is_outlier(w);
        const float q = kept ? rintf(half(w) * (127.0F / scale.absmax)) : 0.0F;
        return static_cast<std::uint32_t>(clamp(q, -128.0F, 127.0F) + 128.0F);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - 128.0F) * scale.absmax * one_127th;
    }
    QS_HD float position(float w, const Scale& scale) const { return scale.absmax > 0 ? half(w) / scale.absmax : 0.0F; }
};

} // namespace qs
