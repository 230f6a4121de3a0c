#pragma once

#include "core/formats/ggml_iq_search.h"
#include "core/formats/ggml_nonlinear.h"

/// ggml's codebook formats: groups of eight or four weights take a point of a grid together, with signs (iq2, iq3) or
/// with a shift (iq1), and sub-blocks have scales of a few bits (FORMATS part "ggml block types"; ggml-org/ggml
/// src/ggml-quants.c and ggml-common.h at d99724f2).
///
/// Encoding looks for points in tables (grid_search()): on the host in those of the process, elsewhere in a copy of
/// them. Where the reference aborts (negative importance, or products beyond the range of float32) the super-block is
/// stored as zeros.
namespace qs {

// --- bits ----------------------------------------------------------------------------------------------------------

/// Nibbles in order, the first in the low half of the first byte; put into zeros.
QS_HD inline void put_nth_nibble(std::uint8_t* bytes, std::uint32_t n, std::uint32_t value) {
    bytes[n / 2] = static_cast<std::uint8_t>(bytes[n / 2] | value << (n % 2 * 4));
}
QS_HD inline std::uint32_t nth_nibble(const std::uint8_t* bytes, std::uint32_t n) {
    return bytes[n / 2] >> (n % 2 * 4) & 15U;
}

/// Adds bits to a little-endian word.
QS_HD inline void or_half(std::uint8_t* bytes, std::uint32_t bits) {
    put_half(bytes, static_cast<std::uint16_t>(half_at(bytes) | bits));
}

/// A 32-bit word that has four times seven signs and above them a scale of 4 bits.
struct SignsAndScale {
    QS_HD static void put_signs(std::uint8_t* bytes, std::uint32_t k, std::uint32_t signs) {
        put(bytes, (signs & 127) << (7 * k));
    }
    QS_HD static void put_scale(std::uint8_t* bytes, std::uint32_t code) { put(bytes, code << 28); }
    QS_HD static std::uint32_t signs(const std::uint8_t* bytes, std::uint32_t k) {
        return with_eighth_sign(word(bytes) >> (7 * k) & 127);
    }
    QS_HD static std::uint32_t scale(const std::uint8_t* bytes) { return word(bytes) >> 28; }

    /// Seven signs and the one that makes the minus signs even.
    QS_HD static std::uint32_t with_eighth_sign(std::uint32_t seven) { return seven | (odd_bits(seven) ? 128U : 0U); }

private:
    QS_HD static void put(std::uint8_t* bytes, std::uint32_t bits) {
        or_half(bytes, bits & 0xFFFF);
        or_half(bytes + 2, bits >> 16);
    }
    QS_HD static std::uint32_t word(const std::uint8_t* bytes) {
        return half_at(bytes) | static_cast<std::uint32_t>(half_at(bytes + 2)) << 16;
    }
};

/// The code l of a scale ≈ (2·l + 1) / inverse.
QS_HD inline std::uint32_t odd_scale_code(float inverse, float scale, std::int32_t last) {
    return static_cast<std::uint32_t>(clamp_int(ggml_nearest(0.5F * (inverse * scale - 1)), 0, last));
}

QS_HD inline void put_zeros(std::uint8_t* bytes, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
        bytes[i] = 0;
}

// --- magnitudes and signs: iq2, iq3 ------------------------------------------------------------------------------

/// What iq2 and iq3 share. Their codes are the levels: magnitudes of the grid's ranks, −last … −first, first … last. A
/// codec adds
///
/// - magnitude(rank)
/// - even_signs: whether seven of eight signs are stored
/// - mean_squares: times that of the block, in what errors count by
/// - correction: of d, when all is done
/// - least: a sub-block below this magnitude is empty
/// - keeps_points: whether a block without scales stores points and signs nevertheless
/// - trials()
/// - put_point, put_signs, put_scale, into zeros, and what reads them back: index, signs, scale
template <class Codec, class Grid, std::uint32_t sub_>
struct SignedGridCodec : AscendingCodes<2 * Grid::levels> {
    using SearchGrid = Grid;
    static constexpr std::uint32_t block = super_block, sub = sub_, subs = block / sub;
    static constexpr bool weighs_row = false;

