#pragma once

#include "core/formats/ggml_nonlinear.h"

/// ggml's blocks of 32 with one float16 scale, and their packing: FORMATS part "ggml block types". As in the reference,
/// codes are made with the float32 scale and decoded with the float16 one.
namespace qs {

inline constexpr std::uint32_t ggml_block = 32;

/// The low byte of a float made an integer as x86 does it: what does not fit an int32 becomes 0.
QS_HD inline std::uint32_t truncated_byte(float value) {
    if (!(fabsf(value) < 2147483648.0F))
        return 0;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(value)) & 0xFFU;
}

/// A scale d with its float16 form and the reciprocal of the float32 one (0 where d is 0).
struct GgmlScale {
    float reciprocal;
    std::uint16_t stored;

    QS_HD float d() const { return fp16_to_float(stored); }
};

QS_HD inline GgmlScale ggml_scale(float d) {
    return {d != 0 ? 1.0F / d : 0.0F, float_to_fp16(d)};
}

/// q4_0 and q5_0: d·(q − half), d = extreme / −half.
template <int bits>
struct GgmlSymmetricCodec {
    static constexpr std::uint32_t code_count = 1U << bits;
    static constexpr float half = static_cast<float>(1 << (bits - 1));
    using Extent = SignedMax;
    using Scale = GgmlScale;

    QS_HD Scope scope() const { return {Scope::Kind::flat, ggml_block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return ggml_scale(extent.value / -half); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = finite_or_zero(w) * scale.reciprocal;
        const std::uint32_t q = truncated_byte(x + (half + 0.5F));
        return q < code_count ? q : code_count - 1;
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - half) * scale.d();
    }
    /// The extreme of the block lies at −1, whatever its sign.
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal / half; }
};

/// q4_1 and q5_1: d·q + m over the range of the block.
template <int bits>
struct GgmlAffineCodec {
    static constexpr std::uint32_t code_count = 1U << bits;
    static constexpr float last = static_cast<float>((1 << bits) - 1);
    using Extent = MinMax;
    struct Scale {
        GgmlScale d;
        float min;
        std::uint16_t stored_min;
    };

    QS_HD Scope scope() const { return {Scope::Kind::flat, ggml_block}; }
    /// What is not finite counts as 0 here too.
    QS_HD void extend(Extent& extent, float w) const { extent.add(finite_or_zero(w)); }
    QS_HD Scale fit(const Extent& extent) const {
        const float min = extent.empty() ? 0.0F : extent.min, max = extent.empty() ? 0.0F : extent.max;
        return {ggml_scale((max - min) / last), min, float_to_fp16(min)};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = finite_or_zero(w);
        const std::uint32_t q = truncated_byte((x - scale.min) * scale.d.reciprocal + 0.5F);
        return q < code_count ? q : code_count - 1;
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return static_cast<float>(code) * scale.d.d() + fp16_to_float(scale.stored_min);
    }
    /// −1 is the minimum of the block, +1 its maximum.
    QS_HD float position(float w, const Scale& scale) const {
        return 2 * ((w - scale.min) * scale.d.reciprocal) / last - 1;
    }
};

/// q8_0: d·q, d = absmax / 127; codes count from −128.
struct Q8_0Codec {
    static constexpr std::uint32_t code_count = 256;
    using Extent = AbsMax;
    using Scale = GgmlScale;

