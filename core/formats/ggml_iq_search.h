#pragma once

#include <cfloat>

#include "core/formats/ggml_iq_tables.h"
#include "core/formats/ggml_search.h"

/// How ggml searches for the points of its codebook formats and for the scale of a sub-block. Own wording of the
/// functions of ggml-org/ggml src/ggml-quants.c at d99724f2 that are named beside each; every sum runs from left to
/// right in float32, as there.
namespace qs {

/// What no packed point is.
inline constexpr std::uint32_t no_point = 0xFFFF;

/// Of the neighbours of a point off the grid the one with the least Σ weight·(scale·value − x)², value being that of
/// the coordinate; no_point where no error is finite (`iq2_find_best_neighbour`, `iq3_…`, `iq1_find_best_neighbour2`).
template <class Grid>
QS_HD std::uint32_t best_neighbour(const GridSearch& search, std::uint32_t point, const float* values, const float* x,
                                   const float* weight, float scale) {
    constexpr std::uint32_t span = 1U << Grid::bits;
    float errors[Grid::dims * span];
    for (std::uint32_t i = 0; i < Grid::dims; ++i)
        for (std::uint32_t level = 0; level < span; ++level) {
            const float difference = scale * values[level] - x[i];
            errors[i * span + level] = weight[i] * difference * difference;
        }
    const std::uint16_t* neighbours = search.neighbours + (-1 - search.places[point]);
    const std::uint32_t count = *neighbours++;
    std::uint32_t best = no_point;
    float least = FLT_MAX;
    for (std::uint32_t n = 0; n < count; ++n) {
        float error = 0;
        for (std::uint32_t i = 0; i < Grid::dims; ++i)
            error += errors[i * span + coordinate<Grid>(neighbours[n], i)];
        if (error < least) {
            least = error;
            best = neighbours[n];
        }
    }
    return best;
}

/// The scale of a sub-block and the packed points of its groups.
template <class Grid, int n>
struct GridFit {
    static constexpr std::uint32_t groups = n / Grid::dims;
    float scale = 0; ///< NaN where the reference aborts
    std::uint16_t points[groups] = {};
    bool empty = false; ///< the sub-block is too small for a scale: neither points nor signs are stored
};

template <int n>
QS_HD float largest_of(const float* x) {
    float largest = x[0];
    for (int i = 1; i < n; ++i)
        largest = largest > x[i] ? largest : x[i];
    return largest;
}

// --- magnitudes and signs: iq2, iq3 ------------------------------------------------------------------------------

/// The signs of eight weights, bit i set for a minus, and their magnitudes.
QS_HD inline std::uint32_t split_signs(const float* x, float* magnitudes) {
    std::uint32_t signs = 0;
    for (std::uint32_t i = 0; i < 8; ++i) {
        const bool minus = !(x[i] >= 0);
        magnitudes[i] = minus ? -x[i] : x[i];
        signs |= (minus ? 1U : 0U) << i;
    }
    return signs;
}

/// Whether an odd number of the eight bits is set.
QS_HD inline bool odd_bits(std::uint32_t byte) {
    return (0x6996U >> ((byte ^ byte >> 4) & 15) & 1U) != 0;
}

/// Makes the number of minus signs even, so that seven tell the eighth: the weight that counts least changes its sign,
/// which leaves it a negative magnitude.
QS_HD inline std::uint32_t with_even_signs(std::uint32_t signs, const float* x, const float* weight,
                                           float* magnitudes) {
    if (!odd_bits(signs))
        return signs;
    std::uint32_t least = 0;
    for (std::uint32_t i = 1; i < 8; ++i)
        if (weight[i] * x[i] * x[i] < weight[least] * x[least] * x[least])
            least = i;
    magnitudes[least] = -magnitudes[least];
    return signs ^ 1U << least;
}

/// What a search takes a coordinate to be: scale·(2·l + 1).
struct OddValues {
    float value[8] = {1, 3, 5, 7, 9, 11, 13, 15};
};

/// The point that a group rounds to, or of its neighbours the best; no_point as best_neighbour().
template <class Grid>
QS_HD std::uint32_t nearest_point(const GridSearch& search, const float* x, const float* weight, float inverse,
                                  float scale, bool& moved) {
    std::uint32_t point = 0;
    for (std::uint32_t i = 0; i < Grid::dims; ++i) {
        const std::int32_t level = clamp_int(ggml_nearest(0.5F * (inverse * x[i] - 1)), 0, Grid::levels - 1);
        point |= static_cast<std::uint32_t>(level) << (Grid::bits * i);
    }
    moved = search.places[point] < 0;
    return moved ? best_neighbour<Grid>(search, point, OddValues{}.value, x, weight, scale) : point;
}

/// Σ weight·x·q and Σ weight·q² of a sub-block at its points.
struct GridSums {
    float qx = 0, q2 = 0;
};
template <class Grid, int n>
QS_HD GridSums grid_sums(const std::uint16_t* points, const float* x, const float* weight) {
    GridSums sums;
    for (std::uint32_t i = 0; i < n; ++i) {
        const auto q = static_cast<float>(2 * coordinate<Grid>(points[i / Grid::dims], i % Grid::dims) + 1);
        sums.qx += weight[i] * x[i] * q;
        sums.q2 += weight[i] * q * q;
    }
    return sums;
}

/// Which groups find their points again at the scale that was found.
enum class Refit : std::uint8_t {
    moved,        ///< those that had to move to a neighbour
    all_if_moved, ///< all, if one had to move or no trial was any good
    all
};

/// Which scales a search tries: range / (2·levels − 1 + i·step), i = −reach … reach.
struct GridTrials {
    int reach;
    float step;
    Refit refit;
};

/// Points again at the scale of a fit, and then the scale for them.
template <class Grid, int n>
QS_HD void refit_grid(const GridSearch& search, const float* x, const float* weight, const float* root_weight,
                      Refit refit, const bool* again, GridFit<Grid, n>& fit) {
    bool any = false;
    for (std::uint32_t k = 0; k < fit.groups; ++k)
        any = any || again[k];
    if (!any || !(fit.scale > 0))
        return;
    for (std::uint32_t k = 0; k < fit.groups; ++k) {
        if (!again[k] && refit == Refit::moved)
            continue;
        const std::uint32_t from = Grid::dims * k;
        bool moved;
        const std::uint32_t point =
            nearest_point<Grid>(search, x + from, root_weight + from, 1 / fit.scale, fit.scale, moved);
        if (point == no_point) {
            fit.scale = NAN;
            return;
        }
        fit.points[k] = static_cast<std::uint16_t>(point);
    }
    const GridSums sums = grid_sums<Grid, n>(fit.points, x, weight);
    if (sums.q2 > 0)
        fit.scale = sums.qx / sums.q2;
}

/// Points and a scale for x, which are magnitudes but for the signs made even: of several trials the one that leaves
/// the least weighted squared error, each with the best scale for its points (the middle of `quantize_row_iq2_xs_impl`
/// and the others of iq2 and iq3). Neighbours are chosen by the root of the weight. `scale` stays where no trial is any
/// good; it may come out negative.
template <class Grid, int n>
QS_HD GridFit<Grid, n> search_grid(const GridSearch& search, const float* x, const float* weight, float range,
                                   float scale, const GridTrials& trials) {
    GridFit<Grid, n> fit;
    fit.scale = scale;
    bool again[fit.groups];
    for (bool& group : again)
        group = trials.refit != Refit::moved;
    float root_weight[n];
    for (int i = 0; i < n; ++i)
        root_weight[i] = sqrtf(weight[i]);
    float best = 0;
    for (int trial = -trials.reach; trial <= trials.reach; ++trial) {
        const float inverse =
            (static_cast<float>(2 * Grid::levels - 1) + static_cast<float>(trial) * trials.step) / range;
        std::uint16_t points[fit.groups];
        bool moved[fit.groups];
        for (std::uint32_t k = 0; k < fit.groups; ++k) {
            const std::uint32_t from = Grid::dims * k;
            const std::uint32_t point =
                nearest_point<Grid>(search, x + from, root_weight + from, inverse, 1 / inverse, moved[k]);
            if (point == no_point)
                return {NAN};
            points[k] = static_cast<std::uint16_t>(point);
        }
        const GridSums sums = grid_sums<Grid, n>(points, x, weight);
        if (!(sums.q2 > 0 && sums.qx * sums.qx > best * sums.q2))
            continue;
        fit.scale = sums.qx / sums.q2;
        best = fit.scale * sums.qx;
        for (std::uint32_t k = 0; k < fit.groups; ++k) {
            fit.points[k] = points[k];
            again[k] = moved[k] || trials.refit == Refit::all;
        }
    }
    refit_grid(search, x, weight, root_weight, trials.refit, again, fit);
    return fit;
}

// --- shifted ternary digits: iq1 ---------------------------------------------------------------------------------

/// A level of iq1: −1, 0 or 1, shifted with its group (IQ1S_DELTA, IQ1M_DELTA).
QS_HD inline float ternary_value(std::uint32_t digit, bool minus) {
    return static_cast<float>(digit) - 1 + (minus ? -0.125F : 0.125F);
}

/// The order of ascending values; equal ones keep theirs.
template <int n>
QS_HD void sort_ascending(const float* x, std::uint8_t* order) {
    for (int i = 0; i < n; ++i) {
        int at = i;
        for (; at > 0 && x[order[at - 1]] > x[i]; --at)
            order[at] = order[at - 1];
        order[at] = static_cast<std::uint8_t>(i);
    }
}

/// Sorted weights divided into −1, 0 and 1, with the best scale.
struct TernarySplit {
    std::uint32_t zero = 0, one = 0; ///< ranks from which on it is 0, and 1
    std::uint32_t shifts = 0;        ///< bit k: the levels of group k are shifted down
    float scale = 0, score = -FLT_MAX;
    bool found = false;