    static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        encode(grid_search<Grid>(), x, context, out);
    }
    QS_HD static void encode(const GridSearch& search, const float* x, const BlockContext& context, std::uint8_t* out) {
        const float sigma2 = Codec::mean_squares * sum_of_squares<256>(x) / 256;
        float scales[subs];
        std::uint32_t empty = 0;
        put_zeros(out, Codec::bytes);
        for (std::uint32_t s = 0; s < subs; ++s) {
            const float* importance = context.importance == nullptr ? nullptr : context.importance + sub * s;
            const GridFit<Grid, sub> fit = encode_sub_block(search, x + sub * s, importance, sigma2, s, out);
            scales[s] = fabsf(fit.scale);
            if (!(scales[s] >= 0))
                return put_zeros(out, Codec::bytes);
            empty |= (fit.empty ? 1U : 0U) << s;
        }
        Codec::close_gaps(empty, out);
        const float largest = largest_of<subs>(scales);
        if (largest > 0)
            put_scales(scales, largest / 31, out);
        else if (!Codec::keeps_points)
            put_zeros(out, Codec::bytes);
    }

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; j += Grid::dims) {
            const float scale = Codec::scale(in, j / sub);
            for_each_entry(in, j, [&](std::uint32_t i, std::uint32_t rank, std::uint32_t minus) {
                out[i] = bits_float(float_bits(scale * Codec::magnitude(rank)) ^ minus << 31);
            });
        }
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for (std::uint32_t j = 0; j < block; j += Grid::dims)
            for_each_entry(in, j, [&](std::uint32_t i, std::uint32_t rank, std::uint32_t minus) {
                out[i] = static_cast<std::uint16_t>(minus != 0 ? Grid::levels - 1 - rank : Grid::levels + rank);
            });
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t j, std::uint32_t code) {
        return Codec::scale(in, j / sub) * unit_level(code);
    }
    QS_HD static float unit_level(std::uint32_t code) {
        return code < Grid::levels ? -Codec::magnitude(Grid::levels - 1 - code) : Codec::magnitude(code - Grid::levels);
    }

    /// By what the squared errors of a sub-block count.
    QS_HD static void weights(const float* x, const float* importance, float sigma2, float* weight) {
        error_weights<sub>(x, importance, sigma2, weight);
    }
    /// Points and scale of a sub-block's magnitudes.
    QS_HD static GridFit<Grid, sub> fit(const GridSearch& search, const float* x, const float* weight) {
        const float range = largest_of<sub>(x);
        if (range < Codec::least)
            return {0, {}, true};
        return search_grid<Grid, sub>(search, x, weight, range, range / (2 * Grid::levels - 1), Codec::trials());
    }
    /// What becomes of points and signs after empty sub-blocks, of which bit s of `empty` tells.
    QS_HD static void close_gaps(std::uint32_t, std::uint8_t*) {}

