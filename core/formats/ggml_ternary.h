#pragma once

#include "core/formats/ggml_nonlinear.h"

/// ggml's formats of one and two bits with one scale a block: tq1_0, tq2_0, q1_0, q2_0 (FORMATS part "ggml block
/// types"; ggml-org/ggml src/ggml-quants.c at d99724f2).
namespace qs {

/// Round half away from zero; what is not finite becomes `otherwise`.
QS_HD inline std::int32_t round_half_away(float value, std::int32_t otherwise) {
    // The float before 0.5 does not lift what lies below a half.
    return is_finite(value) ? static_cast<std::int32_t>(value + copysignf(0.49999997F, value)) : otherwise;
}

/// Codes of 256 weights scaled by their largest magnitude: −1, 0, 1 as 0, 1, 2; `count` can be stored.
template <std::uint32_t count>
struct TernaryCodes : AscendingCodes<count> {
    static constexpr std::uint32_t block = super_block, sub = super_block;
    static constexpr bool weighs_row = false;

    QS_HD static float ternary(const float* x, std::uint8_t* codes) {
        const float d = largest_magnitude<256>(x);
        const float inverse = d != 0 ? 1.0F / d : 0.0F;
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = static_cast<std::uint8_t>(round_half_away(x[j] * inverse, 0) + 1);
        return d;
    }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 1; }
};

/// tq1_0: five weights a byte in base 3, x ≈ d·(t − 1).
struct Tq1_0 : TernaryCodes<3>, BySubBlocks<Tq1_0> {
    static constexpr std::uint32_t bytes = 54;
    static constexpr HalfWords half_words{52, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        std::uint8_t codes[block];
        const float d = ternary(x, codes);
        for (std::uint32_t byte = 0; byte < 52; ++byte) {
            std::uint32_t number = 0;
            for (std::uint32_t trit = 0; trit < 5; ++trit)
                number = number * 3 + (trit < trits(byte) ? codes[element(byte, trit)] : 0);
            out[byte] = static_cast<std::uint8_t>((number * 256 + 242) / 243);
        }
        put_half(out + 52, float_to_fp16(d));
    }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        unpack_run<32, 5>(in, codes);
        unpack_run<16, 5>(in + 32, codes + 160);
        unpack_run<4, 4>(in + 48, codes + 240);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in + 52)); }

private:
    QS_HD static std::uint32_t trits(std::uint32_t byte) { return byte < 48 ? 5 : 4; }
    /// Which weight a trit of a byte stands for, the first trit being the most significant.
    QS_HD static std::uint32_t element(std::uint32_t byte, std::uint32_t trit) {
        if (byte < 32)
            return byte + 32 * trit;
        return byte < 48 ? 160 + (byte - 32) + 16 * trit : 240 + (byte - 48) + 4 * trit;
    }
    /// `count` bytes of `trits` trits each.
    template <std::uint32_t count, std::uint32_t trits>
    QS_HD static void unpack_run(const std::uint8_t* in, std::uint8_t* codes) {
        constexpr std::uint8_t powers[5] = {1, 3, 9, 27, 81};
        for (std::uint32_t trit = 0; trit < trits; ++trit)
            for (std::uint32_t byte = 0; byte < count; ++byte) {
                const auto rest = static_cast<std::uint8_t>(in[byte] * powers[trit]);
                codes[count * trit + byte] = static_cast<std::uint8_t>(rest * 3 >> 8);
            }
    }
};

/// tq2_0: two bits a weight, x ≈ d·(q − 1); code 3, of 2·d, is never made.
struct Tq2_0 : TernaryCodes<4>, BySubBlocks<Tq2_0> {
    static constexpr std::uint32_t bytes = 66;
    static constexpr HalfWords half_words{64, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        std::uint8_t codes[block];
        put_half(out + 64, float_to_fp16(ternary(x, codes)));
        put_bit_pairs(codes, out);
    }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) { take_bit_pairs(in, codes); }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in + 64)); }
};

/// q1_0: blocks of 128 signs, x ≈ ±d, d the mean magnitude.
struct Q1_0 : AscendingCodes<2>, BySubBlocks<Q1_0> {
    static constexpr std::uint32_t block = 128, bytes = 18, sub = 128;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        float sum = 0;
        for (std::uint32_t j = 0; j < block; ++j)
            sum += fabsf(x[j]);
        put_half(out, float_to_fp16(sum / 128));
        for (std::uint32_t byte = 0; byte < 16; ++byte) {
            std::uint32_t bits = 0;
            for (std::uint32_t bit = 0; bit < 8; ++bit)
                bits |= (x[8 * byte + bit] >= 0 ? 1U : 0U) << bit;
            out[2 + byte] = static_cast<std::uint8_t>(bits);
        }
    }

    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in)); }
    QS_HD static float unit_level(std::uint32_t code) { return code != 0 ? 1.0F : -1.0F; }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = in[2 + j / 8] >> (j % 8) & 1;
    }
};

/// q2_0: blocks of 64, x ≈ d·(q − 1), d the largest magnitude; code 3, of 2·d, is never made.
struct Q2_0 : AscendingCodes<4>, BySubBlocks<Q2_0> {
    static constexpr std::uint32_t block = 64, bytes = 18, sub = 64;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        const float d = largest_magnitude<64>(x);
        const float inverse = d > 0 ? 1.0F / d : 0.0F;
        put_half(out, float_to_fp16(d));
        for (std::uint32_t byte = 0; byte < 16; ++byte) {
            std::uint32_t bits = 0;
            for (std::uint32_t i = 0; i < 4; ++i) {
                const std::int32_t q = round_half_away(x[4 * byte + i] * inverse, -1) + 1;
                bits |= static_cast<std::uint32_t>(clamp_int(q, 0, 3)) << (2 * i);
            }
            out[2 + byte] = static_cast<std::uint8_t>(bits);
        }
    }

    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in)); }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 1; }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = in[2 + j / 4] >> (j % 4 * 2) & 3;
    }
};

} // namespace qs
