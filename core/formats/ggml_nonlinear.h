#pragma once

#include "core/formats/ggml_k.h"

/// ggml's formats whose levels are not evenly spaced: iq4_nl, iq4_xs and its own MXFP4 and NVFP4 (FORMATS part "ggml
/// block types"; ggml-org/ggml src/ggml-quants.c at d99724f2).
namespace qs {

/// The sixteen levels of iq4 (kvalues_iq4nl). There is no zero among them.
QS_HD inline float iq4_value(std::uint32_t code) {
    constexpr std::int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return values[code];
}

/// The nearest level; at a halfway point, which float32 holds exactly as it does the distances beside it, the upper
/// one. A NaN takes the last.
QS_HD inline std::uint32_t iq4_nearest(float x) {
    std::uint32_t code = 0;
    for (std::uint32_t i = 0; i < 15; ++i)
        code += x < (iq4_value(i) + iq4_value(i + 1)) / 2 ? 0 : 1;
    return code;
}

/// The scale of a block of 32: of sixteen scales the one with the least weighted squared error, each with the best
/// scale for its codes (`quantize_row_iq4_nl_impl` with ntry = 7).
QS_HD inline float search_iq4(const float* x, const float* weight) {
    constexpr int n = 32;
    const float largest = signed_largest<n>(x);
    if (fabsf(largest) < ggml_least_magnitude)
        return 0;
    float d = 0, best = 0;
    for (int trial = 0; trial < 16; ++trial) {
        const float inverse =
            trial == 0 ? 1 / (-largest / iq4_value(0)) : (static_cast<float>(trial - 8) + iq4_value(0)) / largest;
        float sum_qx = 0, sum_q2 = 0;
        for (int i = 0; i < n; ++i) {
            const float q = iq4_value(iq4_nearest(inverse * x[i]));
            sum_qx += weight[i] * q * x[i];
            sum_q2 += weight[i] * q * q;
        }
        if (trial == 0) {
            d = sum_q2 > 0 ? sum_qx / sum_q2 : 0.0F;
            best = d * sum_qx;
        } else if (sum_q2 > 0 && sum_qx * sum_qx > best * sum_q2) {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    return d;
}

/// Nibbles of 32 weights: byte j holds j (low) and j + 16.
QS_HD inline void put_nibbles_of_32(const std::uint8_t* codes, std::uint8_t* bytes) {
    for (std::uint32_t j = 0; j < 16; ++j)
        bytes[j] = static_cast<std::uint8_t>(codes[j] | codes[j + 16] << 4);
}
QS_HD inline void take_nibbles_of_32(const std::uint8_t* bytes, std::uint8_t* codes) {
    for (std::uint32_t j = 0; j < 16; ++j) {
        codes[j] = bytes[j] & 15;
        codes[j + 16] = bytes[j] >> 4;
    }
}

/// iq4_nl: blocks of 32, x ≈ d·K[q].
struct Iq4Nl : AscendingCodes<16>, BySubBlocks<Iq4Nl> {
    static constexpr std::uint32_t block = 32, bytes = 18, sub = 32;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 1};

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        float weight[32];
        error_weights<32>(x, context.importance, sum_of_squares<32>(x) * (2.0F / 32), weight);
        finish(x, search_iq4(x, weight), out);
    }

    QS_HD static void finish(const float* x, float d, std::uint8_t* out) {
        std::uint8_t codes[block];
        const float inverse = d != 0 ? 1 / d : 0.0F;
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = static_cast<std::uint8_t>(iq4_nearest(inverse * x[j]));
        put_half(out, float_to_fp16(d));
        put_nibbles_of_32(codes, out + 2);
    }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) { take_nibbles_of_32(in + 2, codes); }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return fp16_to_float(half_at(in)); }
    QS_HD static float unit_level(std::uint32_t code) { return iq4_value(code); }
};

