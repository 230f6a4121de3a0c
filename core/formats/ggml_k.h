#pragma once

#include "core/formats/ggml_search.h"

/// ggml's K-quants: super-blocks of 256 weights whose sub-blocks have scales of a few bits (FORMATS part "ggml block
/// types"; ggml-org/ggml src/ggml-quants.c and ggml-common.h at d99724f2). Codes are made with the scales as stored,
/// float16 d included; a sub-block whose scale vanishes keeps the codes of the search.
namespace qs {

inline constexpr std::uint32_t super_block = 256;

/// Two bits a weight: of 128 weights byte l holds l, l + 32, l + 64 and l + 96.
QS_HD inline void put_bit_pairs(const std::uint8_t* codes, std::uint8_t* bytes) {
    for (std::uint32_t half = 0; half < 2; ++half)
        for (std::uint32_t l = 0; l < 32; ++l) {
            const std::uint8_t* c = codes + 128 * half + l;
            bytes[32 * half + l] =
                static_cast<std::uint8_t>((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
        }
}
QS_HD inline void take_bit_pairs(const std::uint8_t* bytes, std::uint8_t* codes) {
    for (std::uint32_t quarter = 0; quarter < 8; ++quarter)
        for (std::uint32_t l = 0; l < 32; ++l)
            codes[32 * quarter + l] = bytes[quarter / 4 * 32 + l] >> (2 * (quarter % 4)) & 3;
}

/// Four bits a weight: of 64 weights byte l holds l (low) and l + 32.
QS_HD inline void put_nibbles_of_64(const std::uint8_t* codes, std::uint8_t* bytes) {
    for (std::uint32_t j = 0; j < super_block; j += 64)
        for (std::uint32_t l = 0; l < 32; ++l)
            bytes[j / 2 + l] = static_cast<std::uint8_t>((codes[j + l] & 15) | (codes[j + l + 32] & 15) << 4);
}
QS_HD inline void take_nibbles_of_64(const std::uint8_t* bytes, std::uint8_t* codes) {
    for (std::uint32_t j = 0; j < super_block; j += 64)
        for (std::uint32_t l = 0; l < 32; ++l) {
            codes[j + l] = bytes[j / 2 + l] & 15;
            codes[j + l + 32] = bytes[j / 2 + l] >> 4;
        }
}

/// Eight 6-bit scales and eight 6-bit minimums in twelve bytes.
struct SixBitPairs {
    QS_HD static void put(std::uint8_t* bytes, std::uint32_t j, std::uint32_t scale, std::uint32_t min) {
        if (j < 4) {
            bytes[j] = static_cast<std::uint8_t>(scale);
            bytes[j + 4] = static_cast<std::uint8_t>(min);
        } else {
            bytes[j + 4] = static_cast<std::uint8_t>((scale & 15) | (min & 15) << 4);
            bytes[j - 4] = static_cast<std::uint8_t>(bytes[j - 4] | scale >> 4 << 6);
            bytes[j] = static_cast<std::uint8_t>(bytes[j] | min >> 4 << 6);
        }
    }
    QS_HD static std::uint32_t scale(const std::uint8_t* bytes, std::uint32_t j) {
        return j < 4 ? bytes[j] & 63U : (bytes[j + 4] & 15U) | static_cast<std::uint32_t>(bytes[j - 4] >> 6) << 4;
    }
    QS_HD static std::uint32_t min(const std::uint8_t* bytes, std::uint32_t j) {
        return j < 4 ? bytes[j + 4] & 63U
                     : static_cast<std::uint32_t>(bytes[j + 4] >> 4) | static_cast<std::uint32_t>(bytes[j] >> 6) << 4;
    }
};

/// The codes of a sub-block once its scale and minimum are known: x ≈ d·l − m.
template <int n>
QS_HD void affine_codes(int nmax, const float* x, float d, float m, std::uint8_t* codes) {
    for (int i = 0; i < n; ++i)
        codes[i] = static_cast<std::uint8_t>(clamp_int(ggml_nearest((x[i] + m) / d), 0, nmax));
}

/// The same for x ≈ d·(l − nmax).
template <int n>
QS_HD void symmetric_codes(int nmax, const float* x, float d, std::uint8_t* codes) {
    for (int i = 0; i < n; ++i)
        codes[i] = static_cast<std::uint8_t>(clamp_int(ggml_nearest(x[i] / d), -nmax, nmax - 1) + nmax);
}

/// q2_K: sixteen sub-blocks of 16, x ≈ d·sc·q − dmin·mn, scales and minimums of 4 bits.
struct Q2_K : AscendingCodes<4>, BySubBlocks<Q2_K> {
    static constexpr std::uint32_t block = super_block, bytes = 84;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{80, 2};
    static constexpr std::uint32_t subs = 16, sub = 16;

    QS_HD static AffineTrials trials() { return {-0.5F, 0.1F, 15, true}; }

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[super_block];
        float scales[subs], mins[subs], weight[sub], sum_w[subs];
        const float sigma2 = context.importance == nullptr ? 0 : sum_of_squares<256>(x) / 256;
        for (std::uint32_t j = 0; j < subs; ++j) {
            const float* from = x + sub * j;
            AffineFit fit;
            if (context.importance == nullptr) {
                for (std::uint32_t i = 0; i < sub; ++i)
                    weight[i] = fabsf(from[i]);
                fit = search_affine<sub>(3, from, weight, trials(), codes + sub * j);
            } else {
                sum_w[j] = importance_weights<sub>(from, context.importance + sub * j, sigma2, weight);
                fit = search_affine<sub>(3, from, weight, importance_trials(), codes + sub * j);
            }
            scales[j] = fit.scale;
            mins[j] = fit.min;
        }
        if (context.importance == nullptr)
            put_scales(scales, mins, out);
        else
            search_scales(scales, mins, sum_w, out);
        finish(x, codes, out);
    }

    /// The scales of a search without importance, as stored.
    QS_HD static void put_scales(const float* scales, const float* mins, std::uint8_t* out) {
        const float max_scale = largest(scales), max_min = largest(mins);
        for (std::uint32_t j = 0; j < subs; ++j) {
            const std::int32_t sc = max_scale > 0 ? ggml_nearest(15.0F / max_scale * scales[j]) : 0;
            const std::int32_t mn = max_min > 0 ? ggml_nearest(15.0F / max_min * mins[j]) : 0;
            out[j] = static_cast<std::uint8_t>(static_cast<std::uint8_t>(sc) | static_cast<std::uint32_t>(mn) << 4);
        }
        put_half(out + 80, float_to_fp16(max_scale > 0 ? max_scale / 15.0F : 0.0F));
        put_half(out + 82, float_to_fp16(max_min > 0 ? max_min / 15.0F : 0.0F));
    }

    /// The codes with the scales that `out` holds already, and their packing.
    QS_HD static void finish(const float* x, std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t j = 0; j < subs; ++j)
            if (const float d = scale(out, j); d != 0)
                affine_codes<sub>(3, x + sub * j, d, min(out, j), codes + sub * j);
        put_codes(codes, out);
    }

    QS_HD static void put_codes(const std::uint8_t* codes, std::uint8_t* out) { put_bit_pairs(codes, out + 16); }

    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code); }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) { take_bit_pairs(in + 16, codes); }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) {
        return fp16_to_float(half_at(in + 80)) * static_cast<float>(in[j] & 15);
    }
    QS_HD static float min(const std::uint8_t* in, std::uint32_t j) {
        return fp16_to_float(half_at(in + 82)) * static_cast<float>(in[j] >> 4);
    }

