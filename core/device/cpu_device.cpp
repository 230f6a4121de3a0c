#include <tbb/enumerable_thread_specific.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/analysis/statistics.h"
#include "core/device/bandwidth.h"
#include "core/device/bench.h"
#include "core/device/cpu_algebra.h"
#include "core/device/cpu_features.h"
#include "core/device/device.h"
#include "core/device/tiles.h"
#include "core/formats/registry.h"

namespace qs {

FormatResult unmeasured(const FormatSpec& spec, const TensorShape& shape, double stored_bits) {
    FormatResult result;
    result.spec = spec;
    if (const FormatSpec used = effective_spec(spec, shape); used != spec)
        result.fallback = used;
    result.stored_bits = stored_bits;
    result.elements = shape.count();
    return result;
}

std::vector<std::unique_ptr<TensorCodec>> bind_codecs(const TensorView& tensor, std::span<const FormatSpec> specs) {
    std::vector<std::unique_ptr<TensorCodec>> codecs;
    for (const FormatSpec& spec : specs) {
        const FormatSpec used = effective_spec(spec, tensor.shape);
        if (format(used.id).importance == Importance::required && tensor.importance == nullptr)
            throw Error("format " + used.text(), "needs an importance matrix", "give one, or choose another format");
        codecs.push_back(bind_codec(used, tensor.shape, tensor.importance));
    }
    return codecs;
}

namespace {

/// Elements a thread works on between two looks at the cancel flag: small enough for the float32 tile to stay in the
/// caches while every codec goes over it, large enough that the rest of a row that a tile must hold beyond its end is
/// little. Part of the definition of a result, like chunk_size.
constexpr std::size_t tile_size = 8192;
/// Elements of one unit of work. Part of the definition of a result: partial sums are made per chunk and merged in the
/// order of the tensor, whatever the number of threads.
constexpr std::uint64_t chunk_size = std::uint64_t{1} << 19;

struct Chunk {
    std::uint64_t begin, end;
};

Chunk chunk_of(std::size_t index, std::uint64_t count) {
    const std::uint64_t begin = index * chunk_size;
    return {begin, std::min(begin + chunk_size, count)};
}

std::size_t chunks_in(std::uint64_t count) {
    return static_cast<std::size_t>((count + chunk_size - 1) / chunk_size);
}

/// Bytes of the stored tensor that hold the elements [0, element).
std::uint64_t bytes_before(const TensorView& tensor, std::uint64_t element) {
    const BlockLayout layout = block_layout(tensor.dtype);
    return element / layout.elements * layout.bytes;
}

void release(const TensorView& tensor, Chunk chunk) {
    if (tensor.file == nullptr)
        return;
    const std::uint64_t first = bytes_before(tensor, chunk.begin), last = bytes_before(tensor, chunk.end);
    const auto offset = static_cast<std::size_t>(tensor.data - tensor.file->bytes().data());
    tensor.file->release(offset + first, last - first);
}

bool any_needs_scan(std::span<const std::unique_ptr<TensorCodec>> codecs) {
    return std::any_of(codecs.begin(), codecs.end(), [](const auto& codec) { return codec->needs_scan(); });
}

void scan_tile(const Tile& tile, std::uint64_t nominal_end, std::span<const std::unique_ptr<TensorCodec>> codecs) {
    for (const auto& codec : codecs) {
        if (!codec->needs_scan())
            continue;
        const std::uint64_t from = codec->next_cut(tile.begin), to = codec->next_cut(nominal_end);
        if (from < to)
            codec->scan(tile.at(from), from, static_cast<std::size_t>(to - from));
    }
}

void finish_scans(std::span<const std::unique_ptr<TensorCodec>> codecs) {
    for (const auto& codec : codecs)
        if (codec->needs_scan())
            codec->finish_scan();
}

/// The stored words of a bfloat16 tensor in this machine's byte order; null for others.
const std::uint16_t* bf16_words(const TensorView& tensor) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % alignof(std::uint16_t) == 0;
    return tensor.dtype == DType::bf16 && !tensor.byte_swapped && aligned
               ? reinterpret_cast<const std::uint16_t*>(tensor.data)
               : nullptr;
}

/// evaluate() over the blocks that start in [begin, end), by way of the stored words; blocks that evaluate_bf16()
/// leaves are loaded into `buffer`.
void evaluate_words(const TensorCodec& codec, const TensorView& tensor, std::uint64_t begin, std::uint64_t end,
                    ErrorSums& sums, std::uint64_t* usage, std::vector<float>& buffer) {
    const std::uint16_t* words = bf16_words(tensor);
    std::uint64_t at = codec.next_cut(begin);
    const std::uint64_t last = codec.next_cut(end);
    while (at < last) {
        at += codec.evaluate_bf16(words + at, at, static_cast<std::size_t>(last - at), sums, usage);
        if (at >= last)
            return;
        const std::uint64_t next = codec.next_cut(at + 1);
        buffer.resize(static_cast<std::size_t>(next - at));
        load_weights(tensor.dtype, tensor.byte_swapped, tensor.data, at, buffer.size(), buffer.data());
        codec.evaluate(buffer.data(), at, buffer.size(), sums, usage);
        at = next;
    }
}

using Counts = std::vector<std::uint64_t>;

/// What one thread counts; integers, so that the order of merging does not matter.
struct ThreadCounts {
    Counts patterns;           ///< of the stored 16-bit words
    std::vector<Counts> usage; ///< per codec