/// iq4_xs: super-blocks of 256 in blocks of 32, x ≈ d·(ls − 32)·K[q], scales of 6 bits. Codes are made with the float32
/// scale.
struct Iq4Xs : AscendingCodes<16>, BySubBlocks<Iq4Xs> {
    static constexpr std::uint32_t block = super_block, bytes = 136;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 2};
    static constexpr std::uint32_t subs = 8, sub = 32;
    static constexpr std::uint32_t nibbles = 8; ///< where the codes are

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        float scales[subs], weight[sub];
        const float sigma2 = sum_of_squares<256>(x) * (2.0F / 256);
        for (std::uint32_t j = 0; j < subs; ++j) {
            const float* importance = context.importance == nullptr ? nullptr : context.importance + sub * j;
            error_weights<sub>(x + sub * j, importance, sigma2, weight);
            scales[j] = search_iq4(x + sub * j, weight);
        }
        finish(x, scales, out);
    }

    QS_HD static void finish(const float* x, const float* scales, std::uint8_t* out) {
        put_scales(scales, out, [&](std::uint32_t j, float inverse) {
            std::uint8_t codes[sub];
            for (std::uint32_t i = 0; i < sub; ++i)
                codes[i] = static_cast<std::uint8_t>(iq4_nearest(inverse * x[sub * j + i]));
            put_nibbles_of_32(codes, out + nibbles + 16 * j);
        });
    }

    /// The scales as stored; calls put_codes(sub-block, what its weights are multiplied by).
    template <class PutCodes>
    QS_HD static void put_scales(const float* scales, std::uint8_t* out, PutCodes put_codes) {
        const float d = -signed_largest<subs>(scales) / 32;
        const float inverse = d != 0 ? 1 / d : 0.0F;
        std::uint32_t high = 0;
        for (std::uint32_t j = 0; j < subs; ++j) {
            const std::int32_t l = clamp_int(ggml_nearest(inverse * scales[j]), -32, 31);
            const float dl = d * static_cast<float>(l);
            put_codes(j, dl != 0 ? 1 / dl : 0.0F);
            const auto stored = static_cast<std::uint32_t>(l + 32);
            out[4 + j / 2] = static_cast<std::uint8_t>(j % 2 == 0 ? stored & 15 : out[4 + j / 2] | (stored & 15) << 4);
            high |= stored >> 4 << (2 * j);
        }
        put_half(out, float_to_fp16(d));
        put_half(out + 2, static_cast<std::uint16_t>(high));
    }

    QS_HD static float unit_level(std::uint32_t code) { return iq4_value(code); }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t j = 0; j < subs; ++j)
            take_nibbles_of_32(in + nibbles + 16 * j, codes + sub * j);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) {
        const std::uint32_t low = in[4 + j / 2] >> (j % 2 * 4) & 15U;
        const std::uint32_t stored = low | (static_cast<std::uint32_t>(half_at(in + 2)) >> (2 * j) & 3U) << 4;
        return fp16_to_float(half_at(in)) * (static_cast<float>(stored) - 32);
    }
};

/// Twice the sixteen values of E2M1 (kvalues_mxfp4), which scales of half the size go with. Code 8 is 0
/// too.
QS_HD inline float doubled_e2m1(std::uint32_t code) {
    constexpr std::int8_t values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    return static_cast<float>(values[code]);
}

/// The first of the nearest codes, so that halfway values go towards zero and code 8 is never made
/// (`best_index_mxfp4`).
QS_HD inline std::uint32_t doubled_e2m1_nearest(float x, float d) {
    std::uint32_t code = 0;
    float least = fabsf(doubled_e2m1(0) * d - x);
    for (std::uint32_t i = 1; i < 16; ++i) {
        const float error = fabsf(doubled_e2m1(i) * d - x);
        if (error < least) {
            code = i;
            least = error;
        }
    }
    return code;
}

/// Codes of E2M1 in the order of their values: −6 … −0, 0 … 6.
struct E2M1Codes {
    static constexpr std::uint32_t code_count = 16, level_count = 16;
    QS_HD static std::uint32_t code_at(std::uint32_t rank) { return rank < 8 ? 15 - rank : rank - 8; }
    QS_HD static float unit_level(std::uint32_t code) { return doubled_e2m1(code); }
};

template <int n>
QS_HD float largest_magnitude(const float* x) {
    float largest = 0;
    for (int i = 0; i < n; ++i)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    return largest;
}

