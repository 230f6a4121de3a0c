#include "core/methods/rounding.h"

#include "core/formats/registry.h"
#include "core/methods/matrix.h"

namespace qs {

std::vector<std::uint64_t> cuts_of(const TensorCodec& codec, std::uint64_t count) {
    constexpr std::uint64_t part = std::uint64_t{1} << 16;
    std::vector<std::uint64_t> cuts{0};
    while (cuts.back() < count)
        cuts.push_back(codec.next_cut(std::min(cuts.back() + part, count)));
    return cuts;
}

std::unique_ptr<TensorCodec> scanned_codec(const FormatSpec& format, const float* weights, const TensorShape& shape,
                                           const float* importance, const JobControl& job) {
    auto codec = bind_codec(format, shape, importance);
    scan(*codec, weights, shape.count(), job);
    return codec;
}

void scan(TensorCodec& codec, const float* weights, std::uint64_t count, const JobControl& job) {
    if (!codec.needs_scan())
        return;
    for_each_part(codec, weights, count, job,
                  [&](const float* part, std::uint64_t begin, std::size_t length) { codec.scan(part, begin, length); });
    codec.finish_scan();
}

std::vector<float> reconstruct(const TensorCodec& codec, const float* weights, std::uint64_t count,
                               const JobControl& job) {
    std::vector<float> decoded(static_cast<std::size_t>(count));
    for_each_part(codec, weights, count, job, [&](const float* part, std::uint64_t begin, std::size_t length) {
        codec.quantize(part, begin, length, nullptr, decoded.data() + begin);
    });
    return decoded;
}

void round_to_nearest(const FormatSpec& format, const float* weights, const TensorShape& shape, const float* importance,
                      const JobControl& job, MethodResult& result) {
    round_to_nearest(*scanned_codec(format, weights, shape, importance, job), weights, shape.count(), job, result);
}

void round_to_nearest(const TensorCodec& codec, const float* weights, std::uint64_t count, const JobControl& job,
                      MethodResult& result) {
    result.weight = reconstruct(codec, weights, count, job);
    result.stored = codec.store(weights);
    result.bits_per_weight = codec.stored_bits() / static_cast<double>(count);
}

void round_smoothed(const TensorCodec& codec, const std::vector<float>& smoothed, const JobControl& job,
                    MethodResult& result) {
    round_to_nearest(codec, smoothed.data(), smoothed.size(), job, result);
    unscale_columns(result.weight, result.smoothing);
}

void scale_columns(std::vector<float>& weights, std::span<const float> factors) {
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] *= factors[i % factors.size()];
}

void unscale_columns(std::vector<float>& weights, std::span<const float> factors) {
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] /= factors[i % factors.size()];
}

void apply_rtn(const MethodInput& input, MethodResult& result) {
    round_to_nearest(input.format, input.weights, input.shape, nullptr, input.job, result);
}

void apply_imatrix(const MethodInput& input, MethodResult& result) {
    const std::vector<double> means = input.calibration.mean_square();
    const std::vector<float> importance(means.begin(), means.end());
    round_to_nearest(input.format, input.weights, input.shape, importance.data(), input.job, result);
}

} // namespace qs
