#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <vector>

#include "core/base/half.h"
#include "core/device/device.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"

// Each format on one core, on bf16 weights four times as large as a usual last-level cache. "bytes" are those of the
// input; `read` is the memory itself, to compare with in the same run.

namespace {

using namespace qs;

constexpr TensorShape shape{16384, 4096};
constexpr std::size_t tile = 4 * shape.columns;

const std::vector<std::uint16_t>& weights() {
    static const auto made = [] {
        std::mt19937 engine(1);
        std::normal_distribution<float> normal(0, 0.02F);
        std::vector<std::uint16_t> words(shape.count());
        for (std::size_t i = 0; i < words.size(); ++i)
            words[i] = i < (1U << 20) ? float_to_bf16(normal(engine)) : words[i - (1U << 20)];
        return words;
    }();
    return made;
}

void count(benchmark::State& state, std::size_t weights_a_turn) {
    const auto done = static_cast<std::int64_t>(state.iterations() * weights_a_turn);
    state.SetItemsProcessed(done);
    state.SetBytesProcessed(2 * done);
}

/// Calls work(first element, weights as float32) for the tensor tile by tile, one tile a turn.
template <class Work>
void over_tiles(benchmark::State& state, TensorCodec& codec, Work work) {
    std::vector<float> buffer(tile);
    const auto load = [&](std::uint64_t at) {
        load_weights(DType::bf16, false, reinterpret_cast<const std::byte*>(weights().data()), at, tile, buffer.data());
    };
    if (codec.needs_scan()) {
        for (std::uint64_t at = 0; at < shape.count(); at += tile) {
            load(at);
            codec.scan(buffer.data(), at, tile);
        }
        codec.finish_scan();
    }
    std::uint64_t at = 0;
    for ([[maybe_unused]] auto turn : state) {
        load(at);
        work(at, buffer.data());
        at = (at + tile) % shape.count();
    }
    count(state, tile);
}

void encode(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bind_codec(spec, shape);
    std::vector<std::uint16_t> codes(tile);
    over_tiles(state, *codec, [&](std::uint64_t at, const float* w) {
        codec->quantize(w, at, tile, codes.data(), nullptr);
        benchmark::DoNotOptimize(codes.data());
    });
}

void encode_and_error(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bind_codec(spec, shape);
    ErrorSums sums;
    over_tiles(state, *codec, [&](std::uint64_t at, const float* w) {
        codec->evaluate(w, at, tile, sums, nullptr);
        benchmark::DoNotOptimize(sums);
    });
}

/// The form that reads stored words, where the format has one.
void error_from_words(benchmark::State& state, const FormatSpec& spec) {
    const auto codec = bind_codec(spec, shape);
    ErrorSums sums;
    std::uint64_t at = 0;
    for ([[maybe_unused]] auto turn : state) {
        benchmark::DoNotOptimize(codec->evaluate_bf16(weights().data() + at, at, tile, sums, nullptr));
        at = (at + tile) % shape.count();
    }
    count(state, tile);
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
        benchmark::RegisterBenchmark((format.id + "/encode+error").c_str(), encode_and_error, spec);
        if (bind_codec(spec, shape)->has_bf16_form())
            benchmark::RegisterBenchmark((format.id + "/encode+error from bf16").c_str(), error_from_words, spec);
    }
    benchmark::RunSpecifiedBenchmarks();
}
