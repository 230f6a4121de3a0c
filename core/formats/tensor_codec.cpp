#include "core/formats/tensor_codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/base/half.h"

namespace qs {

Codebook halfway_codebook(std::vector<Level> levels) {
    Codebook codebook{std::move(levels), {}};
    std::sort(codebook.levels.begin(), codebook.levels.end(), [](const Level& a, const Level& b) {
        return a.value < b.value || (a.value == b.value && a.code > b.code);
    });
    for (std::size_t i = 1; i < codebook.levels.size(); ++i)
        codebook.boundaries.push_back((codebook.levels[i - 1].value + codebook.levels[i].value) / 2);
    return codebook;
}

void ErrorSums::merge(const ErrorSums& later) {
    count += later.count;
    nonfinite += later.nonfinite;
    sum_w2 += later.sum_w2;
    sum_v2 += later.sum_v2;
    sum_d2 += later.sum_d2;
    sum_d += later.sum_d;
    if (later.max_abs > max_abs) {
        max_abs = later.max_abs;
        max_index = later.max_index;
    }
}

void ErrorSums::complete(double all_w2) {
    sum_v2 += all_w2 - sum_w2;
    sum_w2 = all_w2;
}

void TensorCodec::scan(const float*, std::uint64_t, std::size_t) {}

std::size_t TensorCodec::evaluate_bf16(const std::uint16_t*, std::uint64_t, std::size_t, ErrorSums&,
                                       std::uint64_t*) const {
    return 0;
}

void TensorCodec::normalise(const float* weights, std::uint64_t, std::size_t count, float* position) const {
    std::copy_n(weights, count, position);
}

namespace {

/// Independent accumulators, so that additions need not wait for each other; their number fixes the order of the
/// additions and with it the last bits of a result.
constexpr std::size_t lanes = 8;

struct LaneSums {
    std::array<double, lanes> w2{}, v2{}, d2{}, d{};
    std::array<double, lanes> max_abs{};
    std::array<std::uint64_t, lanes> count{};

    void add(float weight, float value, std::size_t lane) {
        // A difference of finite numbers; everything else adds nothing.
        const bool finite = is_finite(weight) && is_finite(value);
        const double w = finite ? weight : 0.0F, v = finite ? value : 0.0F, difference = v - w;
        count[lane] += finite ? 1 : 0;
        w2[lane] += w * w;
        v2[lane] += v * v;
        d2[lane] += difference * difference;
        d[lane] += difference;
        max_abs[lane] = std::abs(difference) > max_abs[lane] ? std::abs(difference) : max_abs[lane];
    }
};

double total(const std::array<double, lanes>& sums) {
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

std::uint64_t first_with_error(const float* weights, const float* decoded, std::size_t count, double error) {
    for (std::size_t i = 0; i < count; ++i)
        if (std::abs(static_cast<double>(decoded[i]) - static_cast<double>(weights[i])) == error)
            return i;
    return 0;
}

void add_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count, ErrorSums& sums) {
    LaneSums lane;
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (std::size_t k = 0; k < lanes; ++k)
            lane.add(weights[i + k], decoded[i + k], k);
    for (; i < count; ++i)
        lane.add(weights[i], decoded[i], i % lanes);
    const std::uint64_t finite = std::accumulate(lane.count.begin(), lane.count.end(), std::uint64_t{0});
    const double max_abs = *std::max_element(lane.max_abs.begin(), lane.max_abs.end());
    sums.count += finite;
    sums.nonfinite += count - finite;
    sums.sum_w2 += total(lane.w2);
    sums.sum_v2 += total(lane.v2);
    sums.sum_d2 += total(lane.d2);
    sums.sum_d += total(lane.d);
    if (max_abs > sums.max_abs) {
        sums.max_abs = max_abs;
        sums.max_index = begin + first_with_error(weights, decoded, count, max_abs);
    }
}

/// Room for a piece of a tensor, one a thread.
struct PieceBuffers {
    std::vector<std::uint16_t> codes;
    std::vector<float> decoded;

    void reserve(std::size_t count) {
        if (codes.size() >= count)
            return;
        codes.resize(count);
        decoded.resize(count);
    }
};

} // namespace

void TensorCodec::evaluate(const float* weights, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                           std::uint64_t* usage) const {
    constexpr std::uint64_t piece = 2048;
    thread_local PieceBuffers buffers;
    const std::uint64_t end = begin + count;
    for (std::uint64_t at = begin; at < end;) {
        const std::uint64_t next = std::min(end, next_cut(std::min(at + piece, end)));
        const auto length = static_cast<std::size_t>(next - at);
        buffers.reserve(length);
        const float* from = weights + (at - begin);
        quantize(from, at, length, usage == nullptr ? nullptr : buffers.codes.data(), buffers.decoded.data());
        add_errors(from, buffers.decoded.data(), at, length, sums);
        if (usage != nullptr)
            for (std::size_t i = 0; i < length; ++i)
                ++usage[buffers.codes[i]];
        at = next;
    }
}

} // namespace qs
