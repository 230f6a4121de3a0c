#include "gpu/analysis.h"

#include <cstring>

#include "gpu/feed.h"
#include "gpu/tensor_work.h"

namespace qs::cuda {

namespace {

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

/// Nothing where TensorWork gives nothing.
std::optional<TensorReport> measure(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs,
                                    bool exact, JobControl& job) {
    const TensorWork todo(work, tensor, specs, exact);
    const bool at_once = is_one_piece(work, tensor);
    Feed feed(work, tensor, at_once ? 1 : todo.passes());
    if (at_once)
        feed.pass(job, [&](const Piece& piece) { todo.enqueue([&](auto visit) { visit(piece); }); });
    else
        todo.enqueue([&](auto visit) { feed.pass(job, visit); });
    work.compute.synchronize();
    return todo.report(tensor.shape, specs);
}

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

int passes_for(const Runs& runs, int others) {
    const bool scans = std::any_of(runs.begin(), runs.end(), [](const auto& run) { return run->needs_scan(); });
    return others + (scans ? 1 : 0);
}

TensorReport analyze(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) {
    if (auto report = analyze_recorded(work, tensor, specs, job))
        return *report;
    const bool exact = tensor.shape.count() < inexact_from;
    if (auto report = measure(work, tensor, specs, exact, job))
        return *report;
    work.scratch.rewind();
    JobControl again(&job);
    return *measure(work, tensor, specs, true, again);
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
