#include "core/formats/tensor_codec.h"

#include <algorithm>
#include <cmath>

#include "core/base/half.h"
#include "core/formats/simd/errors.h"

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

bool ErrorSums::complete(double all_w2, std::uint64_t nonfinite_weights) {
    constexpr double least_share = 1e-6;
    sum_v2 += all_w2 - sum_w2;
    sum_w2 = all_w2;
    return nonfinite == nonfinite_weights && sum_v2 >= least_share * all_w2;
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

/// Pairs among which some are not finite: those are left out.
void add_some_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count,
                     ErrorSums& sums) {
    for (std::size_t i = 0; i < count; ++i) {
        const double w = weights[i], v = decoded[i], difference = v - w;
        if (!is_finite(weights[i]) || !is_finite(decoded[i])) {
            ++sums.nonfinite;
            continue;
        }
        ++sums.count;
        sums.sum_w2 += w * w;
        sums.sum_v2 += v * v;
        sums.sum_d2 += difference * difference;
        sums.sum_d += difference;
        if (std::abs(difference) > sums.max_abs) {
            sums.max_abs = std::abs(difference);
            sums.max_index = begin + i;
        }
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

void add_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count, ErrorSums& sums) {
    if (!simd::add_finite_errors(weights, decoded, begin, count, sums))
        add_some_errors(weights, decoded, begin, count, sums);
}

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