private:
    /// Finds the points and signs of a sub-block and puts them.
    QS_HD static GridFit<Grid, sub> encode_sub_block(const GridSearch& search, const float* x, const float* importance,
                                                     float sigma2, std::uint32_t s, std::uint8_t* out) {
        float weight[sub], magnitudes[sub];
        std::uint32_t signs[sub / 8];
        Codec::weights(x, importance, sigma2, weight);
        for (std::uint32_t k = 0; k < sub / 8; ++k) {
            signs[k] = split_signs(x + 8 * k, magnitudes + 8 * k);
            if (Codec::even_signs)
                signs[k] = with_even_signs(signs[k], x + 8 * k, weight + 8 * k, magnitudes + 8 * k);
        }
        const GridFit<Grid, sub> fit = Codec::fit(search, magnitudes, weight);
        if (fit.empty)
            return fit;
        for (std::uint32_t k = 0; k < fit.groups; ++k)
            Codec::put_point(out, fit.groups * s + k, static_cast<std::uint32_t>(search.places[fit.points[k]]));
        for (std::uint32_t k = 0; k < sub / 8; ++k)
            Codec::put_signs(out, sub / 8 * s + k, fit.scale < 0 ? ~signs[k] & 255 : signs[k]);
        return fit;
    }
    QS_HD static void put_scales(const float* scales, float d, std::uint8_t* out) {
        const float inverse = 1 / d;
        put_half(out, float_to_fp16(d * Codec::correction));
        for (std::uint32_t s = 0; s < subs; ++s)
            Codec::put_scale(out, s, odd_scale_code(inverse, scales[s], 15));
    }

    /// Visits the weights of the group that weight j begins: rank of the magnitude, and 1 for a minus.
    template <class Visit>
    QS_HD static void for_each_entry(const std::uint8_t* in, std::uint32_t j, Visit visit) {
        const std::uint32_t point = Grid::point(Codec::index(in, j / Grid::dims));
        const std::uint32_t signs = Codec::signs(in, j / 8) >> (j % 8);
        for (std::uint32_t i = 0; i < Grid::dims; ++i)
            visit(j + i, coordinate<Grid>(point, i), signs >> i & 1U);
    }
};

/// What the three formats of iq2 share.
struct Iq2 {
    /// 8, 25, 43.
    QS_HD static float magnitude(std::uint32_t rank) { return static_cast<float>(8 + 17 * rank + rank / 2); }

    /// d·(l + ½)/4.
    QS_HD static float scale_of(const std::uint8_t* in, std::uint32_t code) {
        return fp16_to_float(half_at(in)) * (0.5F + static_cast<float>(code)) * 0.25F;
    }
};

/// iq2_xxs: sub-blocks of 32, each four indices of 8 bits, then signs and scale.
struct Iq2Xxs : SignedGridCodec<Iq2Xxs, Iq2XxsGrid, 32>, Iq2 {
    static constexpr std::uint32_t bytes = 66;
    static constexpr HalfWords half_words{0, 33};
    static constexpr bool even_signs = true, keeps_points = false;
    static constexpr float mean_squares = 1, correction = 1;

    /// The trials go about the scale of a first search, with evenly spaced magnitudes.
    QS_HD static GridFit<Iq2XxsGrid, 32> fit(const GridSearch& search, const float* x, const float* weight) {
        std::uint8_t codes[32];
        const float scale = search_positive<32>(4, x, weight, codes), range = scale * 3;
        if (range <= 0)
            return {0, {}, true};
        return search_grid<Iq2XxsGrid, 32>(search, x, weight, range, scale, {6, 0.1F, Refit::all});
    }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[2 + 8 * (k / 4) + k % 4] = static_cast<std::uint8_t>(index);
    }
    QS_HD static void put_signs(std::uint8_t* out, std::uint32_t k, std::uint32_t signs) {
        SignsAndScale::put_signs(out + 6 + 8 * (k / 4), k % 4, signs);
    }
    QS_HD static void put_scale(std::uint8_t* out, std::uint32_t s, std::uint32_t code) {
        SignsAndScale::put_scale(out + 6 + 8 * s, code);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) { return in[2 + 8 * (k / 4) + k % 4]; }
    QS_HD static std::uint32_t signs(const std::uint8_t* in, std::uint32_t k) {
        return SignsAndScale::signs(in + 6 + 8 * (k / 4), k % 4);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) {
        return scale_of(in, SignsAndScale::scale(in + 6 + 8 * s));
    }
};

/// iq2_xs: sub-blocks of 16; words of an index of 9 bits and seven signs, then nibbles of scales.
struct Iq2Xs : SignedGridCodec<Iq2Xs, Iq2XsGrid, 16>, Iq2 {
    static constexpr std::uint32_t bytes = 74;
    static constexpr HalfWords half_words{0, 33};
    static constexpr bool even_signs = true, keeps_points = false;
    static constexpr float mean_squares = 1, correction = 1, least = ggml_least_magnitude;

