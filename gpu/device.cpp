#include "gpu/device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/analysis/statistics.h"
#include "core/device/bench.h"
#include "core/device/tiles.h"
#include "gpu/algebra.h"
#include "gpu/cuda.h"
#include "gpu/feed.h"
#include "gpu/format_run.h"
#include "gpu/measure.h"
#include "gpu/statistics.h"

namespace qs::cuda {

namespace {

using Runs = std::vector<std::unique_ptr<FormatRun>>;

/// What calls share: the streams and the buffers of one GPU.
struct Workspace {
    Stream compute;
    FeedBuffers feed;
    Scratch scratch;

    /// How large a tensor may be to stay on the device while it is worked on.
    std::size_t resident_limit() const {
        std::size_t free = 0, total = 0;
        QS_CUDA_CHECK(cudaMemGetInfo(&free, &total));
        return (free + feed.resident.size()) / 2;
    }

    /// `count` values of zero bytes in device memory.
    template <class T>
    T* zeroed(std::size_t count) {
        T* data = scratch.take().reserve_for<T>(std::max<std::size_t>(count, 1));
        QS_CUDA_CHECK(cudaMemsetAsync(data, 0, count * sizeof(T), compute));
        return data;
    }

    template <class T>
    std::vector<T> fetch(const T* data, std::size_t count) const {
        std::vector<T> result(count);
        QS_CUDA_CHECK(cudaMemcpyAsync(result.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost, compute));
        compute.synchronize();
        return result;
    }

    Runs make_runs(const TensorShape& shape, std::span<const FormatSpec> specs) {
        Runs runs;
        for (const FormatSpec& spec : specs)
            runs.push_back(make_run(effective_spec(spec, shape), shape, scratch));
        return runs;
    }
};

bool any_needs_scan(const Runs& runs) {
    return std::any_of(runs.begin(), runs.end(), [](const auto& run) { return run->needs_scan(); });
}

void scan(Feed& feed, const Runs& runs, cudaStream_t stream, JobControl& job) {
    if (!any_needs_scan(runs))
        return;
    feed.pass(job, [&](const Piece& piece) {
        for (const auto& run : runs)
            if (run->needs_scan())
                run->scan(piece, stream);
    });
    for (const auto& run : runs)
        if (run->needs_scan())
            run->finish_scan(stream);
}

/// Statistics and errors of one tensor.
class TensorAnalysis {
public:
    TensorAnalysis(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job)
        : work_(work), tensor_(tensor), specs_(specs), job_(job), units_(units_in(tensor.shape.count())),
          runs_(work.make_runs(tensor.shape, specs)),
          by_patterns_(counts_patterns(tensor.dtype, tensor.byte_swapped, tensor.shape.count())),
          feed_(work.feed, tensor, (any_needs_scan(runs_) ? 1 : 0) + 1 + (by_patterns_ ? 0 : 1), work.resident_limit(),
                work.compute) {
        if (by_patterns_)
            patterns_ = work_.zeroed<Count>(pattern_count);
        else
            moments_ = work_.zeroed<Moments>(units_);
        for (const auto& run : runs_) {
            const std::size_t codes = run->code_count();
            targets_.push_back({work_.zeroed<ErrorSums>(units_), codes == 0 ? nullptr : work_.zeroed<Count>(codes)});
        }
    }

    TensorReport run() {
        scan(feed_, runs_, work_.compute, job_);
        feed_.pass(job_, [&](const Piece& piece) { measure(piece); });
        TensorReport report;
        report.statistics = by_patterns_ ? pattern_statistics() : moment_statistics();
        for (std::size_t i = 0; i < specs_.size(); ++i)
            report.results.push_back(result(i));
        return report;
    }

private:
    void measure(const Piece& piece) {
        if (by_patterns_)
            count_patterns(piece, patterns_, work_.compute);
        else
            measure_moments(piece, moments_, work_.compute);
        for (std::size_t i = 0; i < runs_.size(); ++i)
            runs_[i]->evaluate(piece, targets_[i], work_.compute);
    }

    Statistics pattern_statistics() const {
        const auto counts = work_.fetch(patterns_, pattern_count);
        const std::vector<std::uint64_t> patterns(counts.begin(), counts.end());
        return statistics_of_patterns(patterns, tensor_.dtype);
    }

