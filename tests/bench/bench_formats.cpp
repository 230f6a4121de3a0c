#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "core/device/bench.h"
#include "core/device/device.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"

// Each format on one core. encode goes from bf16 weights, far more than the caches hold, to stored bytes; decode from
// stored bytes to a small buffer; encode+error from weights to error sums. "bytes" are those of the input; `read` is
// the memory itself, to compare with in the same run.

namespace {

using namespace qs;

constexpr std::size_t tile = 4 * bench_columns;
const TensorShape shape{bench_weights().size() / bench_columns, bench_columns};

void load(std::uint64_t begin, std::vector<float>& into) {
    into.resize(tile);
    load_weights(DType::bf16, false, reinterpret_cast<const std::byte*>(bench_weights().data()), begin, tile,
                 into.data());
}

void count(benchmark::State& state, double input_bytes_a_weight) {
    const auto weights = static_cast<double>(state.iterations()) * tile;
    state.SetItemsProcessed(static_cast<std::int64_t>(weights));
    state.SetBytesProcessed(static_cast<std::int64_t>(weights * input_bytes_a_weight));
}

/// The format bound to the whole matrix, after its scan; with importances where it requires them.
std::unique_ptr<TensorCodec> bound(const FormatSpec& spec) {
    static const std::vector<float> importance = make_bench_importance(bench_columns);
    const bool required = format(spec.id).importance == Importance::required;
    auto codec = bind_codec(spec, shape, required ? importance.data() : nullptr);
    if (!codec->needs_scan())
        return codec;
    std::vector<float> weights;
    for (std::uint64_t at = 0; at < bench_period; at += tile) {
        load(at, weights);
        codec->scan(weights.data(), at, tile);
    }
    codec->finish_scan();
    return codec;
}

/// Calls work(first element, weights as float32) for the tensor tile by tile, one tile a turn.
template <class Work>
void over_tiles(benchmark::State& state, Work work) {
    std::vector<float> weights;
    std::uint64_t at = 0;
    for ([[maybe_unused]] auto turn : state) {
        load(at, weights);
        work(at, weights.data());
        at = (at + tile) % shape.count();
    }
    count(state, sizeof(std::uint16_t));
}

void encode(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bound(spec);
    std::vector<std::byte> stored(codec->encoded_bytes(0, tile));
    over_tiles(state, [&](std::uint64_t at, const float* weights) {
        codec->encode(weights, at, tile, stored.data());
        benchmark::DoNotOptimize(stored.data());
    });
}

/// Of the same few tiles again and again: slow formats would need too long to encode more than the caches hold.
void decode(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bound(spec);
    constexpr std::size_t tiles = 4;
    const std::size_t tile_bytes = codec->encoded_bytes(0, tile);
    std::vector<std::byte> stored(tiles * tile_bytes);
    std::vector<float> weights;
    for (std::size_t i = 0; i < tiles; ++i) {
        load(i * tile, weights);
        codec->encode(weights.data(), i * tile, tile, stored.data() + i * tile_bytes);
    }
    std::size_t i = 0;
    for ([[maybe_unused]] auto turn : state) {
        codec->decode(stored.data() + i * tile_bytes, i * tile, tile, weights.data());
        benchmark::DoNotOptimize(weights.data());
        i = (i + 1) % tiles;
    }
    count(state, static_cast<double>(tile_bytes) / tile);
}

void encode_and_error(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bound(spec);
    ErrorSums sums;
    over_tiles(state, [&](std::uint64_t at, const float* weights) {
        codec->evaluate(weights, at, tile, sums, nullptr);
        benchmark::DoNotOptimize(sums);
    });
}

/// The form that reads stored words, where the format has one.
void error_from_words(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bound(spec);
    ErrorSums sums;
    std::uint64_t at = 0;
    for ([[maybe_unused]] auto turn : state) {
        benchmark::DoNotOptimize(codec->evaluate_bf16(bench_weights().data() + at, at, tile, sums, nullptr));
        at = (at + tile) % shape.count();
    }
    count(state, sizeof(std::uint16_t));
}

void read(benchmark::State& state) {
    const auto device = make_cpu_device(1);
    JobControl job;
    double gbps = 0;
    for ([[maybe_unused]] auto turn : state)
        gbps = device->measure_read_gbps(1, job);
    state.counters["GB/s"] = gbps;
}

} // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RegisterBenchmark("read", read)->Iterations(1);
    for (const Format& format : formats()) {
        const FormatSpec spec = parse_spec(format.id);
        benchmark::RegisterBenchmark((format.id + "/encode").c_str(), encode, spec);
        benchmark::RegisterBenchmark((format.id + "/decode").c_str(), decode, spec);
        benchmark::RegisterBenchmark((format.id + "/encode+error").c_str(), encode_and_error, spec);
        if (bind_codec(spec, shape)->has_bf16_form())
            benchmark::RegisterBenchmark((format.id + "/encode+error from bf16").c_str(), error_from_words, spec);
    }
    benchmark::RunSpecifiedBenchmarks();
}