    void add(const ThreadCounts& other) {
        add(patterns, other.patterns);
        usage.resize(other.usage.size());
        for (std::size_t i = 0; i < usage.size(); ++i)
            add(usage[i], other.usage[i]);
    }

private:
    static void add(Counts& into, const Counts& from) {
        into.resize(from.size());
        for (std::size_t i = 0; i < from.size(); ++i)
            into[i] += from[i];
    }
};

/// What a chunk leaves behind: floating-point sums, merged in the order of the tensor.
struct ChunkSums {
    Moments moments;
    std::vector<ErrorSums> errors;
};

class TensorAnalysis {
public:
    TensorAnalysis(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job)
        : tensor_(tensor), specs_(specs), job_(job), codecs_(bind_codecs(tensor, specs)),
          chunks_(chunks_in(tensor.shape.count())),
          by_patterns_(counts_patterns(tensor.dtype, tensor.byte_swapped, tensor.shape.count())) {
        for (const auto& codec : codecs_)
            by_words_.push_back(by_patterns_ && codec->has_bf16_form() && bf16_words(tensor) != nullptr);
        loads_ = !by_patterns_ || std::ranges::find(by_words_, false) != by_words_.end();
    }

    TensorReport run() {
        if (any_needs_scan(codecs_))
            scan();
        measure();
        if (!complete_words()) {
            by_words_.assign(by_words_.size(), false);
            loads_ = true;
            sums_.clear();
            counts_.clear();
            total_ = {};
            measure();
        }
        TensorReport report;
        report.statistics = statistics();
        for (std::size_t i = 0; i < specs_.size(); ++i)
            report.results.push_back(result(i));
        return report;
    }

private:
    /// Runs `body(chunk index)` for all chunks; inline where there is only one.
    template <class Body>
    void for_each_chunk(Body body) {
        if (chunks_ == 1)
            body(std::size_t{0});
        else
            tbb::parallel_for(std::size_t{0}, chunks_, body);
    }

    void scan() {
        for_each_chunk([&](std::size_t index) {
            const Chunk chunk = chunk_of(index, tensor_.shape.count());
            for_each_tile(tensor_, codecs_, chunk.begin, chunk.end, tile_size, job_,
                          [&](const Tile& tile, std::uint64_t end) { scan_tile(tile, end, codecs_); });
            release(tensor_, chunk);
        });
        finish_scans(codecs_);
    }

    void measure() {
        sums_.resize(chunks_);
        for_each_chunk([&](std::size_t index) { measure(index); });
        for (const ThreadCounts& counts : counts_)
            total_.add(counts);
        for (std::size_t i = 1; i < sums_.size(); ++i)
            merge(sums_[0], sums_[i]);
    }