    Statistics moment_statistics() {
        Moments moments;
        for (const Moments& unit : work_.fetch(moments_, units_))
            moments.merge(unit);
        Statistics statistics = finish(moments);
        auto* beyond = work_.zeroed<Count>(2);
        feed_.pass(job_, [&](const Piece& piece) {
            count_beyond_sigma(piece, statistics.mean, statistics.std, beyond, work_.compute);
        });
        const auto counts = work_.fetch(beyond, 2);
        statistics.beyond_3_sigma = counts[0];
        statistics.beyond_6_sigma = counts[1];
        return statistics;
    }

    FormatResult result(std::size_t i) const {
        FormatResult result = unmeasured(specs_[i], tensor_.shape, runs_[i]->stored_bits());
        for (const ErrorSums& unit : work_.fetch(targets_[i].units, units_))
            result.sums.merge(unit);
        if (targets_[i].usage != nullptr) {
            const auto usage = work_.fetch(targets_[i].usage, runs_[i]->code_count());
            result.usage.assign(usage.begin(), usage.end());
        }
        return result;
    }

    Workspace& work_;
    const TensorView& tensor_;
    std::span<const FormatSpec> specs_;
    JobControl& job_;
    std::size_t units_;
    Runs runs_;
    bool by_patterns_;
    Feed feed_;
    Count* patterns_ = nullptr;
    Moments* moments_ = nullptr;
    std::vector<ErrorTarget> targets_;
};

Histogram to_histogram(const Workspace& work, const BinCounts& bins) {
    const auto counts = work.fetch(bins.counts, std::size_t{bins.bins} + 3);
    Histogram histogram;
    histogram.low = bins.low;
    histogram.high = bins.high;
    histogram.counts.assign(counts.begin(), counts.begin() + bins.bins);
    histogram.below = counts[bins.bins];
    histogram.above = counts[bins.bins + 1];
    histogram.nonfinite = counts[bins.bins + 2];
    return histogram;
}

HistogramSet make_histogram(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, double low,
                            double high, unsigned bins, JobControl& job) {
    const Runs runs = work.make_runs(tensor.shape, specs);
    Feed feed(work.feed, tensor, any_needs_scan(runs) ? 2 : 1, work.resident_limit(), work.compute);
    const auto new_bins = [&] {
        return BinCounts{low, high, static_cast<double>(bins) / (high - low), bins,
                         work.zeroed<Count>(std::size_t{bins} + 3)};
    };
    const BinCounts of_weights = new_bins();
    std::vector<BinCounts> of_runs;
    for (std::size_t i = 0; i < runs.size(); ++i)
        of_runs.push_back(new_bins());
    scan(feed, runs, work.compute, job);
    feed.pass(job, [&](const Piece& piece) {
        count_bins(piece, of_weights, work.compute);
        for (std::size_t i = 0; i < runs.size(); ++i)
            runs[i]->histogram(piece, of_runs[i], work.compute);
    });
    HistogramSet set{to_histogram(work, of_weights), {}};
    for (const BinCounts& counts : of_runs)
        set.reconstructions.push_back(to_histogram(work, counts));
    return set;
}

/// Brings one array of results back to the host: kernels write to the device, the copy goes to page-locked memory, and
/// from there to the caller's array while the next piece is worked on.
template <class T>
class Download {
public:
    /// A null `target` stands for an array that nobody wants.
    explicit Download(T* target, std::uint64_t weights) : target_(target) {
        if (target_ == nullptr)
            return;
        for (Slot& slot : slots_) {
            slot.device.template reserve_for<T>(weights);
            slot.pinned.reserve(weights * sizeof(T));
        }
    }

    /// Where the kernels write the results of the piece; null where nobody wants them.
    T* room_for(const Piece& piece) {
        if (target_ == nullptr)
            return nullptr;
        collect(slot(piece.begin));
        return slot(piece.begin).device.template as<T>();
    }

    /// Enqueues the copy of what the kernels wrote.
    void enqueue(const Piece& piece, cudaStream_t stream) {
        if (target_ == nullptr)
            return;
        Slot& slot = this->slot(piece.begin);
        slot.begin = piece.begin;
        slot.count = static_cast<std::size_t>(piece.count);
        QS_CUDA_CHECK(cudaMemcpyAsync(slot.pinned.data(), slot.device.template as<T>(), slot.count * sizeof(T),
                                      cudaMemcpyDeviceToHost, stream));
        slot.done.record(stream);
    }

