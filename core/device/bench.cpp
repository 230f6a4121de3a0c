#include "core/device/bench.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <utility>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

/// Standard normal values: Box–Muller over a 64-bit linear congruential sequence (Knuth's MMIX constants).
class Normal {
public:
    std::pair<double, double> next_two() {
        const double radius = std::sqrt(-2 * std::log(1 - uniform())), angle = 2 * std::numbers::pi * uniform();
        return {radius * std::cos(angle), radius * std::sin(angle)};
    }

private:
    double uniform() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<double>(state_ >> 11) * 0x1p-53;
    }
    std::uint64_t state_ = 1;
};

std::vector<std::uint16_t> make_weights() {
    constexpr std::size_t count = std::size_t{128} << 20;
    std::vector<std::uint16_t> weights(count);
    Normal normal;
    for (std::size_t i = 0; i < bench_period; i += 2) {
        const auto [first, second] = normal.next_two();
        weights[i] = float_to_bf16(static_cast<float>(0.02 * first));
        weights[i + 1] = float_to_bf16(static_cast<float>(0.02 * second));
    }
    for (std::size_t i = bench_period; i < count; i += bench_period)
        std::copy_n(weights.begin(), bench_period, weights.begin() + static_cast<std::ptrdiff_t>(i));
    return weights;
}

} // namespace

const std::vector<std::uint16_t>& bench_weights() {
    static const std::vector<std::uint16_t> weights = make_weights();
    return weights;
}

std::vector<float> make_bench_importance(std::size_t columns) {
    Normal normal;
    std::vector<float> importance(columns);
    for (float& value : importance)
        value = static_cast<float>(std::exp(normal.next_two().first));
    return importance;
}

BenchResult unmeasured_bench(std::span<const FormatSpec> specs, const std::string& operation, int threads) {
    const bool takes_one = operation == "encode" || operation == "decode";
    if (!takes_one && operation != "encode+error" && operation != "stream+error")
        throw Error("bench", "there is no operation '" + operation + "'",
                    "use encode, decode, encode+error or stream+error");
    const bool fused = specs.size() > 1;
    if (fused && takes_one)
        throw Error("bench", operation + " takes one format at a time", "use encode+error");
    BenchResult result;
    for (const FormatSpec& spec : specs) {
        if (!result.format.empty())
            result.format += ',';
        result.format += spec.text();
    }
    result.operation = operation + (fused ? ", fused" : "");
    result.threads = threads;
    return result;
}

