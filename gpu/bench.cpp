#include "gpu/bench.h"

#include <limits>

#include "core/device/bench.h"
#include "core/device/tiles.h"
#include "gpu/analysis.h"
#include "gpu/feed.h"
#include "gpu/measure.h"

namespace qs::cuda {

namespace {

/// Seconds of the fastest of several runs of `body`, at least three and at least 0.3 s in all, by the device's clock.
template <class Body>
double best_device_seconds(cudaStream_t stream, JobControl& job, Body body) {
    const Event start(true), stop(true);
    double best = std::numeric_limits<double>::infinity(), spent = 0;
    for (int run = 0; run < 3 || (spent < 0.3 && run < 1000); ++run) {
        job.check();
        start.record(stream);
        body();
        stop.record(stream);
        stop.synchronize();
        const double seconds = stop.seconds_since(start);
        best = std::min(best, seconds);
        spent += seconds;
    }
    return best;
}

/// Formats on weights that lie in device memory.
class ResidentBench {
public:
    ResidentBench(Workspace& work, std::span<const FormatSpec> specs, JobControl& job) : work_(work), job_(job) {
        const auto& weights = bench_weights();
        const TensorShape shape{weights.size() / bench_columns, bench_columns};
        const auto importance = make_bench_importance(bench_columns);
        const bool required = std::any_of(specs.begin(), specs.end(), [](const FormatSpec& spec) {
            return format(spec.id).importance == Importance::required;
        });
        runs_ = work.make_runs(shape, required ? importance.data() : nullptr, specs);
        auto* data = work.scratch.take_for<std::uint16_t>(weights.size());
        QS_CUDA_CHECK(cudaMemcpyAsync(data, weights.data(), weights.size() * sizeof(std::uint16_t),
                                      cudaMemcpyHostToDevice, work.compute));
        piece_ = {NativeType::bf16, data, 0, weights.size()};
        scan_all();
    }

    double error_seconds() {
        PieceWork todo;
        todo.exact = piece_.count < inexact_from;
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            Sink sink;
            sink.errors = work_.zeroed<ErrorSums>(units_in(piece_.count));
            todo.sinks.push_back(sink);
        }
        return seconds([&] {
            scan_all();
            todo.enqueue(runs_, piece_, work_.compute);
        });
    }

    double encode_seconds() {
        auto* encoded = work_.scratch.take_for<std::byte>(runs_[0]->encoded_bytes(piece_.count));
        return seconds([&] {
            scan_all();
            runs_[0]->encode(piece_, encoded);
        });
    }

    double decode_seconds() {
        auto* encoded = work_.scratch.take_for<std::byte>(runs_[0]->encoded_bytes(piece_.count));
        runs_[0]->encode(piece_, encoded);
        auto* decoded = work_.scratch.take_for<float>(piece_.count);
        return seconds([&] { runs_[0]->decode(encoded, piece_, decoded); });
    }

    std::size_t encoded_bytes() const { return runs_[0]->encoded_bytes(piece_.count); }

private:
    /// Scales, where they need a look at whole rows or the tensor, are part of what is timed.
    void scan_all() {
        scan(runs_, [&](auto visit) { visit(piece_); });
    }
    template <class Body>
    double seconds(Body body) const {
        return best_device_seconds(work_.compute, job_, body);
    }

    Workspace& work_;
    JobControl& job_;
    Runs runs_;
    Piece piece_{};
};

/// Weights that come from host memory, as in an analysis of a file that is in the page cache.
double stream_seconds(Workspace& work, std::span<const FormatSpec> specs, JobControl& job) {
    const auto& weights = bench_weights();
    const TensorShape shape{weights.size() / bench_columns, bench_columns};
    const TensorView view{DType::bf16, false, reinterpret_cast<const std::byte*>(weights.data()), shape};
    return best_seconds(job, 0.3, [&] {
        work.scratch.rewind();
        const Runs runs = work.make_runs(shape, nullptr, specs);
        Feed feed(work, view, 1);
        PieceWork todo;
        todo.exact = false;
        for (std::size_t i = 0; i < runs.size(); ++i) {
            Sink sink;
            sink.errors = work.zeroed<ErrorSums>(units_in(weights.size()));
            todo.sinks.push_back(sink);
        }
        JobControl own(&job);
        feed.pass(own, [&](const Piece& piece) { todo.enqueue(runs, piece, work.compute); });
    });
}

} // namespace

double measure_read_gbps(Workspace& work, JobControl& job) {
    constexpr std::size_t bytes = std::size_t{1} << 30;
    const auto* data = work.zeroed<std::byte>(bytes);
    auto* sink = work.zeroed<std::uint32_t>(1);
    return 1e-9 * static_cast<double>(bytes) /
           best_device_seconds(work.compute, job, [&] { read_all(data, bytes, sink, work.compute); });
}

double measure_copy_gbps(Workspace& work, JobControl& job) {
    constexpr std::size_t bytes = std::size_t{256} << 20;
    PinnedBuffer pinned;
    const std::byte* from = pinned.reserve(bytes);
    auto* to = work.scratch.take_for<std::byte>(bytes);
    return 1e-9 * static_cast<double>(bytes) / best_device_seconds(work.compute, job, [&] {
               QS_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, work.compute));
           });
}

BenchResult bench(Workspace& work, std::span<const FormatSpec> specs, const std::string& operation, JobControl& job) {
    BenchResult result = unmeasured_bench(specs, operation, 1);
    const auto count = static_cast<double>(bench_weights().size());
    double seconds = 0, bytes = 2 * count;
    if (operation == "stream+error") {
        seconds = stream_seconds(work, specs, job);
    } else {
        ResidentBench resident(work, specs, job);
        if (operation == "encode")
            seconds = resident.encode_seconds();
        else if (operation == "decode")
            seconds = resident.decode_seconds();
        else
            seconds = resident.error_seconds();
        if (operation == "decode")
            bytes = static_cast<double>(resident.encoded_bytes());
    }
    result.weights_per_second = count / seconds;
    result.input_gbps = 1e-9 * bytes / seconds;
    return result;
}

} // namespace qs::cuda