private:
    QS_HD static float largest(const float* values) {
        float max = 0;
        for (std::uint32_t j = 0; j < subs; ++j)
            max = values[j] > max ? values[j] : max;
        return max;
    }
    QS_HD static void search_scales(const float* scales, const float* mins, const float* sum_w, std::uint8_t* out) {
        std::uint8_t sc[subs], mn[subs];
        put_half(out + 80, float_to_fp16(search_positive<subs>(15, scales, sum_w, sc)));
        put_half(out + 82, float_to_fp16(search_positive<subs>(15, mins, sum_w, mn)));
        for (std::uint32_t j = 0; j < subs; ++j)
            out[j] = static_cast<std::uint8_t>(sc[j] | mn[j] << 4);
    }
};

/// q3_K: sixteen sub-blocks of 16, x ≈ d·(sc − 32)·(q − 4), scales of 6 bits.
struct Q3_K : AscendingCodes<8>, BySubBlocks<Q3_K> {
    static constexpr std::uint32_t block = super_block, bytes = 110;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{108, 1};
    static constexpr std::uint32_t subs = 16, sub = 16;

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[super_block];
        float scales[subs];
        if (context.importance == nullptr) {
            for (std::uint32_t j = 0; j < subs; ++j)
                scales[j] = search_by_coordinate<sub>(4, x + sub * j, codes + sub * j);
            put_scales(scales, out);
        } else {
            const float sigma2 = 2 * sum_of_squares<256>(x) / 256;
            float weight[sub], sum_w[subs];
            for (std::uint32_t j = 0; j < subs; ++j) {
                sum_w[j] = importance_weights<sub>(x + sub * j, context.importance + sub * j, sigma2, weight);
                scales[j] = search_symmetric<sub>(4, x + sub * j, weight, codes + sub * j);
            }
            std::uint8_t stored[subs];
            const float d = search_symmetric<subs>(32, scales, sum_w, stored);
            put_scale_codes(stored, out);
            put_half(out + 108, float_to_fp16(d));
        }
        finish(x, codes, out);
    }

    /// The scales of a search without importance, as stored.
    QS_HD static void put_scales(const float* scales, std::uint8_t* out) {
        const float largest = signed_largest<subs>(scales);
        std::uint8_t stored[subs];
        const float inverse = -32.0F / largest;
        for (std::uint32_t j = 0; j < subs; ++j) {
            const auto l = static_cast<std::int8_t>(largest != 0 ? ggml_nearest(inverse * scales[j]) : -32);
            stored[j] = static_cast<std::uint8_t>(clamp_int(l, -32, 31) + 32);
        }
        put_scale_codes(stored, out);
        put_half(out + 108, float_to_fp16(largest != 0 ? 1 / inverse : 0.0F));
    }

    /// The codes with the scales that `out` holds already, and their packing.
    QS_HD static void finish(const float* x, std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t j = 0; j < subs; ++j)
            if (const float d = scale(out, j); d != 0)
                symmetric_codes<sub>(4, x + sub * j, d, codes + sub * j);
        put_codes(codes, out);
    }

    QS_HD static void put_codes(const std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t byte = 0; byte < 32; ++byte) {
            std::uint32_t high = 0;
            for (std::uint32_t bit = 0; bit < 8; ++bit)
                high |= static_cast<std::uint32_t>(codes[32 * bit + byte] >> 2 & 1) << bit;
            out[byte] = static_cast<std::uint8_t>(high);
        }
        put_bit_pairs(codes, out + 32);
    }

    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 4; }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        take_bit_pairs(in + 32, codes);
        for (std::uint32_t bit = 0; bit < 8; ++bit)
            for (std::uint32_t l = 0; l < 32; ++l)
                codes[32 * bit + l] = static_cast<std::uint8_t>(codes[32 * bit + l] | (in[l] >> bit & 1) << 2);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) {
        const std::uint8_t* packed = in + 96;
        const std::uint32_t low = j < 8 ? packed[j] & 15U : packed[j - 8] >> 4;
        const std::uint32_t stored = low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3U) << 4;
        return fp16_to_float(half_at(in + 108)) * (static_cast<float>(stored) - 32);
    }