    QS_HD static GridTrials trials() { return {9, 0.1F, Refit::moved}; }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        or_half(out + 2 + 2 * k, index);
    }
    QS_HD static void put_signs(std::uint8_t* out, std::uint32_t k, std::uint32_t signs) {
        or_half(out + 2 + 2 * k, (signs & 127) << 9);
    }
    QS_HD static void put_scale(std::uint8_t* out, std::uint32_t s, std::uint32_t code) {
        put_nth_nibble(out + 66, s, code);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) { return half_at(in + 2 + 2 * k) & 511U; }
    QS_HD static std::uint32_t signs(const std::uint8_t* in, std::uint32_t k) {
        return SignsAndScale::with_eighth_sign(static_cast<std::uint32_t>(half_at(in + 2 + 2 * k) >> 9));
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) { return scale_of(in, nth_nibble(in + 66, s)); }
};

/// iq2_s: sub-blocks of 16; indices of 10 bits (eight in qs, two in qh), between them all signs, then nibbles of
/// scales.
struct Iq2S : SignedGridCodec<Iq2S, Iq2SGrid, 16>, Iq2 {
    static constexpr std::uint32_t bytes = 82;
    static constexpr HalfWords half_words{0, 1};
    static constexpr bool even_signs = false, keeps_points = true;
    static constexpr float mean_squares = 2, correction = 0.9875F, least = 1e-8F;

    QS_HD static GridTrials trials() { return {9, 0.1F, Refit::moved}; }

    QS_HD static void weights(const float* x, const float* importance, float sigma2, float* weight) {
        if (importance != nullptr) {
            importance_weights<16>(x, importance, sigma2, weight);
            return;
        }
        for (std::uint32_t i = 0; i < sub; ++i)
            weight[i] = 0.25F * sigma2 + x[i] * x[i];
    }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[2 + k] = static_cast<std::uint8_t>(index);
        out[66 + k / 4] = static_cast<std::uint8_t>(out[66 + k / 4] | index >> 8 << (2 * (k % 4)));
    }
    QS_HD static void put_signs(std::uint8_t* out, std::uint32_t k, std::uint32_t signs) {
        out[34 + k] = static_cast<std::uint8_t>(signs);
    }
    QS_HD static void put_scale(std::uint8_t* out, std::uint32_t s, std::uint32_t code) {
        put_nth_nibble(out + 74, s, code);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) {
        return in[2 + k] | (in[66 + k / 4] >> (2 * (k % 4)) & 3U) << 8;
    }
    QS_HD static std::uint32_t signs(const std::uint8_t* in, std::uint32_t k) { return in[34 + k]; }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) { return scale_of(in, nth_nibble(in + 74, s)); }
};

/// iq3_xxs: sub-blocks of 32; indices of 8 bits, then signs and scales; a scale is d·(l + ½)/2.
struct Iq3Xxs : SignedGridCodec<Iq3Xxs, Iq3XxsGrid, 32> {
    static constexpr std::uint32_t bytes = 98;
    static constexpr HalfWords half_words{0, 1};
    static constexpr bool even_signs = true, keeps_points = false;
    static constexpr float mean_squares = 2, correction = 1.0125F, least = 1e-8F;

    QS_HD static GridTrials trials() { return {15, 0.2F, Refit::moved}; }

    /// 4, 12, 20, … 52, and 62.
    QS_HD static float magnitude(std::uint32_t rank) { return static_cast<float>(4 + 8 * rank + rank / 7 * 2); }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[2 + k] = static_cast<std::uint8_t>(index);
    }
    QS_HD static void put_signs(std::uint8_t* out, std::uint32_t k, std::uint32_t signs) {
        SignsAndScale::put_signs(out + 66 + 4 * (k / 4), k % 4, signs);
    }
    QS_HD static void put_scale(std::uint8_t* out, std::uint32_t s, std::uint32_t code) {
        SignsAndScale::put_scale(out + 66 + 4 * s, code);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) { return in[2 + k]; }
    QS_HD static std::uint32_t signs(const std::uint8_t* in, std::uint32_t k) {
        return SignsAndScale::signs(in + 66 + 4 * (k / 4), k % 4);
    }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) {
        return fp16_to_float(half_at(in)) * (0.5F + static_cast<float>(SignsAndScale::scale(in + 66 + 4 * s))) * 0.5F;
    }
};

