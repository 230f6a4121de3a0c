#include "core/analysis/statistics.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/half.h"

namespace qs {

namespace {

/// Independent accumulators, so that the additions of a run need not wait for each other. The number is part of the
/// definition of the result: it fixes the order of the additions.
constexpr std::size_t lanes = 8;
using Lanes = std::array<double, lanes>;

double total(const Lanes& lane) {
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

/// The first look at a run: what is needed before powers about the mean can be taken.
struct FirstLook {
    Lanes sum{};
    std::uint64_t zeros = 0, nonfinite = 0;
    float min = std::numeric_limits<float>::infinity();
    float max = -std::numeric_limits<float>::infinity();

    void add(float w, std::size_t lane) {
        const bool finite = std::abs(w) <= std::numeric_limits<float>::max();
        const float kept = finite ? w : 0.0F;
        sum[lane] += kept;
        zeros += w == 0.0F;
        nonfinite += !finite;
        min = finite && w < min ? w : min;
        max = finite && w > max ? w : max;
    }
};

FirstLook first_look(std::span<const float> weights) {
    FirstLook look;
    std::size_t i = 0;
    for (; i + lanes <= weights.size(); i += lanes)
        for (std::size_t k = 0; k < lanes; ++k)
            look.add(weights[i + k], k);
    for (; i < weights.size(); ++i)
        look.add(weights[i], i % lanes);
    return look;
}

struct Powers {
    Lanes second{}, third{}, fourth{};

    void add(float w, double mean, std::size_t lane) {
        const bool finite = std::abs(w) <= std::numeric_limits<float>::max();
        const double d = finite ? static_cast<double>(w) - mean : 0.0;
        const double d2 = d * d;
        second[lane] += d2;
        third[lane] += d2 * d;
        fourth[lane] += d2 * d2;
    }
};

} // namespace

Moments moments_of(std::span<const float> weights) {
    const FirstLook look = first_look(weights);
    Moments result;
    result.zeros = look.zeros;
    if (look.nonfinite > 0)
        for (const float w : weights) {
            result.nan += std::isnan(w);
            result.inf += std::isinf(w);
        }
    result.n = weights.size() - look.nonfinite;
    if (result.n == 0)
        return result;
    result.min = look.min;
    result.max = look.max;
    result.mean = total(look.sum) / static_cast<double>(result.n);
    Powers powers;
    std::size_t i = 0;
    for (; i + lanes <= weights.size(); i += lanes)
        for (std::size_t k = 0; k < lanes; ++k)
            powers.add(weights[i + k], result.mean, k);
    for (; i < weights.size(); ++i)
        powers.add(weights[i], result.mean, i % lanes);
    result.m2 = total(powers.second);
    result.m3 = total(powers.third);
    result.m4 = total(powers.fourth);
    return result;
}

std::uint64_t count_beyond(std::span<const float> weights, double centre, double distance) {
    std::uint64_t beyond = 0;
    for (const float w : weights) {
        const bool finite = std::abs(w) <= std::numeric_limits<float>::max();
        beyond += finite && std::abs(static_cast<double>(w) - centre) > distance;
    }
    return beyond;
}

Statistics finish(const Moments& moments) {
    Statistics result;
    result.count = moments.n + moments.nan + moments.inf;
    result.zeros = moments.zeros;
    result.nan = moments.nan;
    result.inf = moments.inf;
    if (moments.n == 0) {
        const double undefined = std::numeric_limits<double>::quiet_NaN();
        result.min = result.max = result.mean = result.std = result.skewness = result.excess_kurtosis = undefined;
        return result;
    }
    const double n = static_cast<double>(moments.n);
    const double variance = moments.m2 / n;
    result.min = moments.min;
    result.max = moments.max;
    result.mean = moments.mean;
    result.std = moments.standard_deviation();
    // A constant tensor has no shape: 0/0 is reported as NaN, not as a normal distribution's 0.
    result.skewness = moments.m3 / n / (variance * result.std);
    result.excess_kurtosis = moments.m4 / n / (variance * variance) - 3;
    return result;
}

namespace {

double pattern_value(std::uint32_t pattern, DType dtype) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    return dtype == DType::bf16 ? bf16_to_float(bits) : fp16_to_float(bits);
}

} // namespace

bool counts_patterns(DType dtype, bool byte_swapped, std::uint64_t elements) {
    constexpr std::uint64_t worth_it_from = std::uint64_t{1} << 19;
    return (dtype == DType::bf16 || dtype == DType::f16) && !byte_swapped && elements >= worth_it_from;
}

Statistics statistics_of_patterns(std::span<const std::uint64_t> counts, DType dtype) {
    Moments moments;
    double sum = 0;
    std::vector<std::pair<double, std::uint64_t>> present;
    for (std::uint32_t pattern = 0; pattern < counts.size(); ++pattern) {
        if (counts[pattern] == 0)
            continue;
        const double value = pattern_value(pattern, dtype);
        if (std::isnan(value)) {
            moments.nan += counts[pattern];
        } else if (std::isinf(value)) {
            moments.inf += counts[pattern];
        } else {
            moments.n += counts[pattern];
            moments.zeros += value == 0 ? counts[pattern] : 0;
            moments.min = std::min(moments.min, value);
            moments.max = std::max(moments.max, value);
            sum += value * static_cast<double>(counts[pattern]);
            present.emplace_back(value, counts[pattern]);
        }
    }
    if (moments.n > 0)
        moments.mean = sum / static_cast<double>(moments.n);
    for (const auto& [value, count] : present) {
        const double d = value - moments.mean, d2 = d * d, c = static_cast<double>(count);
        moments.m2 += c * d2;
        moments.m3 += c * d2 * d;
        moments.m4 += c * d2 * d2;
    }
    Statistics result = finish(moments);
    for (const auto& [value, count] : present) {
        const double distance = std::abs(value - result.mean);
        result.beyond_3_sigma += distance > 3 * result.std ? count : 0;
        result.beyond_6_sigma += distance > 6 * result.std ? count : 0;
    }
    return result;
}

double sum_of_squares(std::span<const std::uint64_t> counts, DType dtype) {
    double sum = 0;
    for (std::uint32_t pattern = 0; pattern < counts.size(); ++pattern) {
        const double value = counts[pattern] == 0 ? 0 : pattern_value(pattern, dtype);
        if (std::isfinite(value))
            sum += value * value * static_cast<double>(counts[pattern]);
    }
    return sum;
}

} // namespace qs
