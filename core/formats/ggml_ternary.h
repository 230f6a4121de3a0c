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

/// Codes of 256 weights scaled by their largest magnitude: −1, 0, 1 as 0, 1, 2.
struct TernaryCodes : AscendingCodes<3> {
    static constexpr std::uint32_t block = super_block;
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
struct Tq1_0 : TernaryCodes {
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

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        const float d = fp16_to_float(half_at(in + 52));
        for_each_code(in, [&](std::uint32_t j, std::uint32_t code) { out[j] = unit_level(code) * d; });
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for_each_code(in, [&](std::uint32_t j, std::uint32_t code) { out[j] = static_cast<std::uint16_t>(code); });
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t, std::uint32_t code) {
        return unit_level(code) * fp16_to_float(half_at(in + 52));
    }

private:
    QS_HD static std::uint32_t trits(std::uint32_t byte) { return byte < 48 ? 5 : 4; }
    /// Which weight a trit of a byte stands for, the first trit being the most significant.
    QS_HD static std::uint32_t element(std::uint32_t byte, std::uint32_t trit) {
        if (byte < 32)
            return byte + 32 * trit;
        return byte < 48 ? 160 + (byte - 32) + 16 * trit : 240 + (byte - 48) + 4 * trit;
    }
    template <class Visit>
    QS_HD static void for_each_code(const std::uint8_t* in, Visit visit) {
        for (std::uint32_t byte = 0; byte < 52; ++byte) {
            std::uint32_t rest = in[byte];
            for (std::uint32_t trit = 0; trit < trits(byte); ++trit) {
                visit(element(byte, trit), rest * 3 >> 8);
                rest = rest * 3 & 255;
            }
        }
    }
};

/// tq2_0: two bits a weight, x ≈ d·(q − 1).
struct Tq2_0 : TernaryCodes {
    static constexpr std::uint32_t bytes = 66;
    static constexpr HalfWords half_words{64, 1};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        std::uint8_t codes[block];
        put_half(out + 64, float_to_fp16(ternary(x, codes)));
        put_bit_pairs(codes, out);
    }

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = level(in, j, bit_pair_at(in, j));
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        // The reference never writes a 3; read from a file it counts as the largest code.
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = static_cast<std::uint16_t>(bit_pair_at(in, j) < 3 ? bit_pair_at(in, j) : 2);
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t, std::uint32_t code) {
        return unit_level(code) * fp16_to_float(half_at(in + 64));
    }
};

/// q1_0: blocks of 128 signs, x ≈ ±d, d the mean magnitude.
struct Q1_0 : AscendingCodes<2> {
    static constexpr std::uint32_t block = 128, bytes = 18;
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

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = level(in, j, code(in, j));
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = static_cast<std::uint16_t>(code(in, j));
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t, std::uint32_t code) {
        const float d = fp16_to_float(half_at(in));
        return code != 0 ? d : -d;
    }
    QS_HD static float unit_level(std::uint32_t code) { return code != 0 ? 1.0F : -1.0F; }

    QS_HD static std::uint32_t code(const std::uint8_t* in, std::uint32_t j) { return in[2 + j / 8] >> (j % 8) & 1U; }
};

/// q2_0: blocks of 64, x ≈ d·(q − 1), d the largest magnitude; code 3, of 2·d, is never made.
struct Q2_0 : AscendingCodes<4> {
    static constexpr std::uint32_t block = 64, bytes = 18;
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

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = level(in, j, code(in, j));
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for (std::uint32_t j = 0; j < block; ++j)
            out[j] = static_cast<std::uint16_t>(code(in, j));
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t, std::uint32_t code) {
        return unit_level(code) * fp16_to_float(half_at(in));
    }
    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 1; }

    QS_HD static std::uint32_t code(const std::uint8_t* in, std::uint32_t j) {
        return in[2 + j / 4] >> (j % 4 * 2) & 3U;
    }
};

} // namespace qs