    QS_HD Scope scope() const { return {Scope::Kind::flat, ggml_block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const { return ggml_scale(extent.value / 127.0F); }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        const float x = finite_or_zero(w) * scale.reciprocal;
        // Halves away from zero: the float before 0.5 does not lift what lies below a half.
        return (truncated_byte(x + copysignf(0.49999997F, x)) + 128U) & 0xFFU;
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return (static_cast<float>(code) - 128.0F) * scale.d();
    }
    QS_HD float position(float w, const Scale& scale) const { return w * scale.reciprocal / 127.0F; }
};

using Q4_0Codec = GgmlSymmetricCodec<4>;
using Q5_0Codec = GgmlSymmetricCodec<5>;
using Q4_1Codec = GgmlAffineCodec<4>;
using Q5_1Codec = GgmlAffineCodec<5>;

/// The nibbles and, of five-bit codes, the fifth bits: byte j holds element j (low) and element j + 16 (high); bit j of
/// the little-endian word is bit 4 of element j.
template <int bits>
QS_HD void put_codes_of_32(const std::uint8_t* codes, std::uint8_t* bytes) {
    if constexpr (bits == 5) {
        for (std::uint32_t byte = 0; byte < 4; ++byte) {
            std::uint32_t high = 0;
            for (std::uint32_t i = 0; i < 8; ++i)
                high |= static_cast<std::uint32_t>(codes[8 * byte + i] >> 4 & 1) << i;
            bytes[byte] = static_cast<std::uint8_t>(high);
        }
        bytes += 4;
    }
    for (std::uint32_t j = 0; j < 16; ++j)
        bytes[j] = static_cast<std::uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}
template <int bits>
QS_HD void take_codes_of_32(const std::uint8_t* bytes, std::uint8_t* codes) {
    take_nibbles_of_32(bits == 5 ? bytes + 4 : bytes, codes);
    if constexpr (bits == 5)
        for (std::uint32_t j = 0; j < ggml_block; ++j)
            codes[j] = static_cast<std::uint8_t>(codes[j] | (bytes[j / 8] >> (j % 8) & 1) << 4);
}

/// Scale and codes of a block of 32 by an element codec.
template <class Codec>
QS_HD typename Codec::Scale encode_32(const Codec& codec, const float* x, std::uint8_t* codes) {
    typename Codec::Extent extent;
    for (std::uint32_t j = 0; j < ggml_block; ++j)
        codec.extend(extent, x[j]);
    const auto scale = codec.fit(extent);
    for (std::uint32_t j = 0; j < ggml_block; ++j)
        codes[j] = static_cast<std::uint8_t>(codec.encode(x[j], scale));
    return scale;
}

/// What the stored blocks of 32 share. Where an importance matrix weighs the errors, the scale of q4_0, q4_1, q5_0 and
/// q5_1 is searched for and the codes are those of the search (`quantize_row_q4_0_impl` and its sisters).
template <class Codec, std::uint32_t header_bytes, int bits>
struct GgmlBlock : AscendingCodes<1U << bits>, BySubBlocks<Codec> {
    static constexpr std::uint32_t block = ggml_block, sub = ggml_block;
    static constexpr std::uint32_t header = header_bytes, bytes = header_bytes + ggml_block * bits / 8;
    static constexpr bool weighs_row = true;
    static constexpr HalfWords half_words{0, header_bytes / 2};

    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in)); }
    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        take_codes_of_32<bits>(in + header_bytes, codes);
    }
};

/// q4_0 and q5_0 as stored: d and the codes.
template <int bits>
struct GgmlSymmetricBlock : GgmlBlock<GgmlSymmetricBlock<bits>, 2, bits> {
    using Element = GgmlSymmetricCodec<bits>;

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[ggml_block];
        if (context.importance == nullptr) {
            put_half(out, encode_32(Element{}, x, codes).stored);
        } else {
            float weight[ggml_block];
            importance_weights<ggml_block>(x, context.importance, context.row_mean_square, weight);
            put_half(out, float_to_fp16(search_symmetric<ggml_block>(1 << (bits - 1), x, weight, codes)));
        }
        put_codes_of_32<bits>(codes, out + 2);
    }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - Element::half; }
};

/// q4_1 and q5_1 as stored: d, m and the codes.
template <int bits>
struct GgmlAffineBlock : GgmlBlock<GgmlAffineBlock<bits>, 4, bits> {
    using Element = GgmlAffineCodec<bits>;

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[ggml_block];
        if (context.importance == nullptr) {
            const auto scale = encode_32(Element{}, x, codes);
            put_half(out, scale.d.stored);
            put_half(out + 2, scale.stored_min);
        } else {
            float weight[ggml_block];
            importance_weights<ggml_block>(x, context.importance, context.row_mean_square, weight);
            const AffineFit fit = search_affine<ggml_block>((1 << bits) - 1, x, weight, importance_trials(), codes);
            put_half(out, float_to_fp16(fit.scale));
            put_half(out + 2, float_to_fp16(-fit.min));
        }
        put_codes_of_32<bits>(codes, out + 4);
    }
    QS_HD static float min(const std::uint8_t* in, std::uint32_t) { return -fp16_to_float(half_at(in + 2)); }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code); }
};

/// q8_0 as stored: d and signed codes, here counted from −128, which is never made.
struct Q8_0Block : BySubBlocks<Q8_0Block> {
    static constexpr std::uint32_t block = ggml_block, sub = ggml_block, bytes = 34;
    static constexpr std::uint32_t code_count = 256, level_count = 255;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        put_half(out, encode_32(Q8_0Codec{}, x, out + 2).stored);
        for (std::uint32_t j = 0; j < ggml_block; ++j)
            out[2 + j] = static_cast<std::uint8_t>(out[2 + j] + 128U);
    }
    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t j = 0; j < ggml_block; ++j)
            codes[j] = static_cast<std::uint8_t>(in[2 + j] + 128U);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in)); }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 128; }
    QS_HD static std::uint32_t code_at(std::uint32_t rank) { return rank + 1; }
};

using Q4_0 = GgmlSymmetricBlock<4>;
using Q5_0 = GgmlSymmetricBlock<5>;
using Q4_1 = GgmlAffineBlock<4>;
using Q5_1 = GgmlAffineBlock<5>;
using Q8_0 = Q8_0Block;

} // namespace qs