    void finish() {
        for (Slot& slot : slots_)
            collect(slot);
    }

private:
    struct Slot {
        DeviceBuffer device;
        PinnedBuffer pinned;
        Event done;
        std::uint64_t begin = 0;
        std::size_t count = 0;
    };

    Slot& slot(std::uint64_t begin) { return slots_[begin / piece_weights % 2]; }

    void collect(Slot& slot) {
        if (slot.count == 0)
            return;
        slot.done.synchronize();
        std::memcpy(target_ + slot.begin, slot.pinned.data(), slot.count * sizeof(T));
        slot.count = 0;
    }

    T* target_;
    std::array<Slot, 2> slots_;
};

double quantize_matrix(Workspace& work, const float* weights, const TensorShape& shape, const FormatSpec& spec,
                       std::uint16_t* codes, float* decoded, JobControl& job) {
    const TensorView view{DType::f32, false, reinterpret_cast<const std::byte*>(weights), shape, nullptr};
    const Runs runs = work.make_runs(shape, std::span(&spec, 1));
    Feed feed(work.feed, view, any_needs_scan(runs) ? 2 : 1, work.resident_limit(), work.compute);
    const std::uint64_t longest = std::min(shape.count(), piece_weights);
    Download<std::uint16_t> code_download(codes, longest);
    Download<float> decoded_download(decoded, longest);
    scan(feed, runs, work.compute, job);
    feed.pass(
        job,
        [&](const Piece& piece) {
            runs[0]->quantize(piece, code_download.room_for(piece), decoded_download.room_for(piece), work.compute);
            code_download.enqueue(piece, work.compute);
            decoded_download.enqueue(piece, work.compute);
        },
        piece_weights);
    code_download.finish();
    decoded_download.finish();
    return runs[0]->stored_bits();
}

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

/// The specs of a call, parted by who can do them; effective ones decide.
class Parted {
public:
    Parted(const TensorView& tensor, std::span<const FormatSpec> specs) {
        for (const FormatSpec& spec : specs) {
            const bool here = has_kernels(effective_spec(spec, tensor.shape), tensor.importance);
            on_gpu_.push_back(here);
            (here ? gpu : cpu).push_back(spec);
        }
    }

    std::vector<FormatSpec> gpu, cpu;

    /// Results of both in the order of the specs.
    template <class Result>
    std::vector<Result> merged(std::vector<Result> of_gpu, std::vector<Result> of_cpu) const {
        std::vector<Result> all;
        auto next_gpu = of_gpu.begin(), next_cpu = of_cpu.begin();
        for (const bool here : on_gpu_)
            all.push_back(std::move(here ? *next_gpu++ : *next_cpu++));
        return all;
    }

private:
    std::vector<bool> on_gpu_;
};

/// Formats without kernels, those given importance, and tensors that the GPU cannot read are left to the CPU.
class CudaDevice final : public Device {
public:
    explicit CudaDevice(int ordinal, const DeviceInfo& info) : ordinal_(ordinal), info_(info) {}

