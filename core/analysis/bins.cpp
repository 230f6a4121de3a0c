#include "core/analysis/bins.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

/// An empty report over the axis of a codebook.
BinsReport make_report(const TensorView& tensor, const FormatSpec& spec, Codebook codebook, double low, double high) {
    BinsReport report;
    report.spec = effective_spec(spec, tensor.shape);
    report.usage.resize(codebook.levels.size());
    report.error.resize(codebook.levels.size());
    report.codebook = std::move(codebook);
    report.positions.low = low;
    report.positions.high = high;
    report.positions.counts.resize(position_bins);
    return report;
}

void count_weight(BinsReport& report, std::size_t level, float weight, float decoded, float position) {
    if (!std::isfinite(weight)) {
        ++report.positions.nonfinite;
        return;
    }
    const double error = static_cast<double>(weight) - static_cast<double>(decoded);
    ++report.usage[level];
    report.error[level] += error * error;
    count_position(report.positions, position);
}

/// Two codes of one value (0 and −0) share the room around it; where an encoder makes only one of them, all of it is
/// that one's.
void join_equal_levels(BinsReport& report) {
    auto& [levels, boundaries] = report.codebook;
    for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
        if (levels[i].value != levels[i + 1].value || (report.usage[i] > 0) == (report.usage[i + 1] > 0))
            continue;
        if (report.usage[i] == 0 && i > 0)
            boundaries[i] = boundaries[i - 1];
        else if (report.usage[i] > 0 && i + 1 < boundaries.size())
            boundaries[i] = boundaries[i + 1];
    }
}

void finish_report(BinsReport& report, const TensorCodec& codec, const TensorShape& shape) {
    join_equal_levels(report);
    report.entropy = entropy_of(report.usage);
    report.bits_per_weight = codec.stored_bits() / static_cast<double>(shape.count());
    report.levels_used = static_cast<std::size_t>(
        std::count_if(report.usage.begin(), report.usage.end(), [](std::uint64_t count) { return count > 0; }));
}

} // namespace

std::optional<BinsReport> measure_bins(const TensorView& tensor, const FormatSpec& spec, JobControl& job) {
    const auto codecs = bind_codecs(tensor, std::span(&spec, 1));
    const TensorCodec& codec = *codecs[0];
    const auto codebook = codec.codebook();
    if (!codebook)
        return std::nullopt;
    scan_codecs(tensor, codecs, job);

    const auto level_of = level_of_code(*codebook, codec.code_count());
    BinsReport report = make_report(tensor, spec, *codebook, std::min(-1.0, codebook->levels.front().value),
                                    std::max(1.0, codebook->levels.back().value));
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
        for (std::size_t i = 0; i < count; ++i)
            count_weight(report, level_of[buffers.codes[i]], weights[i], buffers.decoded[i], buffers.positions[i]);
    });
    finish_report(report, codec, tensor.shape);
    return report;
}

// --- one block -------------------------------------------------------------------------------------------------