/// mxfp4_ggml: blocks of 32, x ≈ 2^(e − 127)·E2M1.
struct Mxfp4Ggml : E2M1Codes, BySubBlocks<Mxfp4Ggml> {
    static constexpr std::uint32_t block = 32, bytes = 17, sub = 32;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 0};

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        out[0] = exponent(largest_magnitude<32>(x));
        const float d = half_scale(out[0]);
        std::uint8_t codes[block];
        for (std::uint32_t j = 0; j < block; ++j)
            codes[j] = static_cast<std::uint8_t>(doubled_e2m1_nearest(x[j], d));
        put_nibbles_of_32(codes, out + 1);
    }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) { take_nibbles_of_32(in + 1, codes); }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t) { return half_scale(in[0]); }

    /// floor(log2(largest)) − 2 + 127 as the reference computes it: its logarithm is rounded to float32, so that the
    /// last few values below a power of two count as that power. Below 2⁻¹²⁵ it wraps, and all codes are 0.
    QS_HD static std::uint8_t exponent(float largest) {
        if (!(largest > 0))
            return 0;
        int shift = 0;
        if (largest < 0x1p-126F) {
            largest *= 0x1p24F;
            shift = 24;
        }
        const std::uint32_t bits = float_bits(largest);
        int power = static_cast<int>(bits >> 23) - 127 - shift;
        const std::uint32_t below_next = 0x800000U - (bits & 0x7FFFFFU);
        power += below_next <= rounded_up(power + 1) ? 1 : 0;
        return static_cast<std::uint8_t>(power - 2 + 127);
    }

    /// 2^(e − 128), half the scale.
    QS_HD static float half_scale(std::uint8_t e) {
        return bits_float(e < 2 ? 0x00200000U << e : static_cast<std::uint32_t>(e - 1) << 23);
    }

private:
    /// How many floats below 2^power have a logarithm that rounds to `power`: their distance is below half the spacing
    /// of floats there, floor(2ᵖ·ln 2) of them where the spacing is 2^(p − 23).
    QS_HD static std::uint32_t rounded_up(int power) {
        const int magnitude = power > 0 ? power - 1 : -power;
        int p = 0;
        for (int least = 2; least <= 128; least *= 2)
            p += magnitude >= least ? 1 : 0;
        constexpr std::uint8_t counts[8] = {0, 1, 2, 5, 11, 22, 44, 88};
        return power == 0 ? 0 : counts[p];
    }
};

/// An unsigned E4M3 scale of ggml's NVFP4, halves rounded up; from 256 on it is 448.
QS_HD inline std::uint8_t float_to_ue4m3(float x) {
    if (!(x > 0))
        return 0;
    const std::uint32_t bits = float_bits(x < 448.0F ? x : 448.0F);
    const int exponent = static_cast<int>(bits >> 23) - 127 + 7;
    if (exponent <= 0) {
        const auto multiple = static_cast<int>(x * 512.0F + 0.5F);
        return static_cast<std::uint8_t>(multiple < 7 ? multiple : 7);
    }
    const auto rounded = static_cast<std::uint32_t>(exponent) * 8 + (bits >> 20 & 7U) + (bits >> 19 & 1U);
    return static_cast<std::uint8_t>(rounded < 15 * 8 ? rounded : 0x7EU);
}

/// Half of its value; the code of NaN is 0.
QS_HD inline float half_ue4m3(std::uint8_t code) {
    return code == 0x7F ? 0.0F : fp8_to_float<E4M3>(code) * 0.5F;
}

/// nvfp4_ggml: blocks of 64 in sub-blocks of 16, x ≈ ue4m3·E2M1, no scale of the tensor.
struct Nvfp4Ggml : E2M1Codes, BySubBlocks<Nvfp4Ggml> {
    static constexpr std::uint32_t block = 64, bytes = 36;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 0};
    static constexpr std::uint32_t subs = 4, sub = 16;

    QS_HD static void encode(const float* x, const BlockContext&, std::uint8_t* out) {
        for (std::uint32_t s = 0; s < subs; ++s) {
            const float* from = x + sub * s;
            out[s] = float_to_ue4m3(largest_magnitude<sub>(from) / 6.0F);
            const float d = half_ue4m3(out[s]);
            for (std::uint32_t j = 0; j < 8; ++j)
                out[4 + 8 * s + j] = static_cast<std::uint8_t>(doubled_e2m1_nearest(from[j], d) |
                                                               doubled_e2m1_nearest(from[8 + j], d) << 4);
        }
    }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t s = 0; s < subs; ++s)
            for (std::uint32_t j = 0; j < 8; ++j) {
                codes[sub * s + j] = in[4 + 8 * s + j] & 15;
                codes[sub * s + 8 + j] = in[4 + 8 * s + j] >> 4;
            }
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) { return half_ue4m3(in[j]); }
};

} // namespace qs
