#include "core/analysis/bins.h"

#include <algorithm>
#include <cmath>

#include "core/analysis/statistics.h"
#include "core/device/tiles.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

constexpr std::size_t tile_size = 16384;
constexpr std::size_t position_bins = 512;

/// Index into the codebook's levels by code.
std::vector<std::size_t> level_of_code(const Codebook& codebook, std::size_t codes) {
    std::vector<std::size_t> level(codes, 0);
    for (std::size_t i = 0; i < codebook.levels.size(); ++i)
        level[codebook.levels[i].code] = i;
    return level;
}

void count_position(Histogram& histogram, float position) {
    if (!std::isfinite(position)) {
        ++histogram.nonfinite;
        return;
    }
    // Half a bin of room: a stored scale is rounded, and the weight that it was made from lies beside the end.
    constexpr double room = 0.5 / position_bins;
    const double t = (position - histogram.low) / (histogram.high - histogram.low);
    if (t < -room)
        ++histogram.below;
    else if (t > 1 + room)
        ++histogram.above;
    else
        ++histogram.counts[static_cast<std::size_t>(std::clamp(t * position_bins, 0.0, position_bins - 1.0))];
}

/// What one tile is turned into, reused from tile to tile.
struct Buffers {
    std::vector<std::uint16_t> codes;
    std::vector<float> decoded, positions;

    void resize(std::size_t count) {
        codes.resize(count);
        decoded.resize(count);
        positions.resize(count);
    }
};

double entropy_of(const std::vector<std::uint64_t>& usage) {
    FormatResult result;
    result.usage = usage;
    return result.code_entropy();
}

} // namespace

std::optional<BinsReport> measure_bins(const TensorView& tensor, const FormatSpec& spec, JobControl& job) {
    const auto codecs = bind_codecs(tensor, std::span(&spec, 1));
    const TensorCodec& codec = *codecs[0];
    const auto codebook = codec.codebook();
    if (!codebook)
        return std::nullopt;
    scan_codecs(tensor, codecs, job);

    BinsReport report;
    report.spec = effective_spec(spec, tensor.shape);
    report.codebook = *codebook;
    report.usage.resize(codebook->levels.size());
    report.error.resize(codebook->levels.size());
    report.positions.low = std::min(-1.0, codebook->levels.front().value);
    report.positions.high = std::max(1.0, codebook->levels.back().value);
    report.positions.counts.resize(position_bins);
    const auto level_of = level_of_code(*codebook, codec.code_count());

    Buffers buffers;
    for_each_tile(tensor, codecs, 0, tensor.shape.count(), tile_size, job, [&](const Tile& tile, std::uint64_t end) {
        const std::uint64_t from = codec.next_cut(tile.begin), to = codec.next_cut(end);
        if (from >= to)
            return;
        const auto count = static_cast<std::size_t>(to - from);
        const float* weights = tile.at(from);
        buffers.resize(count);
        codec.quantize(weights, from, count, buffers.codes.data(), buffers.decoded.data());
        codec.normalise(weights, from, count, buffers.positions.data());
        for (std::size_t i = 0; i < count; ++i) {
            if (!std::isfinite(weights[i])) {
                ++report.positions.nonfinite;
                continue;
            }
            const std::size_t level = level_of[buffers.codes[i]];
            const double error = static_cast<double>(weights[i]) - static_cast<double>(buffers.decoded[i]);
            ++report.usage[level];
            report.error[level] += error * error;
            count_position(report.positions, buffers.positions[i]);
        }
    });

    report.entropy = entropy_of(report.usage);
    report.bits_per_weight = codec.stored_bits() / static_cast<double>(tensor.shape.count());
    report.levels_used = static_cast<std::size_t>(
        std::count_if(report.usage.begin(), report.usage.end(), [](std::uint64_t count) { return count > 0; }));
    return report;
}

Probe probe(const Codebook& codebook, double position) {
    const auto boundary = std::lower_bound(codebook.boundaries.begin(), codebook.boundaries.end(), position);
    const auto level = static_cast<std::size_t>(boundary - codebook.boundaries.begin());
    const Level& found = codebook.levels[level];
    return {level, found.code, found.value, found.value - position};
}

std::vector<float> block_absmax(const TensorView& tensor, std::size_t block, std::size_t limit, JobControl& job) {
    const std::uint64_t length = block == 0 ? tensor.shape.columns : block;
    const std::uint64_t blocks = (tensor.shape.count() + length - 1) / length;
    const std::uint64_t merged = std::max<std::uint64_t>(1, (blocks + limit - 1) / limit);
    std::vector<float> result(static_cast<std::size_t>((blocks + merged - 1) / merged), 0.0F);
    for_each_tile(tensor, {}, 0, tensor.shape.count(), tile_size, job, [&](const Tile& tile, std::uint64_t) {
        for (std::size_t i = 0; i < tile.weights.size(); ++i) {
            const float magnitude = std::abs(tile.weights[i]);
            float& largest = result[static_cast<std::size_t>((tile.begin + i) / length / merged)];
            if (std::isfinite(magnitude))
                largest = std::max(largest, magnitude);
        }
    });
    return result;
}

namespace {

/// The finite weights, or an evenly strided sample of at most `limit` where there are more.
std::vector<float> sample_weights(const TensorView& tensor, std::size_t limit, JobControl& job) {
    const std::uint64_t stride = (tensor.shape.count() + limit - 1) / limit;
    std::vector<float> sample;
    for_each_tile(tensor, {}, 0, tensor.shape.count(), tile_size, job, [&](const Tile& tile, std::uint64_t) {
        for (std::uint64_t i = (stride - tile.begin % stride) % stride; i < tile.weights.size(); i += stride)
            if (std::isfinite(tile.weights[static_cast<std::size_t>(i)]))
                sample.push_back(tile.weights[static_cast<std::size_t>(i)]);
    });
    return sample;
}

/// Inverse of the standard normal distribution function, by bisection on erfc: exact to rounding and simple.
double normal_quantile(double p) {
    double low = -40, high = 40;
    for (int step = 0; step < 80; ++step) {
        const double middle = (low + high) / 2;
        (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
    }
    return (low + high) / 2;
}

} // namespace

std::vector<QuantilePoint> quantile_quantile(const TensorView& tensor, std::size_t points, JobControl& job) {
    constexpr std::size_t exact_up_to = std::size_t{1} << 20;
    std::vector<float> sample = sample_weights(tensor, exact_up_to, job);
    job.check();
    std::sort(sample.begin(), sample.end());
    points = std::min(points, sample.size());
    std::vector<QuantilePoint> result;
    for (std::size_t i = 0; i < points; ++i) {
        const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(points);
        const auto rank = static_cast<std::size_t>(p * static_cast<double>(sample.size()));
        result.push_back({normal_quantile(p), sample[std::min(rank, sample.size() - 1)]});
    }
    return result;
}

} // namespace qs
