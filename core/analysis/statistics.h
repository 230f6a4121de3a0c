#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/analysis/report.h"
#include "core/base/hd.h"

namespace qs {

/// Central moments and counts of a run of weights, float64. A monoid: parts merge in the order of the tensor
/// (Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
/// moments", SAND2008-6212). NaN and Inf are counted and left out.
struct Moments {
    std::uint64_t n = 0; ///< finite weights
    std::uint64_t zeros = 0, nan = 0, inf = 0;
    double mean = 0;
    double m2 = 0, m3 = 0, m4 = 0; ///< Σ(w − mean)^k
    double min = INFINITY, max = -INFINITY;

    QS_HD void merge(const Moments& later) {
        zeros += later.zeros;
        nan += later.nan;
        inf += later.inf;
        min = later.min < min ? later.min : min;
        max = later.max > max ? later.max : max;
        if (later.n == 0)
            return;
        const double na = static_cast<double>(n), nb = static_cast<double>(later.n), total = na + nb;
        const double delta = later.mean - mean;
        const double step = delta / total;
        const double ab = na * nb;
        m4 += later.m4 + delta * step * step * step * ab * (na * na - ab + nb * nb) +
              6 * step * step * (na * na * later.m2 + nb * nb * m2) + 4 * step * (na * later.m3 - nb * m3);
        m3 += later.m3 + delta * step * step * ab * (na - nb) + 3 * step * (na * later.m2 - nb * m2);
        m2 += later.m2 + delta * step * ab;
        mean += step * nb;
        n += later.n;
    }

    /// Of the population; NaN where no weight is finite.
    QS_HD double standard_deviation() const { return sqrt(m2 / static_cast<double>(n)); }
};

/// Moments of a run that fits the cache: its mean first, then the powers about it.
Moments moments_of(std::span<const float> weights);

/// How many finite weights lie further than `distance` from `centre`.
std::uint64_t count_beyond(std::span<const float> weights, double centre, double distance);

/// Statistics without the σ counts, which need another look at the weights.
Statistics finish(const Moments& moments);

/// How many bit patterns a 16-bit type has.
inline constexpr std::size_t pattern_count = 65536;

/// Whether a tensor's statistics come from counts of its bit patterns: part of the definition of a result, so it is the
/// same on every device.
bool counts_patterns(DType dtype, bool byte_swapped, std::uint64_t elements);

/// Statistics, σ counts included, of a 16-bit type from how often each bit pattern occurs.
/// `dtype` is f16 or bf16.
Statistics statistics_of_patterns(std::span<const std::uint64_t> counts, DType dtype);

/// Σw² of the finite ones among them.
double sum_of_squares(std::span<const std::uint64_t> counts, DType dtype);

} // namespace qs