    DeviceInfo info() const override { return info_; }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        const Parted parted(tensor, specs);
        if (!reads(tensor) || (parted.gpu.empty() && !specs.empty()))
            return cpu_->analyze(tensor, specs, job);
        const auto here = [&](JobControl& its_job) {
            return run([&](Workspace& work) { return TensorAnalysis(work, tensor, parted.gpu, its_job).run(); });
        };
        if (parted.cpu.empty())
            return here(job);
        // The progress is that of the slower one.
        JobControl part(&job);
        TensorReport report = here(part);
        report.results = parted.merged(std::move(report.results), cpu_->analyze(tensor, parted.cpu, job).results);
        return report;
    }

    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        if (bins == 0 || !(low < high))
            throw Error("histogram", "needs at least one bin and a range that is not empty");
        if (bins > max_bins)
            throw Error("histogram", "has more than " + std::to_string(max_bins) + " bins", "ask for fewer bins");
        const Parted parted(tensor, specs);
        if (!reads(tensor) || (parted.gpu.empty() && !specs.empty()))
            return cpu_->histogram(tensor, specs, low, high, bins, job);
        HistogramSet set = run([&](Workspace& work) {
            return make_histogram(work, tensor, parted.gpu, low, high, static_cast<unsigned>(bins), job);
        });
        if (!parted.cpu.empty())
            set.reconstructions =
                parted.merged(std::move(set.reconstructions),
                              cpu_->histogram(tensor, parted.cpu, low, high, bins, job).reconstructions);
        return set;
    }

    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        if (!has_kernels(spec, importance))
            return cpu_->quantize(weights, shape, spec, importance, codes, decoded, job);
        return run([&](Workspace& work) { return quantize_matrix(work, weights, shape, spec, codes, decoded, job); });
    }

    Algebra& algebra() override { return *algebra_; }

    double measure_read_gbps(int, JobControl& job) override {
        return run([&](Workspace& work) {
            constexpr std::size_t bytes = std::size_t{1} << 30;
            const auto* data = work.zeroed<std::byte>(bytes);
            auto* sink = work.zeroed<std::uint32_t>(1);
            return 1e-9 * static_cast<double>(bytes) /
                   best_device_seconds(work.compute, job, [&] { read_all(data, bytes, sink, work.compute); });
        });
    }

    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                      JobControl& job) override {
        BenchResult result = unmeasured_bench(specs, operation, threads);
        if (!std::all_of(specs.begin(), specs.end(), [](const auto& spec) { return has_kernels(spec, nullptr); }))
            result.skipped = "has no kernels: runs on the CPU";
        else if (operation == "decode")
            result.skipped = "not measured on CUDA";
        if (!result.skipped.empty())
            return result;
        const bool with_error = operation == "encode+error";
        const double seconds = run([&](Workspace& work) { return bench_seconds(work, specs, with_error, job); });
        result.weights_per_second = static_cast<double>(bench_weights().size()) / seconds;
        result.input_gbps = 2e-9 * result.weights_per_second;
        return result;
    }

private:
    static constexpr std::size_t max_bins = std::size_t{1} << 24;

    /// One call at a time has the GPU.
    template <class Body>
    std::invoke_result_t<Body, Workspace&> run(Body body) {
        const std::lock_guard lock(mutex_);
        const CurrentDevice current(ordinal_);
        if (!work_)
            work_ = std::make_unique<Workspace>();
        work_->scratch.rewind();
        return body(*work_);
    }

    static bool reads(const TensorView& tensor) { return can_convert(tensor.dtype); }

    /// Scales, where they need a look at whole rows or the tensor, are part of what is timed.
    static double bench_seconds(Workspace& work, std::span<const FormatSpec> specs, bool with_error, JobControl& job) {
        const auto& weights = bench_weights();
        const Runs runs = work.make_runs({weights.size() / bench_columns, bench_columns}, specs);
        auto* data = work.scratch.take().reserve_for<std::uint16_t>(weights.size());
        QS_CUDA_CHECK(cudaMemcpyAsync(data, weights.data(), weights.size() * sizeof(std::uint16_t),
                                      cudaMemcpyHostToDevice, work.compute));
        const Piece piece{NativeType::bf16, data, 0, weights.size()};
        const ErrorTarget target{work.zeroed<ErrorSums>(units_in(weights.size())), nullptr};
        auto* codes = work.scratch.take().reserve_for<std::uint16_t>(weights.size());
        return best_device_seconds(work.compute, job, [&] {
            for (const auto& run : runs) {
                if (run->needs_scan()) {
                    run->scan(piece, work.compute);
                    run->finish_scan(work.compute);
                }
                if (with_error)
                    run->evaluate(piece, target, work.compute);
                else
                    run->quantize(piece, codes, nullptr, work.compute);
            }
        });
    }

    std::unique_ptr<Device> cpu_ = make_cpu_device();
    int ordinal_;
    DeviceInfo info_;
    std::mutex mutex_;
    std::unique_ptr<Workspace> work_;
    std::unique_ptr<Algebra> algebra_ = make_cuda_algebra(ordinal_, cpu_->algebra());
};

} // namespace

std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceInfo& info) {
    return std::make_unique<CudaDevice>(ordinal, info);
}

} // namespace qs::cuda