    /// Takes a split that leaves less error, given Σ weight·value·x and Σ weight·value².
    QS_HD void offer(float qx, float q2, std::uint32_t zero_from, std::uint32_t one_from, std::uint32_t with_shifts) {
        if (!(q2 > 0 && qx * qx > score * q2))
            return;
        scale = qx / q2;
        score = scale * qx;
        zero = zero_from;
        one = one_from;
        shifts = with_shifts;
        found = true;
    }
};

/// The best split of 32 weights whose groups have the same shift: differences of running sums give each
/// (`quantize_row_iq1_s_impl`).
QS_HD inline TernarySplit split_with_one_shift(const float* x, const float* weight, const std::uint8_t* order) {
    constexpr std::uint32_t n = 32;
    float sum_x[n + 1], sum_w[n + 1];
    sum_x[0] = sum_w[0] = 0;
    for (std::uint32_t rank = 0; rank < n; ++rank) {
        const std::uint32_t i = order[rank];
        sum_x[rank + 1] = sum_x[rank] + weight[i] * x[i];
        sum_w[rank + 1] = sum_w[rank] + weight[i];
    }
    TernarySplit split;
    for (std::uint32_t zero = 0; zero <= n; ++zero) {
        float qx[2][n + 1], q2[2][n + 1];
        for (std::uint32_t shift = 0; shift < 2; ++shift) {
            const float low = ternary_value(0, shift != 0), middle = ternary_value(1, shift != 0),
                        high = ternary_value(2, shift != 0);
            for (std::uint32_t one = zero; one <= n; ++one) {
                qx[shift][one] = (sum_x[zero] - sum_x[0]) * low + (sum_x[one] - sum_x[zero]) * middle +
                                 (sum_x[n] - sum_x[one]) * high;
                q2[shift][one] = (sum_w[zero] - sum_w[0]) * low * low + (sum_w[one] - sum_w[zero]) * middle * middle +
                                 (sum_w[n] - sum_w[one]) * high * high;
            }
        }
        for (std::uint32_t one = zero; one <= n; ++one) {
            split.offer(qx[0][one], q2[0][one], zero, one, 0);
            split.offer(qx[1][one], q2[1][one], zero, one, 15);
        }
    }
    return split;
}

/// Σ weight·value·x, then Σ weight·value², for each pair of shifts of two groups: none, the second, the first, both.
struct ShiftPairSums {
    float lane[8] = {};