namespace {

struct Range {
    std::uint64_t begin, end;
};

/// The last cut not beyond an element: the largest number from which next_cut() does not pass the element.
std::uint64_t cut_before(const TensorCodec& codec, std::uint64_t element) {
    std::uint64_t low = 0, high = element;
    while (low < high) {
        const std::uint64_t middle = high - (high - low) / 2;
        if (codec.next_cut(middle) <= element)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

std::vector<float> weights_of(const TensorView& tensor, Range range) {
    std::vector<float> weights(static_cast<std::size_t>(range.end - range.begin));
    load_weights(tensor.dtype, tensor.byte_swapped, tensor.data, range.begin, weights.size(), weights.data());
    return weights;
}

/// The levels of the block around an element, ascending, with the halfway points between them.
Codebook codebook_at(const TensorView& tensor, const TensorCodec& codec, std::uint64_t element) {
    const Range around{cut_before(codec, element), codec.next_cut(element + 1)};
    const auto weights = weights_of(tensor, around);
    Codebook codebook{codec.levels_at(weights.data(), around.begin, weights.size(), element), {}};
    auto& levels = codebook.levels;
    if (levels.front().value > levels.back().value) // of a negative scale
        std::reverse(levels.begin(), levels.end());
    std::stable_sort(levels.begin(), levels.end(), [](const Level& a, const Level& b) { return a.value < b.value; });
    for (std::size_t i = 1; i < levels.size(); ++i)
        codebook.boundaries.push_back((levels[i - 1].value + levels[i].value) / 2);
    return codebook;
}

/// The distance that all neighbouring levels have, but for their rounding to float32; NaN if there is none.
double common_step(const std::vector<Level>& levels) {
    const auto none = std::numeric_limits<double>::quiet_NaN();
    const double range = levels.back().value - levels.front().value;
    const double step = range / static_cast<double>(levels.size() - 1);
    if (!(step > 0))
        return none;
    for (std::size_t i = 1; i < levels.size(); ++i)
        if (std::abs(levels[i].value - levels[i - 1].value - step) > 1e-3 * step)
            return none;
    return step;
}

/// Calls visit(element, weight, code, decoded) for the weights of a block, quantized with all that their scales look
/// at.
template <class Visit>
void quantize_block(const TensorView& tensor, const TensorCodec& codec, const LevelBlock& block, JobControl& job,
                    Visit visit) {
    const Range range{cut_before(codec, block.begin), codec.next_cut(block.end)};
    Buffers buffers;
    for (std::uint64_t at = range.begin; at < range.end;) {
        job.check();
        const std::uint64_t next = std::min(range.end, codec.next_cut(std::min(at + tile_size, range.end)));
        const auto weights = weights_of(tensor, {at, next});
        buffers.resize(weights.size());
        codec.quantize(weights.data(), at, weights.size(), buffers.codes.data(), buffers.decoded.data());
        for (std::uint64_t element = std::max(at, block.begin); element < std::min(next, block.end); ++element) {
            const auto i = static_cast<std::size_t>(element - at);
            visit(weights[i], buffers.codes[i], buffers.decoded[i]);
        }
        at = next;
    }
}

} // namespace

std::optional<BlockBins> measure_block_bins(const TensorView& tensor, const FormatSpec& spec, std::uint64_t element,
                                            JobControl& job) {
    const auto codecs = bind_codecs(tensor, std::span(&spec, 1));
    const TensorCodec& codec = *codecs[0];
    if (!codec.codebook())
        return std::nullopt;
    scan_codecs(tensor, codecs, job);

    BlockBins result;
    result.block = codec.level_block(element);
    result.blocks = codec.level_block(tensor.shape.count() - 1).index + 1;
    Codebook codebook = codebook_at(tensor, codec, element);
    result.step = common_step(codebook.levels);
    const auto level_of = level_of_code(codebook, codec.code_count());
    // All levels of a block of zeros are one.
    const double low = codebook.levels.front().value, high = codebook.levels.back().value;
    result.bins =
        make_report(tensor, spec, std::move(codebook), low < high ? low : low - 1, low < high ? high : high + 1);
    const bool listed = result.block.count() <= most_listed_weights;
    quantize_block(tensor, codec, result.block, job, [&](float weight, std::uint16_t code, float decoded) {
        const std::size_t level = level_of[code];
        count_weight(result.bins, level, weight, decoded, weight);
        if (listed)
            result.weights.push_back({weight, level});
    });
    finish_report(result.bins, codec, tensor.shape);
    return result;
}

BlockNumbers::BlockNumbers(const FormatSpec& spec, const TensorShape& shape)
    : codec_(bind_codec(effective_spec(spec, shape), shape)), elements_(shape.count()) {}

std::uint64_t BlockNumbers::count() const {
    return codec_->level_block(elements_ - 1).index + 1;
}

std::uint64_t BlockNumbers::first(std::uint64_t index) const {
    std::uint64_t low = 0, high = elements_ - 1;
    while (low < high) {
        const std::uint64_t middle = low + (high - low) / 2;
        if (codec_->level_block(middle).index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
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
