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
        const float q = finite_or_zero(w) / scale.scale;
        return static_cast<std::uint32_t>(nearest_even(clamp(q, -half_range(), half_range() - 1)) + half_range());
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
        const float scale = stored_scale(step(low, high), half_scales);
        return {scale, nearest_even(clamp(-low / scale, 0.0F, last()))};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float q = finite_or_zero(w) / scale.scale;
        return static_cast<std::uint32_t>(clamp(nearest_even(clamp(q, -last(), last())) + scale.zero, 0.0F, last()));
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - scale.zero) * scale.scale;
    }
    /// −1 is code 0, +1 the last code.
    QS_HD float position(float w, const Scale& scale) const { return 2 * (w / scale.scale + scale.zero) / last() - 1; }

private:
    /// (high − low) / (2ⁿ − 1), through halves where the range itself overflows.
    QS_HD float step(float low, float high) const {
        const float range = high - low;
        return is_finite(range) ? range / last() : (high / 2 - low / 2) / last() * 2;
    }
};

/// The weights of bitsandbytes' LLM.int8(): rows scaled by their absmax; entries from `threshold` on are not part of
/// the scale (infinite: no threshold), and the tensor codec keeps their columns in float16.
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
    /// A weight as its outlier column keeps it.
    QS_HD static float half(float w) { return fp16_to_float(float_to_fp16(w)); }
    QS_HD bool is_outlier(float w) const { return fabsf(w) >= threshold && is_finite(w); }
    QS_HD void extend(Extent& extent, float w) const {
        if (!is_outlier(w))
            extent.add(w);
    }
    QS_HD Scale fit(const Extent& extent) const { return {extent.value}; }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        // Infinite for rows of zeros and of subnormals, whose codes the reference's cast to int8 makes 0.
        const float factor = 127.0F / scale.absmax;
        const float q = (is_outlier(w) ? 0.0F : finite_or_zero(w)) * finite_or_zero(factor);
        return static_cast<std::uint32_t>(nearest_even(clamp(q, -128.0F, 127.0F)) + 128.0F);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - 128.0F) * scale.absmax * one_127th;
    }
    QS_HD float position(float w, const Scale& scale) const { return scale.absmax > 0 ? w / scale.absmax : 0.0F; }

    /// The code of what an outlier column keeps apart.
    static constexpr std::uint32_t outlier_code = 128;
    bool has_threshold() const { return threshold < INFINITY; }
    /// All bits stored for a matrix: codes, the rows' scales, and the float16 weights of the outlier columns.
    static double stored_bits(std::uint64_t rows, std::uint64_t columns, std::uint64_t outlier_columns) {
        const auto n = static_cast<double>(rows);
        return 8 * n * static_cast<double>(columns) + 32 * n + 16 * n * static_cast<double>(outlier_columns);
    }
};

} // namespace qs