    /// Adds Σw², known from the counted words, where codecs left it out; see ErrorSums::complete.
    bool complete_words() {
        if (std::ranges::find(by_words_, true) == by_words_.end())
            return true;
        const double all_w2 = sum_of_squares(total_.patterns, tensor_.dtype);
        const std::uint64_t nonfinite = nonfinite_weights();
        bool complete = true;
        for (std::size_t i = 0; i < codecs_.size(); ++i)
            if (by_words_[i] && codecs_[i]->leaves_w2())
                complete = sums_[0].errors[i].complete(all_w2, nonfinite) && complete;
        return complete;
    }

    std::uint64_t nonfinite_weights() const {
        std::uint64_t count = 0;
        for (std::size_t pattern = 0; pattern < total_.patterns.size(); ++pattern)
            count += (pattern & 0x7F80) == 0x7F80 ? total_.patterns[pattern] : 0;
        return count;
    }

    void measure(std::size_t index) {
        const Chunk chunk = chunk_of(index, tensor_.shape.count());
        ThreadCounts& counts = counts_.local();
        prepare(counts);
        ChunkSums& sums = sums_[index];
        sums.errors.resize(codecs_.size());
        TileReader reader(tensor_, codecs_);
        std::vector<float> buffer;
        for (std::uint64_t at = chunk.begin; at < chunk.end; at += tile_size) {
            job_.check();
            const std::uint64_t end = std::min(at + tile_size, chunk.end);
            measure_words(at, end, counts, sums, buffer);
            if (loads_)
                measure_tile(reader.load(at, end), end, counts, sums);
        }
        job_.advance(bytes_before(tensor_, chunk.end) - bytes_before(tensor_, chunk.begin));
        release(tensor_, chunk);
    }

    static std::uint64_t* usage_of(ThreadCounts& counts, std::size_t codec) {
        return counts.usage[codec].empty() ? nullptr : counts.usage[codec].data();
    }

    /// What needs only the stored words.
    void measure_words(std::uint64_t begin, std::uint64_t end, ThreadCounts& counts, ChunkSums& sums,
                       std::vector<float>& buffer) {
        if (by_patterns_)
            count_patterns(begin, static_cast<std::size_t>(end - begin), counts.patterns);
        for (std::size_t i = 0; i < codecs_.size(); ++i)
            if (by_words_[i])
                evaluate_words(*codecs_[i], tensor_, begin, end, sums.errors[i], usage_of(counts, i), buffer);
    }

    /// What needs the weights as float32.
    void measure_tile(const Tile& tile, std::uint64_t nominal_end, ThreadCounts& counts, ChunkSums& sums) {
        if (!by_patterns_)
            sums.moments.merge(moments_of(tile.weights.first(static_cast<std::size_t>(nominal_end - tile.begin))));
        for (std::size_t i = 0; i < codecs_.size(); ++i) {
            const std::uint64_t from = codecs_[i]->next_cut(tile.begin), to = codecs_[i]->next_cut(nominal_end);
            if (from < to && !by_words_[i])
                codecs_[i]->evaluate(tile.at(from), from, static_cast<std::size_t>(to - from), sums.errors[i],
                                     usage_of(counts, i));
        }
    }

    /// Four words to a load: the counters take a load and a store each, and those are what there is least of.
    void count_patterns(std::uint64_t begin, std::size_t count, Counts& patterns) const {
        const std::byte* words = tensor_.data + 2 * begin;
        std::size_t i = 0;
        for (; i + 4 <= count; i += 4) {
            std::uint64_t four;
            std::memcpy(&four, words + 2 * i, sizeof four);
            for (int shift = 0; shift < 64; shift += 16)
                ++patterns[four >> shift & 0xFFFF];
        }
        for (; i < count; ++i) {
            std::uint16_t one;
            std::memcpy(&one, words + 2 * i, sizeof one);
            ++patterns[one];
        }
    }

    void prepare(ThreadCounts& counts) const {
        if (!counts.usage.empty() || !counts.patterns.empty())
            return;
        counts.patterns.resize(by_patterns_ ? pattern_count : 0);
        for (const auto& codec : codecs_)
            counts.usage.emplace_back(codec->code_count());
    }

    static void merge(ChunkSums& into, const ChunkSums& later) {
        into.moments.merge(later.moments);
        for (std::size_t i = 0; i < into.errors.size(); ++i)
            into.errors[i].merge(later.errors[i]);
    }

