#include "gpu/analysis.h"

#include <cstring>

#include "core/analysis/statistics.h"
#include "core/device/tiles.h"
#include "gpu/feed.h"
#include "gpu/statistics.h"

namespace qs::cuda {

namespace {

int passes_for(const Runs& runs, int others) {
    const bool scans = std::any_of(runs.begin(), runs.end(), [](const auto& run) { return run->needs_scan(); });
    return others + (scans ? 1 : 0);
}

BinCounts make_bins(Workspace& work, double low, double high, unsigned bins) {
    return {low, high, static_cast<double>(bins) / (high - low), bins, work.zeroed<Count>(std::size_t{bins} + 3)};
}

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

/// Brings one array of results back to the host: kernels write to the device, the copy goes to page-locked memory, and
/// from there to the caller's array while the next piece is worked on.
template <class T>
class Download {
public:
    /// A null `target` stands for an array that nobody wants.
    Download(T* target, std::uint64_t longest_piece) : target_(target), longest_(longest_piece) {
        if (target_ == nullptr)
            return;
        for (Slot& slot : slots_) {
            slot.device.template reserve_for<T>(longest_);
            slot.pinned.reserve(longest_ * sizeof(T));
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

    Slot& slot(std::uint64_t begin) { return slots_[begin / longest_ % 2]; }

    void collect(Slot& slot) {
        if (slot.count == 0)
            return;
        slot.done.synchronize();
        std::memcpy(target_ + slot.begin, slot.pinned.data(), slot.count * sizeof(T));
        slot.count = 0;
    }

    T* target_;
    std::uint64_t longest_;
    std::array<Slot, 2> slots_;
};

/// Statistics and errors of one tensor.
class TensorAnalysis {
public:
    /// `exact` as in FusedWork.
    TensorAnalysis(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job,
                   bool exact)
        : work_(work), tensor_(tensor), specs_(specs), job_(job), units_(units_in(tensor.shape.count())),
          runs_(work.make_runs(tensor.shape, tensor.importance, specs)), feed_(work, tensor, passes_for(runs_, 2)) {
        todo_.moments = work_.zeroed<Moments>(units_);
        todo_.exact = exact;
        for (const auto& run : runs_) {
            Sink sink;
            sink.errors = work_.zeroed<ErrorSums>(units_);
            sink.codes = static_cast<unsigned>(run->code_count());
            sink.usage = sink.codes == 0 ? nullptr : work_.zeroed<Count>(sink.codes);
            todo_.sinks.push_back(sink);
        }
    }

    /// Nothing where float32 was not good enough: a reconstruction overflowed, or next to nothing is left of the
    /// weights.
    std::optional<TensorReport> run() {
        scan(runs_, [&](auto visit) { feed_.pass(job_, visit); });
        feed_.pass(job_, [&](const Piece& piece) { todo_.enqueue(runs_, piece, work_.compute); });
        TensorReport report;
        report.statistics = statistics();
        for (std::size_t i = 0; i < specs_.size(); ++i) {
            report.results.push_back(result(i));
            ErrorSums& sums = report.results.back().sums;
            const bool lacks_w2 = !todo_.exact && runs_[i]->fused();
            if (lacks_w2 && !sums.complete(all_w2_, report.statistics.nan + report.statistics.inf))
                return std::nullopt;
        }
        return report;
    }

private:
    Statistics statistics() {
        Moments moments;
        for (const Moments& unit : work_.fetch(todo_.moments, units_))
            moments.merge(unit);
        all_w2_ = moments.m2 + static_cast<double>(moments.n) * moments.mean * moments.mean;
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
        const Sink& sink = todo_.sinks[i];
        for (const ErrorSums& unit : work_.fetch(sink.errors, units_))
            result.sums.merge(unit);
        if (sink.usage != nullptr) {
            const auto usage = work_.fetch(sink.usage, sink.codes);
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
    Feed feed_;
    PieceWork todo_;
    double all_w2_ = 0; ///< Σw² of the tensor
};

} // namespace

void PieceWork::enqueue(const Runs& runs, const Piece& piece, cudaStream_t stream) const {
    FusedWork fused;
    fused.moments = moments;
    fused.bins = bins;
    fused.exact = exact;
    const auto flush = [&] {
        run_fused(piece, fused, stream);
        fused.moments = nullptr;
        fused.bins = {};
        fused.count = 0;
    };
    for (std::size_t i = 0; i < runs.size(); ++i) {
        auto format = runs[i]->fused();
        if (!format) {
            runs[i]->run(piece, sinks[i]);
            continue;
        }
        format->sink = sinks[i];
        fused.formats[fused.count++] = *format;
        if (fused.count == FusedWork::most_formats)
            flush();
    }
    if (fused.count > 0 || fused.moments != nullptr || fused.bins.counts != nullptr)
        flush();
}

TensorReport analyze(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) {
    const bool exact = tensor.shape.count() < inexact_from;
    if (auto report = TensorAnalysis(work, tensor, specs, job, exact).run())
        return *report;
    work.scratch.rewind();
    JobControl again(&job);
    return *TensorAnalysis(work, tensor, specs, again, true).run();
}

HistogramSet histogram(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, double low,
                       double high, unsigned bins, JobControl& job) {
    const Runs runs = work.make_runs(tensor.shape, tensor.importance, specs);
    Feed feed(work, tensor, passes_for(runs, 1));
    PieceWork todo;
    todo.bins = make_bins(work, low, high, bins);
    for (std::size_t i = 0; i < runs.size(); ++i) {
        Sink sink;
        sink.bins = make_bins(work, low, high, bins);
        todo.sinks.push_back(sink);
    }
    scan(runs, [&](auto visit) { feed.pass(job, visit); });
    feed.pass(job, [&](const Piece& piece) { todo.enqueue(runs, piece, work.compute); });
    HistogramSet set{to_histogram(work, todo.bins), {}};
    for (const Sink& sink : todo.sinks)
        set.reconstructions.push_back(to_histogram(work, sink.bins));
    return set;
}

double quantize(Workspace& work, const float* weights, const TensorShape& shape, const FormatSpec& spec,
                const float* importance, std::uint16_t* codes, float* decoded, JobControl& job) {
    const TensorView view{DType::f32, false, reinterpret_cast<const std::byte*>(weights), shape, nullptr, importance};
    const Runs runs = work.make_runs(shape, importance, std::span(&spec, 1));
    Feed feed(work, view, passes_for(runs, 1));
    const std::uint64_t longest = std::clamp<std::uint64_t>(shape.count(), 1, work.piece_weights);
    Download<std::uint16_t> code_download(codes, longest);
    Download<float> decoded_download(decoded, longest);
    scan(runs, [&](auto visit) { feed.pass(job, visit); });
    feed.pass(
        job,
        [&](const Piece& piece) {
            Sink sink;
            sink.codes16 = code_download.room_for(piece);
            sink.decoded = decoded_download.room_for(piece);
            runs[0]->run(piece, sink);
            code_download.enqueue(piece, work.compute);
            decoded_download.enqueue(piece, work.compute);
        },
        work.piece_weights);
    code_download.finish();
    decoded_download.finish();
    return runs[0]->stored_bits();
}

} // namespace qs::cuda
