#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/analysis/report.h"

namespace qs {

/// Central moments and counts of a run of weights, float64. A monoid: parts merge in the order of the tensor
/// (Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
/// moments", SAND2008-6212). NaN and Inf are counted and left out.
struct Moments {
    std::uint64_t n = 0; ///< finite weights
    std::uint64_t zeros = 0, nan = 0, inf = 0;
    double mean = 0;
    double m2 = 0, m3 = 0, m4 = 0; ///< Σ(w − mean)^k
    double min = std::numeric_limits<double>::infinity();
    double max = -std::numeric_limits<double>::infinity();

    void merge(const Moments& later);
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