    Statistics statistics() {
        if (by_patterns_)
            return statistics_of_patterns(total_.patterns, tensor_.dtype);
        Statistics statistics = finish(sums_[0].moments);
        std::vector<Statistics> beyond(chunks_);
        for_each_chunk([&](std::size_t index) {
            const Chunk chunk = chunk_of(index, tensor_.shape.count());
            for_each_tile(tensor_, {}, chunk.begin, chunk.end, tile_size, job_, [&](const Tile& tile, std::uint64_t) {
                const auto& [mean, std] = std::pair(statistics.mean, statistics.std);
                beyond[index].beyond_3_sigma += count_beyond(tile.weights, mean, 3 * std);
                beyond[index].beyond_6_sigma += count_beyond(tile.weights, mean, 6 * std);
            });
            release(tensor_, chunk);
        });
        for (const Statistics& part : beyond) {
            statistics.beyond_3_sigma += part.beyond_3_sigma;
            statistics.beyond_6_sigma += part.beyond_6_sigma;
        }
        return statistics;
    }

    FormatResult result(std::size_t i) {
        FormatResult result = unmeasured(specs_[i], tensor_.shape, codecs_[i]->stored_bits());
        result.sums = sums_[0].errors[i];
        result.usage = std::move(total_.usage[i]);
        return result;
    }

    const TensorView& tensor_;
    std::span<const FormatSpec> specs_;
    JobControl& job_;
    std::vector<std::unique_ptr<TensorCodec>> codecs_;
    std::size_t chunks_;
    bool by_patterns_;           ///< statistics come from counts of the stored words
    std::vector<bool> by_words_; ///< codecs that read the stored words
    bool loads_;                 ///< something needs float32
    std::vector<ChunkSums> sums_;
    tbb::enumerable_thread_specific<ThreadCounts> counts_;
    ThreadCounts total_;
};

/// Counts values into equal bins; one a thread.
class Binning {
public:
    Binning(double low, double high, std::size_t bins)
        : low_(low), high_(high), per_bin_(static_cast<double>(bins) / (high - low)), counts_(bins) {}

    void add(std::span<const float> values) {
        for (const float value : values)
            add(static_cast<double>(value));
    }

    void merge_into(Histogram& histogram) const {
        histogram.below += below_;
        histogram.above += above_;
        histogram.nonfinite += nonfinite_;
        for (std::size_t i = 0; i < counts_.size(); ++i)
            histogram.counts[i] += counts_[i];
    }

private:
    void add(double value) {
        if (!std::isfinite(value))
            ++nonfinite_;
        else if (value < low_)
            ++below_;
        else if (value > high_)
            ++above_;
        else
            ++counts_[std::min(static_cast<std::size_t>((value - low_) * per_bin_), counts_.size() - 1)];
    }

    double low_, high_, per_bin_;
    std::vector<std::uint64_t> counts_;
    std::uint64_t below_ = 0, above_ = 0, nonfinite_ = 0;
};

Histogram empty_histogram(double low, double high, std::size_t bins) {
    Histogram histogram;
    histogram.low = low;
    histogram.high = high;
    histogram.counts.resize(bins);
    return histogram;
}

class CpuDevice final : public Device {
public:
    explicit CpuDevice(int threads)
        : threads_(threads > 0 ? threads : tbb::info::default_concurrency()), arena_(threads_) {}

    DeviceInfo info() const override {
        DeviceInfo info = cpu_info();
        info.threads = threads_;
        return info;
    }

    void for_each(std::size_t count, const std::function<void(std::size_t)>& body) override {
        arena_.execute([&] { tbb::parallel_for(std::size_t{0}, count, body); });
    }

