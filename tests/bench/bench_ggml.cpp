#include <ggml-cpu.h>
#include <ggml.h>

#include <fmt/format.h>
#include <hwy/targets.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/device/bench.h"
#include "core/formats/registry.h"

// ggml's own quantizers and ours beside each other: the same float32 matrix in the same process, turn by turn, medians.
// Decoding writes to a small buffer of each thread that is used again and again, so that reading and arithmetic are
// measured and not the memory's writes.

namespace {

using namespace qs;

constexpr std::uint64_t columns = 4096;
/// The largest matrix is 64 MiB of float32, twice a last-level cache; slow formats have less, yet more than the caches
/// of a core.
constexpr std::uint64_t most_rows = 4096, least_rows = 256;
/// Rows that a thread takes at once, and of those the ones that are decoded at once.
constexpr std::uint64_t slice_rows = 16, decoded_rows = 2;

struct Options {
    std::string formats;
    int threads = 1;
    std::string cap;
    double seconds = 1;
    bool importance = false;
};

/// Functions of ggml that convert whole rows.
struct Peer {
    std::string name;
    std::function<void(const float* weights, std::uint64_t rows, const float* importance, std::byte* out)> encode;
    std::function<void(const std::byte* encoded, std::uint64_t weights, float* out)> decode;
};

struct Contest {
    FormatSpec ours;
    Peer ggml;
};

std::optional<ggml_type> type_named(const std::string& name) {
    for (int type = 0; type < GGML_TYPE_COUNT; ++type)
        if (const char* known = ggml_type_name(static_cast<ggml_type>(type)); known != nullptr && name == known)
            return static_cast<ggml_type>(type);
    return std::nullopt;
}

/// The type that a format is in ggml.
std::optional<ggml_type> type_of(const Format& format) {
    static const std::map<std::string, std::string> other_names{
        {"fp16", "f16"}, {"bf16", "bf16"}, {"mxfp4_ggml", "mxfp4"}, {"nvfp4_ggml", "nvfp4"}};
    const auto other = other_names.find(format.id);
    if (other != other_names.end())
        return type_named(other->second);
    return format.family == "ggml" ? type_named(format.id) : std::nullopt;
}

Peer peer_of(ggml_type type) {
    return {
        "ggml-base",
        [type](const float* weights, std::uint64_t rows, const float* importance, std::byte* out) {
            ggml_quantize_chunk(type, weights, out, 0, static_cast<std::int64_t>(rows), columns, importance);
        },
        [to_float = ggml_get_type_traits(type)->to_float](const std::byte* encoded, std::uint64_t weights, float* out) {
            to_float(encoded, out, static_cast<std::int64_t>(weights));
        }};
}

/// The CPU backend converts 16-bit floats by functions of its own.
template <class Word>
Peer backend_peer(void (*encode)(const float*, Word*, std::int64_t),
                  void (*decode)(const Word*, float*, std::int64_t)) {
    return {"ggml-cpu",
            [encode](const float* weights, std::uint64_t rows, const float*, std::byte* out) {
                encode(weights, reinterpret_cast<Word*>(out), static_cast<std::int64_t>(rows * columns));
            },
            [decode](const std::byte* encoded, std::uint64_t weights, float* out) {
                decode(reinterpret_cast<const Word*>(encoded), out, static_cast<std::int64_t>(weights));
            }};
}

std::vector<Contest> contests(const std::string& list) {
    std::vector<FormatSpec> specs = list.empty() ? std::vector<FormatSpec>() : parse_specs(list);
    for (const Format& entry : formats())
        if (list.empty() && type_of(entry))
            specs.push_back(parse_spec(entry.id));
    std::vector<Contest> contests;
    for (const FormatSpec& spec : specs) {
        const auto type = type_of(format(spec.id));
        if (!type)
            throw Error("format " + spec.id, "is not one of ggml's");
        contests.push_back({spec, peer_of(*type)});
        if (type == GGML_TYPE_F16)
            contests.push_back({spec, backend_peer(ggml_cpu_fp32_to_fp16, ggml_cpu_fp16_to_fp32)});
        if (type == GGML_TYPE_BF16)
            contests.push_back({spec, backend_peer(ggml_cpu_fp32_to_bf16, ggml_cpu_bf16_to_fp32)});
    }
    return contests;
}

/// Limits what our own code is dispatched to.
void limit_targets(const std::string& cap) {
    // Highway numbers better targets with lower bits.
    if (cap == "avx2")
        hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~(HWY_AVX2 - 1));
    if (cap == "scalar")
        hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);
    hwy::GetChosenTarget().DeInit();
}

