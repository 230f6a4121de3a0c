#include "core/formats/simd/errors.h"

#include <algorithm>
#include <array>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/errors.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// One definition for all targets.
#ifndef QUANTOSCOPE_ERRORS_LANES
#define QUANTOSCOPE_ERRORS_LANES
namespace qs::simd {

/// Independent sums, so that additions need not wait for each other; their number fixes the order of the additions and
/// with it the last bits of a result.
inline constexpr std::size_t sums_at_once = 16;

/// Sums of the pairs i, i + 16, i + 32, …
struct LaneSums {
    alignas(64) std::array<double, sums_at_once> w2{}, v2{}, d2{}, d{}, largest{};
};

inline double total(const std::array<double, sums_at_once>& lanes) {
    std::array<double, sums_at_once> sums = lanes;
    for (std::size_t half = sums_at_once / 2; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i)
            sums[i] += sums[i + half];
    return sums[0];
}

} // namespace qs::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

bool all_finite(const float* values, std::size_t count) {
    const hn::ScalableTag<float> f;
    std::size_t i = 0;
    auto finite = hn::Eq(hn::Zero(f), hn::Zero(f));
    for (; i + hn::Lanes(f) <= count; i += hn::Lanes(f))
        finite = hn::And(finite, hn::IsFinite(hn::LoadU(f, values + i)));
    bool all = hn::AllTrue(f, finite);
    for (; i < count; ++i)
        all = all && std::isfinite(values[i]);
    return all;
}

/// Sums over the first `count` pairs, a multiple of sums_at_once.
void add_pairs(const float* weights, const float* decoded, std::size_t count, LaneSums& sums) {
    const hn::CappedTag<double, sums_at_once> d;
    const hn::Rebind<float, decltype(d)> f;
    constexpr std::size_t lanes = hn::MaxLanes(d);
    for (std::size_t lane = 0; lane < sums_at_once; lane += lanes) {
        auto w2 = hn::Zero(d), v2 = w2, d2 = w2, sum = w2, largest = w2;
        for (std::size_t i = lane; i < count; i += sums_at_once) {
            const auto w = hn::PromoteTo(d, hn::LoadU(f, weights + i)), v = hn::PromoteTo(d, hn::LoadU(f, decoded + i));
            const auto difference = hn::Sub(v, w);
            // Products of two float32 are exact, so that it does not matter whether they are fused; those of
            // differences are not, and are rounded on every machine.
            w2 = hn::MulAdd(w, w, w2);
            v2 = hn::MulAdd(v, v, v2);
            d2 = hn::Add(d2, hn::Mul(difference, difference));
            sum = hn::Add(sum, difference);
            largest = hn::Max(largest, hn::Abs(difference));
        }
        hn::Store(w2, d, &sums.w2[lane]);
        hn::Store(v2, d, &sums.v2[lane]);
        hn::Store(d2, d, &sums.d2[lane]);
        hn::Store(sum, d, &sums.d[lane]);
        hn::Store(largest, d, &sums.largest[lane]);
    }
}

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

HWY_EXPORT(all_finite);
HWY_EXPORT(add_pairs);

namespace {

std::size_t first_with_error(const float* weights, const float* decoded, std::size_t count, double error) {
    for (std::size_t i = 0; i < count; ++i)
        if (std::abs(static_cast<double>(decoded[i]) - static_cast<double>(weights[i])) == error)
            return i;
    return 0;
}

} // namespace

bool add_finite_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count,
                       ErrorSums& sums) {
    if (!HWY_DYNAMIC_DISPATCH(all_finite)(weights, count) || !HWY_DYNAMIC_DISPATCH(all_finite)(decoded, count))
        return false;
    const std::size_t whole = count / sums_at_once * sums_at_once;
    LaneSums lanes;
    HWY_DYNAMIC_DISPATCH(add_pairs)(weights, decoded, whole, lanes);
    for (std::size_t i = whole; i < count; ++i) {
        const double w = weights[i], v = decoded[i], difference = v - w;
        lanes.w2[i - whole] += w * w;
        lanes.v2[i - whole] += v * v;
        lanes.d2[i - whole] += difference * difference;
        lanes.d[i - whole] += difference;
        lanes.largest[i - whole] = std::max(lanes.largest[i - whole], std::abs(difference));
    }
    sums.count += count;
    sums.sum_w2 += total(lanes.w2);
    sums.sum_v2 += total(lanes.v2);
    sums.sum_d2 += total(lanes.d2);
    sums.sum_d += total(lanes.d);
    const double largest = *std::ranges::max_element(lanes.largest);
    if (largest > sums.max_abs) {
        sums.max_abs = largest;
        sums.max_index = begin + first_with_error(weights, decoded, count, largest);
    }
    return true;
}

} // namespace qs::simd
#endif