/// iq3_s: sub-blocks of 32; indices of 9 bits (eight in qs, one in qh), all signs, nibbles of scales; a scale is
/// d·(2·l + 1).
struct Iq3S : SignedGridCodec<Iq3S, Iq3SGrid, 32> {
    static constexpr std::uint32_t bytes = 110;
    static constexpr HalfWords half_words{0, 1};
    static constexpr bool even_signs = false, keeps_points = true;
    /// Only zeros are below the least.
    static constexpr float mean_squares = 2, correction = 1.033F, least = 0x1p-149F;

    QS_HD static GridTrials trials() { return {9, 0.2F, Refit::all_if_moved}; }

    QS_HD static float magnitude(std::uint32_t rank) { return static_cast<float>(2 * rank + 1); }

    /// The reference does not step over a sub-block of zeros: qs and signs of those after it move up, qh and the scales
    /// do not, and such a super-block is decoded to other weights.
    QS_HD static void close_gaps(std::uint32_t empty, std::uint8_t* out) {
        std::uint32_t to = 0;
        for (std::uint32_t s = 0; s < subs; ++s) {
            if ((empty >> s & 1) != 0)
                continue;
            move_bytes(out + 2, 8 * s, 8 * to, 8);
            move_bytes(out + 74, 4 * s, 4 * to, 4);
            ++to;
        }
    }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[2 + k] = static_cast<std::uint8_t>(index);
        out[66 + k / 8] = static_cast<std::uint8_t>(out[66 + k / 8] | index >> 8 << (k % 8));
    }
    QS_HD static void put_signs(std::uint8_t* out, std::uint32_t k, std::uint32_t signs) {
        out[74 + k] = static_cast<std::uint8_t>(signs);
    }
    QS_HD static void put_scale(std::uint8_t* out, std::uint32_t s, std::uint32_t code) {
        put_nth_nibble(out + 106, s, code);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) {
        return in[2 + k] | (in[66 + k / 8] >> (k % 8) & 1U) << 8;
    }
    QS_HD static std::uint32_t signs(const std::uint8_t* in, std::uint32_t k) { return in[74 + k]; }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) {
        return fp16_to_float(half_at(in)) * static_cast<float>(1 + 2 * nth_nibble(in + 106, s));
    }

private:
    /// Moves bytes towards the beginning and leaves zeros.
    QS_HD static void move_bytes(std::uint8_t* bytes, std::uint32_t from, std::uint32_t to, std::uint32_t count) {
        for (std::uint32_t i = 0; i < count && from != to; ++i) {
            bytes[to + i] = bytes[from + i];
            bytes[from + i] = 0;
        }
    }
};

// --- shifted ternary digits: iq1 ---------------------------------------------------------------------------------

/// What iq1_s and iq1_m share: x ≈ d·(2·l + 1)·(digit ± ⅛), the digits of eight weights from a grid, l of three bits.
/// The codes are the six levels. A codec adds
///
/// - least: a sub-block below this magnitude is empty
/// - split(x, weight, order)
/// - put_point and put_scales, into zeros, and what reads them back: index, minus (whether a group is shifted down),
///   scale
template <class Codec, std::uint32_t sub_>
struct TernaryGridCodec : AscendingCodes<6> {
    using SearchGrid = Iq1Grid;
    static constexpr std::uint32_t block = super_block, sub = sub_, subs = block / sub;
    static constexpr bool weighs_row = false;