private:
    QS_HD static void put_scale_codes(const std::uint8_t* stored, std::uint8_t* out) {
        std::uint8_t* packed = out + 96;
        for (std::uint32_t j = 0; j < 8; ++j)
            packed[j] = static_cast<std::uint8_t>((stored[j] & 15) | (stored[j + 8] & 15) << 4);
        for (std::uint32_t j = 0; j < 4; ++j)
            packed[8 + j] = static_cast<std::uint8_t>((stored[j] >> 4) | (stored[j + 4] >> 4) << 2 |
                                                      (stored[j + 8] >> 4) << 4 | (stored[j + 12] >> 4) << 6);
    }
};

/// q4_K and q5_K: eight sub-blocks of 32, x ≈ d·sc·q − dmin·mn, scales and minimums of 6 bits.
template <int bits>
struct Q45_K : AscendingCodes<1U << bits>, BySubBlocks<Q45_K<bits>> {
    static constexpr std::uint32_t block = super_block, bytes = bits == 4 ? 144 : 176;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{0, 2};
    static constexpr std::uint32_t subs = 8, sub = 32;
    static constexpr int nmax = (1 << bits) - 1;

    QS_HD static AffineTrials trials() {
        return bits == 4 ? AffineTrials{-1.0F, 0.1F, 20, false} : AffineTrials{-0.5F, 0.1F, 15, false};
    }

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[super_block];
        float scales[subs], mins[subs], weight[sub], sum_w[subs];
        const float sigma2 = context.importance == nullptr ? 0 : 2 * sum_of_squares<256>(x) / 256;
        for (std::uint32_t j = 0; j < subs; ++j) {
            const float* from = x + sub * j;
            AffineFit fit;
            if (context.importance == nullptr) {
                const float average = sqrtf(sum_of_squares<sub>(from) / 32);
                for (std::uint32_t i = 0; i < sub; ++i)
                    weight[i] = average + fabsf(from[i]);
                fit = search_affine<sub>(nmax, from, weight, trials(), codes + sub * j);
            } else {
                sum_w[j] = importance_weights<sub>(from, context.importance + sub * j, sigma2, weight);
                fit = search_affine<sub>(nmax, from, weight, importance_trials(), codes + sub * j);
            }
            scales[j] = fit.scale;
            mins[j] = fit.min;
        }
        if (context.importance == nullptr)
            put_scales(scales, mins, out);
        else
            search_scales(scales, mins, sum_w, out);
        finish(x, codes, out);
    }

    /// The scales of a search without importance, as stored.
    QS_HD static void put_scales(const float* scales, const float* mins, std::uint8_t* out) {
        float max_scale = 0, max_min = 0;
        for (std::uint32_t j = 0; j < subs; ++j) {
            max_scale = scales[j] > max_scale ? scales[j] : max_scale;
            max_min = mins[j] > max_min ? mins[j] : max_min;
        }
        const float inverse_scale = max_scale > 0 ? 63.0F / max_scale : 0.0F;
        const float inverse_min = max_min > 0 ? 63.0F / max_min : 0.0F;
        for (std::uint32_t j = 0; j < subs; ++j) {
            const auto sc = static_cast<std::uint8_t>(ggml_nearest(inverse_scale * scales[j]));
            const auto mn = static_cast<std::uint8_t>(ggml_nearest(inverse_min * mins[j]));
            SixBitPairs::put(out + 4, j, sc < 63 ? sc : 63, mn < 63 ? mn : 63);
        }
        put_half(out, float_to_fp16(max_scale / 63.0F));
        put_half(out + 2, float_to_fp16(max_min / 63.0F));
    }

    /// The codes with the scales that `out` holds already, and their packing.
    QS_HD static void finish(const float* x, std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t j = 0; j < subs; ++j)
            if (const float d = scale(out, j); d != 0)
                affine_codes<sub>(nmax, x + sub * j, d, min(out, j), codes + sub * j);
        put_codes(codes, out);
    }

    QS_HD static void put_codes(const std::uint8_t* codes, std::uint8_t* out) {
        if constexpr (bits == 5)
            for (std::uint32_t l = 0; l < 32; ++l) {
                std::uint32_t high = 0;
                for (std::uint32_t j = 0; j < 8; ++j)
                    high |= static_cast<std::uint32_t>(codes[32 * j + l] >> 4 & 1) << j;
                out[16 + l] = static_cast<std::uint8_t>(high);
            }
        put_nibbles_of_64(codes, out + nibbles);
    }

    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code); }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        take_nibbles_of_64(in + nibbles, codes);
        if constexpr (bits == 5)
            for (std::uint32_t bit = 0; bit < 8; ++bit)
                for (std::uint32_t l = 0; l < 32; ++l)
                    codes[32 * bit + l] = static_cast<std::uint8_t>(codes[32 * bit + l] | (in[16 + l] >> bit & 1) << 4);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) {
        return fp16_to_float(half_at(in)) * static_cast<float>(SixBitPairs::scale(in + 4, j));
    }
    QS_HD static float min(const std::uint8_t* in, std::uint32_t j) {
        return fp16_to_float(half_at(in + 2)) * static_cast<float>(SixBitPairs::min(in + 4, j));
    }

    /// Where the low four bits of the codes are.
    static constexpr std::uint32_t nibbles = bits == 4 ? 16 : 48;