namespace {

/// Weights that are worked on at once, as in the analysis: two rows, so that every format has a cut at their ends.
constexpr std::size_t tile = 2 * bench_columns;
/// Stored bytes that are decoded: four times a large last-level cache.
constexpr std::size_t decoded_bytes = std::size_t{128} << 20;
/// How long one run may take, and all runs of a measurement together.
constexpr double seconds_a_run = 0.05, seconds_in_all = 0.2;

template <class Body>
double seconds_of(Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class CpuBench {
public:
    CpuBench(std::span<const FormatSpec> specs, int threads, JobControl& job)
        : job_(job), threads_(threads), arena_(threads), importance_(make_bench_importance(bench_columns)) {
        for (const FormatSpec& spec : specs) {
            const bool required = format(spec.id).importance == Importance::required;
            codecs_.push_back(bind_codec(spec, {weights_.size() / bench_columns, bench_columns},
                                         required ? importance_.data() : nullptr));
            scan(*codecs_.back());
        }
    }

    /// Weights a second.
    double encode() {
        const TensorCodec& codec = *codecs_[0];
        return rate(tiles(), [&](std::uint64_t first, std::uint64_t last) {
            Buffers& buffers = buffers_.local();
            buffers.stored.resize(codec.encoded_bytes(0, tile));
            for (std::uint64_t at = first * tile; at < last * tile; at += tile) {
                job_.check();
                load(at, tile, buffers.weights);
                codec.encode(buffers.weights.data(), at, tile, buffers.stored.data());
            }
        });
    }

    double decode() {
        const TensorCodec& codec = *codecs_[0];
        const Stored stored = store();
        return rate(stored.tiles, [&](std::uint64_t first, std::uint64_t last) {
            std::vector<float>& out = buffers_.local().weights;
            out.resize(tile);
            for (std::uint64_t index = first; index < last; ++index) {
                job_.check();
                codec.decode(stored.bytes.get() + index * stored.tile_bytes, index % stored.distinct * tile, tile,
                             out.data());
                keep_result(static_cast<double>(out[index % tile]));
            }
        });
    }

    double evaluate() {
        // Several formats share a tile while it is in the caches; one that reads stored words needs no tiles.
        const bool by_words = codecs_.size() == 1 && codecs_[0]->has_bf16_form();
        return rate(tiles(), [&](std::uint64_t first, std::uint64_t last) {
            const std::uint64_t step = by_words ? (last - first) * tile : tile;
            // As an analysis keeps them: with each new sum the search for the largest error begins anew.
            std::vector<ErrorSums> sums(codecs_.size());
            for (std::uint64_t at = first * tile; at < last * tile; at += step) {
                job_.check();
                evaluate(at, static_cast<std::size_t>(step), sums);
            }
            for (const ErrorSums& of_format : sums)
                keep_result(of_format.sum_d2);
        });
    }

    double stored_bytes_a_weight() const {
        return static_cast<double>(codecs_[0]->encoded_bytes(0, tile)) / static_cast<double>(tile);
    }

private:
    struct Buffers {
        std::vector<float> weights;
        std::vector<std::byte> stored;
    };

    /// Tiles as encode() makes them; after the first `distinct` ones come copies.
    struct Stored {
        std::size_t tile_bytes = 0;
        std::uint64_t tiles = 0, distinct = 0;
        std::unique_ptr<std::byte[]> bytes;
    };

    std::uint64_t tiles() const { return weights_.size() / tile; }

    void load(std::uint64_t begin, std::size_t count, std::vector<float>& into) const {
        into.resize(count);
        load_weights(DType::bf16, false, reinterpret_cast<const std::byte*>(weights_.data()), begin, count,
                     into.data());
    }

    /// One period has the extents of the whole.
    void scan(TensorCodec& codec) {
        if (!codec.needs_scan())
            return;
        std::vector<float>& weights = buffers_.local().weights;
        for (std::uint64_t at = 0; at < bench_period; at += tile) {
            load(at, tile, weights);
            codec.scan(weights.data(), at, tile);
        }
        codec.finish_scan();
    }

    void evaluate(std::uint64_t begin, std::size_t count, std::vector<ErrorSums>& sums) {
        std::vector<float>& weights = buffers_.local().weights;
        const std::uint16_t* words = weights_.data() + begin;
        bool loaded = false;
        for (std::size_t i = 0; i < codecs_.size(); ++i) {
            const TensorCodec& codec = *codecs_[i];
            const std::size_t by_words =
                codec.has_bf16_form() ? codec.evaluate_bf16(words, begin, count, sums[i], nullptr) : 0;
            if (by_words < count && !std::exchange(loaded, true))
                load(begin, count, weights);
            if (by_words < count)
                codec.evaluate(weights.data() + by_words, begin + by_words, count - by_words, sums[i], nullptr);
        }
    }

    /// Encodes for a moment, and fills the rest with copies.
    Stored store() {
        Stored stored;
        stored.tile_bytes = codecs_[0]->encoded_bytes(0, tile);
        stored.tiles = decoded_bytes / stored.tile_bytes;
        stored.bytes = std::make_unique_for_overwrite<std::byte[]>(stored.tiles * stored.tile_bytes);
        std::vector<float>& weights = buffers_.local().weights;
        const std::uint64_t most = std::min<std::uint64_t>(bench_period / tile, stored.tiles);
        for (double spent = 0; stored.distinct < most && spent < seconds_a_run; ++stored.distinct)
            spent += seconds_of([&] {
                load(stored.distinct * tile, tile, weights);
                codecs_[0]->encode(weights.data(), stored.distinct * tile, tile,
                                   stored.bytes.get() + stored.distinct * stored.tile_bytes);
            });
        for (std::uint64_t copy = stored.distinct; copy < stored.tiles; ++copy)
            std::memcpy(stored.bytes.get() + copy * stored.tile_bytes,
                        stored.bytes.get() + copy % stored.distinct * stored.tile_bytes, stored.tile_bytes);
        return stored;
    }

    /// Weights a second that work(first tile, last tile) does over up to `tiles` tiles, fewer where it is slow.
    template <class Work>
    double rate(std::uint64_t tiles, Work work) {
        const auto seconds = [&](std::uint64_t count) {
            return seconds_of([&] {
                arena_.execute([&] {
                    tbb::parallel_for(tbb::blocked_range<std::uint64_t>(0, count),
                                      [&](const auto& range) { work(range.begin(), range.end()); });
                });
            });
        };
        const std::uint64_t least = 2 * static_cast<std::uint64_t>(threads_);
        std::uint64_t count = least;
        double once = seconds(count);
        while (once < seconds_a_run / 8 && count < tiles) {
            count = std::min(4 * count, tiles);
            once = seconds(count);
        }
        const auto fitting = static_cast<std::uint64_t>(static_cast<double>(count) * seconds_a_run / once);
        count = std::clamp(fitting, least, std::max(least, tiles));
        return static_cast<double>(count * tile) / best_seconds(job_, seconds_in_all, [&] { seconds(count); });
    }

    JobControl& job_;
    int threads_;
    tbb::task_arena arena_;
    const std::vector<std::uint16_t>& weights_ = bench_weights();
    std::vector<float> importance_;
    std::vector<std::unique_ptr<TensorCodec>> codecs_;
    tbb::enumerable_thread_specific<Buffers> buffers_;
};

} // namespace

BenchResult bench_on_cpu(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                         JobControl& job) {
    BenchResult result = unmeasured_bench(specs, operation, threads);
    if (operation == "stream+error") {
        result.skipped = "the CPU works in the host's memory";
        return result;
    }
    CpuBench bench(specs, threads, job);
    const bool decodes = operation == "decode";
    result.weights_per_second = decodes ? bench.decode() : operation == "encode" ? bench.encode() : bench.evaluate();
    const double input_bytes = decodes ? bench.stored_bytes_a_weight() : sizeof(std::uint16_t);
    result.input_gbps = 1e-9 * input_bytes * result.weights_per_second;
    return result;
}

} // namespace qs