    static void encode(const float* x, const BlockContext& context, std::uint8_t* out) {
        encode(grid_search<Iq1Grid>(), x, context, out);
    }
    QS_HD static void encode(const GridSearch& search, const float* x, const BlockContext& context, std::uint8_t* out) {
        const float sigma2 = 2 * sum_of_squares<256>(x) / 256;
        float scales[subs], weight[block];
        std::uint32_t shifts[subs];
        put_zeros(out, Codec::bytes);
        for (std::uint32_t s = 0; s < subs; ++s) {
            const float* importance = context.importance == nullptr ? nullptr : context.importance + sub * s;
            error_weights<sub>(x + sub * s, importance, sigma2, weight + sub * s);
            const TernaryFit<sub> fit = fit_sub_block(search, x + sub * s, weight + sub * s);
            scales[s] = fit.scale;
            shifts[s] = fit.shifts;
            if (!(scales[s] >= 0))
                return put_zeros(out, Codec::bytes);
            for (std::uint32_t k = 0; k < fit.groups && !fit.empty; ++k)
                Codec::put_point(out, fit.groups * s + k, static_cast<std::uint32_t>(search.places[fit.points[k]]));
        }
        const float largest = largest_of<subs>(scales);
        if (largest > 0)
            Codec::put_scales(x, weight, scales, largest / 15, shifts, out);
    }

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        for (std::uint32_t j = 0; j < block; j += 8) {
            const float scale = Codec::scale(in, j / sub);
            for_each_entry(in, j, [&](std::uint32_t i, std::uint32_t digit, bool minus) {
                out[i] = scale * ternary_value(digit, minus);
            });
        }
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        for (std::uint32_t j = 0; j < block; j += 8)
            for_each_entry(in, j, [&](std::uint32_t i, std::uint32_t digit, bool minus) {
                out[i] = static_cast<std::uint16_t>(2 * digit + (minus ? 0 : 1));
            });
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t j, std::uint32_t code) {
        return Codec::scale(in, j / sub) * unit_level(code);
    }
    QS_HD static float unit_level(std::uint32_t code) { return ternary_value(code / 2, code % 2 == 0); }

private:
    QS_HD static TernaryFit<sub> fit_sub_block(const GridSearch& search, const float* x, const float* weight) {
        TernaryFit<sub> nothing;
        nothing.empty = true;
        if (largest_magnitude<sub>(x) < Codec::least)
            return nothing;
        std::uint8_t order[sub];
        sort_ascending<sub>(x, order);
        const TernarySplit split = Codec::split(x, weight, order);
        return split.found ? ternary_fit<sub>(search, x, weight, order, split) : nothing;
    }

    /// Visits the weights of the group that weight j begins: its digit, and whether it is shifted down.
    template <class Visit>
    QS_HD static void for_each_entry(const std::uint8_t* in, std::uint32_t j, Visit visit) {
        const std::uint32_t point = Iq1Grid::point(Codec::index(in, j / 8));
        const bool minus = Codec::minus(in, j / 8);
        for (std::uint32_t i = 0; i < 8; ++i)
            visit(j + i, coordinate<Iq1Grid>(point, i), minus);
    }
};

/// iq1_s: sub-blocks of 32; indices of 11 bits, eight in qs and three in the sub-block's word, which has its scale and
/// shift too.
struct Iq1S : TernaryGridCodec<Iq1S, 32> {
    static constexpr std::uint32_t bytes = 50;
    static constexpr HalfWords half_words{0, 1, 34, 8};
    static constexpr float least = 1e-12F;

    QS_HD static TernarySplit split(const float* x, const float* weight, const std::uint8_t* order) {
        return split_with_one_shift(x, weight, order);
    }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[2 + k] = static_cast<std::uint8_t>(index);
        or_half(out + 34 + 2 * (k / 4), index >> 8 << (3 * (k % 4)));
    }
    QS_HD static void put_scales(const float*, const float*, const float* scales, float d, const std::uint32_t* shifts,
                                 std::uint8_t* out) {
        const float inverse = 1 / d;
        put_half(out, float_to_fp16(d * 1.125F));
        for (std::uint32_t s = 0; s < subs; ++s)
            or_half(out + 34 + 2 * s, (odd_scale_code(inverse, scales[s], 7) | (shifts[s] & 1) << 3) << 12);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) {
        return in[2 + k] | (half_at(in + 34 + 2 * (k / 4)) >> (3 * (k % 4)) & 7U) << 8;
    }
    QS_HD static bool minus(const std::uint8_t* in, std::uint32_t k) { return in[35 + 2 * (k / 4)] >> 7 != 0; }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) {
        return fp16_to_float(half_at(in)) * static_cast<float>(2 * (in[35 + 2 * s] >> 4 & 7) + 1);
    }
};