private:
    QS_HD static void search_scales(const float* scales, const float* mins, const float* sum_w, std::uint8_t* out) {
        std::uint8_t sc[subs], mn[subs];
        put_half(out, float_to_fp16(search_positive<subs>(63, scales, sum_w, sc)));
        put_half(out + 2, float_to_fp16(search_positive<subs>(63, mins, sum_w, mn)));
        for (std::uint32_t j = 0; j < subs; ++j)
            SixBitPairs::put(out + 4, j, capped(sc[j]), capped(mn[j]));
    }
    /// Only q5_K's form of the reference clamps them again.
    QS_HD static std::uint32_t capped(std::uint32_t scale) { return bits == 5 && scale > 63 ? 63 : scale; }
};
using Q4_K = Q45_K<4>;
using Q5_K = Q45_K<5>;

/// q6_K: sixteen sub-blocks of 16, x ≈ d·sc·(q − 32), scales of 8 bits.
struct Q6_K : AscendingCodes<64>, BySubBlocks<Q6_K> {
    static constexpr std::uint32_t block = super_block, bytes = 210;
    static constexpr bool weighs_row = false;
    static constexpr HalfWords half_words{208, 1};
    static constexpr std::uint32_t subs = 16, sub = 16;

    QS_HD static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        std::uint8_t codes[super_block];
        float scales[subs];
        for (std::uint32_t j = 0; j < subs; ++j) {
            float weight[sub];
            for (std::uint32_t i = 0; i < sub; ++i)
                weight[i] =
                    context.importance == nullptr ? x[sub * j + i] * x[sub * j + i] : context.importance[sub * j + i];
            scales[j] = search_symmetric<sub>(32, x + sub * j, weight, codes + sub * j);
        }
        if (put_scales(scales, out))
            finish(x, codes, out);
    }

    /// The scales as stored; a block of zeros, which is all zero bytes, is complete with them: false.
    QS_HD static bool put_scales(const float* scales, std::uint8_t* out) {
        const float largest = signed_largest<subs>(scales);
        if (fabsf(largest) < ggml_least_magnitude) {
            for (std::uint32_t i = 0; i < bytes; ++i)
                out[i] = 0;
            return false;
        }
        const float inverse = -128.0F / largest;
        put_half(out + 208, float_to_fp16(1 / inverse));
        for (std::uint32_t j = 0; j < subs; ++j) {
            const std::int32_t sc = ggml_nearest(inverse * scales[j]);
            out[192 + j] = static_cast<std::uint8_t>(sc < 127 ? sc : 127);
        }
        return true;
    }

    /// The codes with the scales that `out` holds already, and their packing.
    QS_HD static void finish(const float* x, std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t j = 0; j < subs; ++j)
            if (const float d = scale(out, j); d != 0)
                symmetric_codes<sub>(32, x + sub * j, d, codes + sub * j);
        put_codes(codes, out);
    }

    QS_HD static void put_codes(const std::uint8_t* codes, std::uint8_t* out) {
        for (std::uint32_t half = 0; half < 2; ++half)
            for (std::uint32_t l = 0; l < 32; ++l) {
                const std::uint8_t* c = codes + 128 * half + l;
                out[64 * half + l] = static_cast<std::uint8_t>((c[0] & 15) | (c[64] & 15) << 4);
                out[64 * half + 32 + l] = static_cast<std::uint8_t>((c[32] & 15) | (c[96] & 15) << 4);
                out[128 + 32 * half + l] =
                    static_cast<std::uint8_t>(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
            }
    }

    QS_HD static float unit_level(std::uint32_t code) { return static_cast<float>(code) - 32; }

    QS_HD static void unpack(const std::uint8_t* in, std::uint8_t* codes) {
        for (std::uint32_t half = 0; half < 2; ++half)
            for (std::uint32_t quarter = 0; quarter < 4; ++quarter)
                for (std::uint32_t l = 0; l < 32; ++l) {
                    const int low = in[64 * half + 32 * (quarter % 2) + l] >> (quarter / 2 * 4) & 15;
                    const int high = in[128 + 32 * half + l] >> (2 * quarter) & 3;
                    codes[128 * half + 32 * quarter + l] = static_cast<std::uint8_t>(low | high << 4);
                }
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t j) {
        return fp16_to_float(half_at(in + 208)) * static_cast<float>(static_cast<std::int8_t>(in[192 + j]));
    }
};

} // namespace qs