    QS_HD void add(const ShiftPairSums& terms) {
        for (int i = 0; i < 8; ++i)
            lane[i] += terms.lane[i];
    }
};

/// What a weight adds to them.
QS_HD inline ShiftPairSums shift_pair_terms(std::uint32_t digit, bool second_group, float x, float weight) {
    ShiftPairSums terms;
    for (std::uint32_t pair = 0; pair < 4; ++pair) {
        const float value = ternary_value(digit, (second_group ? pair & 1 : pair >> 1) != 0);
        terms.lane[pair] = weight * value * x;
        terms.lane[4 + pair] = weight * value * value;
    }
    return terms;
}

/// The best split of 16 weights whose two groups have each their shift. The sums of a split run through all weights in
/// their order; splits that begin alike share the beginning (`quantize_row_iq1_m_impl`).
QS_HD inline TernarySplit split_with_two_shifts(const float* x, const float* weight, const std::uint8_t* order) {
    constexpr std::uint32_t n = 16;
    ShiftPairSums terms[3][n];
    for (std::uint32_t digit = 0; digit < 3; ++digit)
        for (std::uint32_t rank = 0; rank < n; ++rank) {
            const std::uint32_t i = order[rank];
            terms[digit][rank] = shift_pair_terms(digit, i >= 8, x[i], weight[i]);
        }
    TernarySplit split;
    ShiftPairSums before_zero;
    for (std::uint32_t zero = 0; zero <= n; ++zero) {
        ShiftPairSums before_one = before_zero;
        for (std::uint32_t one = zero; one <= n; ++one) {
            ShiftPairSums sums = before_one;
            for (std::uint32_t rank = one; rank < n; ++rank)
                sums.add(terms[2][rank]);
            for (std::uint32_t pair = 0; pair < 4; ++pair)
                split.offer(sums.lane[pair], sums.lane[4 + pair], zero, one, pair >> 1 | (pair & 1) << 1);
            if (one < n)
                before_one.add(terms[1][one]);
        }
        if (zero < n)
            before_zero.add(terms[0][zero]);
    }
    return split;
}

template <int n>
struct TernaryFit : GridFit<Iq1Grid, n> {
    std::uint32_t shifts = 0; ///< as in TernarySplit
};

/// The digits of a split as packed points; a negative scale turns them and the shifts round.
template <int n>
QS_HD TernaryFit<n> unmoved_fit(const std::uint8_t* order, const TernarySplit& split) {
    const bool negative = split.scale < 0;
    TernaryFit<n> fit;
    fit.scale = negative ? -split.scale : split.scale;
    fit.shifts = negative ? ~split.shifts & ((1U << fit.groups) - 1) : split.shifts;
    for (std::uint32_t rank = 0; rank < n; ++rank) {
        const std::uint32_t digit = rank < split.zero ? 0 : rank < split.one ? 1 : 2, i = order[rank];
        const std::uint32_t bits = (negative ? 2 - digit : digit) << (2 * (i % 8));
        fit.points[i / 8] = static_cast<std::uint16_t>(fit.points[i / 8] | bits);
    }
    return fit;
}

/// Moves a split to the grid and, where that changed it, fits the scale again.
template <int n>
QS_HD TernaryFit<n> ternary_fit(const GridSearch& search, const float* x, const float* weight,
                                const std::uint8_t* order, const TernarySplit& split) {
    TernaryFit<n> fit = unmoved_fit<n>(order, split);
    const auto value = [&](std::uint32_t digit, std::uint32_t k) {
        return ternary_value(digit, (fit.shifts >> k & 1) != 0);
    };
    bool moved = false;
    for (std::uint32_t k = 0; k < fit.groups; ++k) {
        if (search.places[fit.points[k]] >= 0)
            continue;
        const float values[4] = {value(0, k), value(1, k), value(2, k)};
        const std::uint32_t point =
            best_neighbour<Iq1Grid>(search, fit.points[k], values, x + 8 * k, weight + 8 * k, fit.scale);
        if (point == no_point) {
            fit.scale = NAN;
            return fit;
        }
        fit.points[k] = static_cast<std::uint16_t>(point);
        moved = true;
    }
    if (!moved)
        return fit;
    float sum_qx = 0, sum_q2 = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
        const float q = value(coordinate<Iq1Grid>(fit.points[i / 8], i % 8), i / 8);
        sum_qx += weight[i] * q * x[i];
        sum_q2 += weight[i] * q * q;
    }
    if (sum_qx > 0 && sum_q2 > 0)
        fit.scale = sum_qx / sum_q2;
    return fit;
}

} // namespace qs