/// iq1_m: sub-blocks of 16; indices of 11 bits, eight in qs and three in a nibble of qh, which has the group's shift
/// too; four words with the scales of four sub-blocks and a quarter of d each.
struct Iq1M : TernaryGridCodec<Iq1M, 16> {
    static constexpr std::uint32_t bytes = 56;
    static constexpr HalfWords half_words{48, 4};
    static constexpr float least = 1e-7F;

    QS_HD static TernarySplit split(const float* x, const float* weight, const std::uint8_t* order) {
        return split_with_two_shifts(x, weight, order);
    }

    QS_HD static void put_point(std::uint8_t* out, std::uint32_t k, std::uint32_t index) {
        out[k] = static_cast<std::uint8_t>(index);
        put_nth_nibble(out + 32, k, index >> 8);
    }
    /// In the end d is what fits all codes best.
    QS_HD static void put_scales(const float* x, const float* weight, const float* scales, float d,
                                 const std::uint32_t* shifts, std::uint8_t* out) {
        const float inverse = 1 / d;
        for (std::uint32_t s = 0; s < subs; ++s) {
            or_half(out + 48 + 2 * (s / 4), odd_scale_code(inverse, scales[s], 7) << (3 * (s % 4)));
            for (std::uint32_t k = 0; k < 2; ++k)
                put_nth_nibble(out + 32, 2 * s + k, (shifts[s] >> k & 1) << 3);
        }
        const std::uint32_t stored = float_to_fp16(best_scale(x, weight, d, out) * 1.1125F);
        for (std::uint32_t word = 0; word < 4; ++word)
            or_half(out + 48 + 2 * word, (stored >> (4 * word) & 15) << 12);
    }
    QS_HD static std::uint32_t index(const std::uint8_t* in, std::uint32_t k) {
        return in[k] | (nth_nibble(in + 32, k) & 7U) << 8;
    }
    QS_HD static bool minus(const std::uint8_t* in, std::uint32_t k) { return nth_nibble(in + 32, k) >> 3 != 0; }
    QS_HD static float scale(const std::uint8_t* in, std::uint32_t s) {
        std::uint32_t d = 0;
        for (std::uint32_t word = 0; word < 4; ++word)
            d |= static_cast<std::uint32_t>(in[49 + 2 * word] >> 4) << (4 * word);
        return fp16_to_float(static_cast<std::uint16_t>(d)) * odd_scale(in, s);
    }

private:
    QS_HD static float odd_scale(const std::uint8_t* in, std::uint32_t s) {
        return static_cast<float>(2 * (half_at(in + 48 + 2 * (s / 4)) >> (3 * (s % 4)) & 7) + 1);
    }
    /// The least-squares d for the points and scales in `out`, or `otherwise`.
    QS_HD static float best_scale(const float* x, const float* weight, float otherwise, const std::uint8_t* out) {
        float sum_qx = 0, sum_q2 = 0;
        for (std::uint32_t j = 0; j < block; ++j) {
            const std::uint32_t point = Iq1Grid::point(index(out, j / 8));
            const float q =
                ternary_value(coordinate<Iq1Grid>(point, j % 8), minus(out, j / 8)) * odd_scale(out, j / sub);
            sum_qx += weight[j] * q * x[j];
            sum_q2 += weight[j] * q * q;
        }
        return sum_q2 > 0 ? sum_qx / sum_q2 : otherwise;
    }
};

} // namespace qs