    std::uint64_t divides_from() const override { return std::uint64_t{1} << 22; }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        return arena_.execute([&] { return TensorAnalysis(tensor, specs, job).run(); });
    }

    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        if (bins == 0 || !(low < high))
            throw Error("histogram", "needs at least one bin and a range that is not empty");
        return arena_.execute([&] { return make_histogram(tensor, specs, low, high, bins, job); });
    }

    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        const TensorView view{DType::f32, false,   reinterpret_cast<const std::byte*>(weights),
                              shape,      nullptr, importance};
        const auto codecs = bind_codecs(view, std::span(&spec, 1));
        const TensorCodec& codec = *codecs[0];
        arena_.execute([&] {
            scan_all(view, codecs, job);
            tbb::parallel_for(std::size_t{0}, chunks_in(shape.count()), [&](std::size_t index) {
                job.check();
                const Chunk chunk = chunk_of(index, shape.count());
                const std::uint64_t from = codec.next_cut(chunk.begin), to = codec.next_cut(chunk.end);
                if (from < to)
                    codec.quantize(weights + from, from, static_cast<std::size_t>(to - from),
                                   codes == nullptr ? nullptr : codes + from,
                                   decoded == nullptr ? nullptr : decoded + from);
            });
        });
        return codec.stored_bits();
    }

    Algebra& algebra() override { return *algebra_; }

    double measure_read_gbps(int threads, JobControl& job) override { return qs::measure_read_gbps(threads, job); }

    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                      JobControl& job) override {
        return bench_on_cpu(specs, operation, threads, job);
    }

private:
    static void scan_all(const TensorView& tensor, std::span<const std::unique_ptr<TensorCodec>> codecs,
                         JobControl& job) {
        if (!any_needs_scan(codecs))
            return;
        tbb::parallel_for(std::size_t{0}, chunks_in(tensor.shape.count()), [&](std::size_t index) {
            const Chunk chunk = chunk_of(index, tensor.shape.count());
            for_each_tile(tensor, codecs, chunk.begin, chunk.end, tile_size, job,
                          [&](const Tile& tile, std::uint64_t end) { scan_tile(tile, end, codecs); });
        });
        finish_scans(codecs);
    }

    static HistogramSet make_histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low,
                                       double high, std::size_t bins, JobControl& job) {
        const auto codecs = bind_codecs(tensor, specs);
        scan_all(tensor, codecs, job);
        // The first binning is of the weights, then one a codec.
        tbb::enumerable_thread_specific<std::vector<Binning>> binnings(
            std::vector<Binning>(codecs.size() + 1, Binning(low, high, bins)));
        tbb::parallel_for(std::size_t{0}, chunks_in(tensor.shape.count()), [&](std::size_t index) {
            const Chunk chunk = chunk_of(index, tensor.shape.count());
            std::vector<Binning>& local = binnings.local();
            std::vector<float> decoded;
            for_each_tile(tensor, codecs, chunk.begin, chunk.end, tile_size, job,
                          [&](const Tile& tile, std::uint64_t end) {
                              local[0].add(tile.weights.first(static_cast<std::size_t>(end - tile.begin)));
                              for (std::size_t i = 0; i < codecs.size(); ++i)
                                  add_reconstruction(*codecs[i], tile, end, decoded, local[i + 1]);
                          });
            release(tensor, chunk);
        });
        HistogramSet set{empty_histogram(low, high, bins), {}};
        set.reconstructions.assign(codecs.size(), empty_histogram(low, high, bins));
        for (const auto& local : binnings) {
            local[0].merge_into(set.weights);
            for (std::size_t i = 0; i < codecs.size(); ++i)
                local[i + 1].merge_into(set.reconstructions[i]);
        }
        return set;
    }

    static void add_reconstruction(const TensorCodec& codec, const Tile& tile, std::uint64_t nominal_end,
                                   std::vector<float>& decoded, Binning& binning) {
        const std::uint64_t from = codec.next_cut(tile.begin), to = codec.next_cut(nominal_end);
        if (from >= to)
            return;
        decoded.resize(static_cast<std::size_t>(to - from));
        codec.quantize(tile.at(from), from, decoded.size(), nullptr, decoded.data());
        binning.add(decoded);
    }

    int threads_;
    tbb::task_arena arena_;
    std::unique_ptr<Algebra> algebra_ = make_cpu_algebra(arena_);
};

} // namespace

std::unique_ptr<Device> make_cpu_device(int threads) {
    return std::make_unique<CpuDevice>(threads);
}

void scan_codecs(const TensorView& tensor, std::span<const std::unique_ptr<TensorCodec>> codecs, JobControl& job) {
    if (!any_needs_scan(codecs))
        return;
    for_each_tile(tensor, codecs, 0, tensor.shape.count(), tile_size, job,
                  [&](const Tile& tile, std::uint64_t end) { scan_tile(tile, end, codecs); });
    finish_scans(codecs);
}

} // namespace qs
