#pragma once

#include <type_traits>

#include "core/formats/ggml_k.h"

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
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
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

/// Bytes of a stored block of 32.
template <class Codec>
struct GgmlLayout;

/// Fields in front of the codes: d, and m where there is one.
QS_HD inline std::uint32_t put_header(std::uint8_t* bytes, const GgmlScale& scale) {
    bytes[0] = static_cast<std::uint8_t>(scale.stored);
    bytes[1] = static_cast<std::uint8_t>(scale.stored >> 8);
    return 2;
}
template <int bits>
QS_HD std::uint32_t put_header(std::uint8_t* bytes, const typename GgmlAffineCodec<bits>::Scale& scale) {
    put_header(bytes, scale.d);
    bytes[2] = static_cast<std::uint8_t>(scale.stored_min);
    bytes[3] = static_cast<std::uint8_t>(scale.stored_min >> 8);
    return 4;
}

/// The nibbles: byte j holds element j (low) and element j + 16 (high).
QS_HD inline void put_nibbles(std::uint8_t* bytes, const std::uint16_t* codes) {
    for (std::uint32_t j = 0; j < 16; ++j)
        bytes[j] = static_cast<std::uint8_t>((codes[j] & 15U) | (codes[j + 16] & 15U) << 4);
}
QS_HD inline std::uint32_t nibble_at(const std::uint8_t* bytes, std::uint32_t j) {
    return j < 16 ? bytes[j] & 15U : bytes[j - 16] >> 4;
}

/// The fifth bits: bit j of the little-endian word is bit 4 of element j.
QS_HD inline void put_fifth_bits(std::uint8_t* bytes, const std::uint16_t* codes) {
    for (std::uint32_t byte = 0; byte < 4; ++byte) {
        std::uint32_t bits = 0;
        for (std::uint32_t i = 0; i < 8; ++i)
            bits |= ((codes[8 * byte + i] >> 4) & 1U) << i;
        bytes[byte] = static_cast<std::uint8_t>(bits);
    }
}
QS_HD inline std::uint32_t fifth_bit_at(const std::uint8_t* bytes, std::uint32_t j) {
    return (bytes[j / 8] >> (j % 8) & 1U) << 4;
}

template <int bits>
struct GgmlLayout<GgmlSymmetricCodec<bits>> {
    static constexpr std::uint32_t bytes = bits == 4 ? 18 : 22;

    QS_HD static void pack(const std::uint16_t* codes, const GgmlScale& scale, std::uint8_t* out) {
        out += put_header(out, scale);
        if constexpr (bits == 5) {
            put_fifth_bits(out, codes);
            out += 4;
        }
        put_nibbles(out, codes);
    }
    QS_HD static GgmlScale scale(const std::uint8_t* block) { return {0, half_at(block)}; }
    QS_HD static std::uint32_t code(const std::uint8_t* block, std::uint32_t j) {
        return bits == 4 ? nibble_at(block + 2, j) : nibble_at(block + 6, j) | fifth_bit_at(block + 2, j);
    }
    QS_HD static float value(const std::uint8_t* block, std::uint32_t j) {
        return GgmlSymmetricCodec<bits>{}.decode(code(block, j), scale(block));
    }
};

template <int bits>
struct GgmlLayout<GgmlAffineCodec<bits>> {
    static constexpr std::uint32_t bytes = bits == 4 ? 20 : 24;

    QS_HD static void pack(const std::uint16_t* codes, const typename GgmlAffineCodec<bits>::Scale& scale,
                           std::uint8_t* out) {
        out += put_header<bits>(out, scale);
        if constexpr (bits == 5) {
            put_fifth_bits(out, codes);
            out += 4;
        }
        put_nibbles(out, codes);
    }
    QS_HD static typename GgmlAffineCodec<bits>::Scale scale(const std::uint8_t* block) {
        return {{0, half_at(block)}, 0, half_at(block + 2)};
    }
    QS_HD static std::uint32_t code(const std::uint8_t* block, std::uint32_t j) {
        return bits == 4 ? nibble_at(block + 4, j) : nibble_at(block + 8, j) | fifth_bit_at(block + 4, j);
    }
    QS_HD static float value(const std::uint8_t* block, std::uint32_t j) {
        return GgmlAffineCodec<bits>{}.decode(code(block, j), scale(block));
    }
};

template <>
struct GgmlLayout<Q8_0Codec> {
    static constexpr std::uint32_t bytes = 34;

    QS_HD static void pack(const std::uint16_t* codes, const GgmlScale& scale, std::uint8_t* out) {
        out += put_header(out, scale);
        for (std::uint32_t j = 0; j < ggml_block; ++j)
            out[j] = static_cast<std::uint8_t>(codes[j] + 128U);
    }
    QS_HD static GgmlScale scale(const std::uint8_t* block) { return {0, half_at(block)}; }
    QS_HD static std::uint32_t code(const std::uint8_t* block, std::uint32_t j) {
        return (block[2 + j] + 128U) & 0xFFU;
    }
    QS_HD static float value(const std::uint8_t* block, std::uint32_t j) {
        return Q8_0Codec{}.decode(code(block, j), scale(block));
    }
};

/// The same four formats where an importance matrix weighs the errors (`quantize_row_q4_0_impl` and its sisters): the
/// scale is searched for, and the codes are those of the search.
template <int bits, bool affine>
struct GgmlWeightedCodec : AscendingCodes<1U << bits> {
    using Element = std::conditional_t<affine, GgmlAffineCodec<bits>, GgmlSymmetricCodec<bits>>;
    using Layout = GgmlLayout<Element>;
    static constexpr std::uint32_t block = ggml_block, bytes = Layout::bytes;
    static constexpr bool weighs_row = true;
    static constexpr HalfWords half_words{0, affine ? 2 : 1};

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        float weight[block];
        std::uint8_t found[block];
        importance_weights<block>(x, context.importance, context.row_mean_square, weight);
        typename Element::Scale scale{};
        if constexpr (affine) {
            const AffineFit fit = search_affine<block>((1 << bits) - 1, x, weight, {-0.9F, 0.05F, 36, false}, found);
            scale = {{0, float_to_fp16(fit.scale)}, 0, float_to_fp16(-fit.min)};
        } else {
            scale = {0, float_to_fp16(search_symmetric<block>(1 << (bits - 1), x, weight, found))};
        }
        std::uint16_t codes[block];
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = found[j];
        Layout::pack(codes, scale, out);
    }

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = Layout::value(in, j);
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = static_cast<std::uint16_t>(Layout::code(in, j));
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t, std::uint32_t code) {
        return Element{}.decode(code, Layout::scale(in));
    }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code); }
};

} // namespace qs