std::vector<float> normal_weights() {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> weights(most_rows * columns);
    std::generate(weights.begin(), weights.end(), [&] { return normal(engine); });
    return weights;
}

template <class Body>
double seconds_of(Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

struct Seconds {
    double ggml, ours;
};

/// Runs both in turns for about `seconds`, at least three times each.
template <class Ggml, class Ours>
Seconds race(double seconds, Ggml ggml, Ours ours) {
    std::vector<double> of_ggml, of_ours;
    for (double spent = 0; of_ours.size() < 3 || spent < seconds; spent += of_ggml.back() + of_ours.back()) {
        of_ggml.push_back(seconds_of(ggml));
        of_ours.push_back(seconds_of(ours));
    }
    return {median(of_ggml), median(of_ours)};
}

class Bench {
public:
    explicit Bench(const Options& options)
        : options_(options), arena_(options.threads), weights_(normal_weights()),
          importance_(make_bench_importance(columns)) {}

    void run(const Contest& contest) {
        const Importance use = format(contest.ours.id).importance;
        const bool weighted = use == Importance::required || (options_.importance && use == Importance::optional);
        importance_used_ = weighted ? importance_.data() : nullptr;
        ggml_ = &contest.ggml;
        codec_ = bind_codec(contest.ours, {most_rows, columns}, importance_used_);
        rows_ = most_rows;
        by_ggml_.resize(offset(most_rows));
        by_us_.resize(offset(most_rows));
        rows_ = fitting_rows();

        const std::string name = contest.ours.text() + (weighted ? " weighted" : "");
        const Seconds encoding = race(
            options_.seconds, [&] { encode_by_ggml(); }, [&] { encode_by_us(); });
        print(name, "encode", encoding,
              std::equal(by_ggml_.begin(), by_ggml_.begin() + static_cast<std::ptrdiff_t>(offset(rows_)),
                         by_us_.begin()));
        const Seconds decoding = race(
            options_.seconds, [&] { decode_by_ggml(); }, [&] { decode_by_us(); });
        print(name, "decode", decoding, decoded_alike());
    }

    static void print_heading() {
        fmt::print("{:<24} {:<9} {:<6} {:>10} {:>10} {:>7}  {}\n", "format", "peer", "", "peer Mw/s", "ours Mw/s",
                   "ratio", "identical");
    }

private:
    /// Where a row's bytes begin.
    std::size_t offset(std::uint64_t row) const {
        return codec_->encoded_bytes(0, static_cast<std::size_t>(row * columns));
    }

    template <class Body>
    void over_rows(Body body) {
        arena_.execute([&] {
            tbb::parallel_for(std::uint64_t{0}, rows_ / slice_rows,
                              [&](std::uint64_t slice) { body(slice * slice_rows, slice_rows); });
        });
    }

    template <class Decode>
    void decode_rows(Decode decode) {
        over_rows([&](std::uint64_t first, std::uint64_t count) {
            float out[decoded_rows * columns];
            for (std::uint64_t row = first; row < first + count; row += decoded_rows) {
                decode(row, out);
                keep_result(static_cast<double>(out[row % columns]));
            }
        });
    }

    void encode_by_ggml() {
        over_rows([&](std::uint64_t first, std::uint64_t count) {
            ggml_->encode(weights_.data() + first * columns, count, importance_used_, by_ggml_.data() + offset(first));
        });
    }

    void encode_by_us() {
        over_rows([&](std::uint64_t first, std::uint64_t count) {
            codec_->encode(weights_.data() + first * columns, first * columns, count * columns,
                           by_us_.data() + offset(first));
        });
    }

    void ggml_decode(std::uint64_t row, float* out) const {
        ggml_->decode(by_ggml_.data() + offset(row), decoded_rows * columns, out);
    }
    void our_decode(std::uint64_t row, float* out) const {
        codec_->decode(by_ggml_.data() + offset(row), row * columns, decoded_rows * columns, out);
    }
    void decode_by_ggml() {
        decode_rows([&](std::uint64_t row, float* out) { ggml_decode(row, out); });
    }
    void decode_by_us() {
        decode_rows([&](std::uint64_t row, float* out) { our_decode(row, out); });
    }

    bool decoded_alike() {
        std::atomic<bool> alike = true;
        decode_rows([&](std::uint64_t row, float* out) {
            float other[decoded_rows * columns];
            ggml_decode(row, other);
            our_decode(row, out);
            if (!std::equal(std::begin(other), std::end(other), out))
                alike = false;
        });
        return alike;
    }

    /// As many rows as ggml encodes in a tenth of the time that there is.
    std::uint64_t fitting_rows() {
        rows_ = slice_rows * static_cast<std::uint64_t>(options_.threads);
        encode_by_ggml();
        const double rate = static_cast<double>(rows_) / seconds_of([&] { encode_by_ggml(); });
        const auto rows = static_cast<std::uint64_t>(rate * options_.seconds / 10);
        return std::clamp(rows, least_rows, most_rows) / slice_rows * slice_rows;
    }

    void print(const std::string& format, const char* operation, Seconds seconds, bool identical) const {
        const double millions = 1e-6 * static_cast<double>(rows_ * columns);
        fmt::print("{:<24} {:<9} {:<6} {:>10.1f} {:>10.1f} {:>7.2f}  {}\n", format, ggml_->name, operation,
                   millions / seconds.ggml, millions / seconds.ours, seconds.ggml / seconds.ours,
                   identical ? "yes" : "NO");
        std::fflush(stdout);
    }

    const Options& options_;
    tbb::task_arena arena_;
    std::vector<float> weights_, importance_;
    std::vector<std::byte> by_ggml_, by_us_;
    std::unique_ptr<TensorCodec> codec_;
    const Peer* ggml_ = nullptr;
    const float* importance_used_ = nullptr;
    std::uint64_t rows_ = 0; ///< of the matrix, that are used
};

void run(const Options& options) {
    limit_targets(options.cap);
    ggml_cpu_init();
    const auto targets = hwy::SupportedTargets();
    fmt::print("{} thread{}, ours on {}\n\n", options.threads, options.threads == 1 ? "" : "s",
               hwy::TargetName(targets & -targets));
    Bench bench(options);
    Bench::print_heading();
    for (const Contest& contest : contests(options.formats))
        bench.run(contest);
}

} // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app("ggml's quantizers and ours on the same matrix");
    app.add_option("--formats", options.formats, "Formats to measure (default: all of ggml's)")->type_name("LIST");
    app.add_option("--threads", options.threads, "Threads")->check(CLI::Range(1, 1024))->capture_default_str();
    app.add_option("--cap", options.cap, "Limits our own instructions: avx2 or scalar")
        ->check(CLI::IsMember({"avx2", "scalar"}));
    app.add_option("--seconds", options.seconds, "Time for each row of the table")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--importance", options.importance, "With an importance matrix also where it is optional");
    CLI11_PARSE(app, argc, argv);
    try {
        run(options);
    } catch (const std::exception& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return 1;
    }
    return 0;
}
