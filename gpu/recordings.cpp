#include "gpu/recordings.h"

#include <algorithm>

#include "gpu/feed.h"
#include "gpu/tensor_work.h"

namespace qs::cuda {

namespace {

/// Where the buffers lie that the work on a tensor of one piece uses, given how many of the scratch. They only grow
/// until all are cleared, and the recordings with them: at the same address there is at least the same room.
std::vector<const void*> addresses(const Workspace& work, std::size_t scratch_buffers) {
    const FeedBuffers::Slot& slot = work.feed.slots[0];
    std::vector<const void*> all{slot.pinned.data(), slot.stored.as<void>(), slot.weights.as<void>(),
                                 work.results.device.as<void>(), work.results.pinned.data()};
    for (std::size_t i = 0; i < scratch_buffers && i < work.scratch.size(); ++i)
        all.push_back(work.scratch[i].as<void>());
    return all;
}

bool is_valid(const Recording& recording, const Workspace& work) {
    const std::size_t others = addresses(work, 0).size();
    return recording.state == Recording::State::made &&
           recording.buffers == addresses(work, recording.buffers.size() - others);
}

/// Tensors of one piece are summed exactly.
static_assert(usual_piece_weights < inexact_from);

/// Records the work; nothing is waited for, and no memory allocated, while it is.
void record(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, Recording& recording) {
    recording.state = Recording::State::refused;
    recording.graph.reset();
    const TensorWork todo(work, tensor, specs, true);
    if (!todo.repeats())
        return;
    const PieceFeed feed(work.feed.slots[0], tensor);
    Capture capture(work.compute);
    const Piece piece = feed.enqueue(work.compute);
    todo.enqueue([&](auto visit) { visit(piece); });
    recording.graph = std::make_unique<GraphExec>(capture.finish());
    recording.buffers = addresses(work, work.scratch.taken());
    recording.results = todo.results();
    recording.stored_bits = todo.stored_bits();
    recording.state = Recording::State::made;
}

/// Whether there is a recording that can be launched.
bool make_ready(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, Recording& recording) {
    if (is_valid(recording, work))
        return true;
    if (recording.state == Recording::State::refused)
        return false;
    try {
        record(work, tensor, specs, recording);
    } catch (const Error&) {
        // Whatever it was, the ordinary way copes with it, or fails with what there is to say.
    }
    work.scratch.rewind();
    return recording.state == Recording::State::made;
}

} // namespace

Recording* Recordings::find_or_add(TensorKind kind) {
    const auto found = std::ranges::find(recordings_, kind, &Recording::kind);
    if (found != recordings_.end()) {
        recordings_.splice(recordings_.begin(), recordings_, found);
        return &recordings_.front();
    }
    if (recordings_.size() == most)
        recordings_.pop_back();
    recordings_.emplace_front().kind = std::move(kind);
    return nullptr;
}

std::optional<TensorReport> analyze_recorded(Workspace& work, const TensorView& tensor,
                                             std::span<const FormatSpec> specs, JobControl& job) {
    if (!is_one_piece(work, tensor))
        return std::nullopt;
    // A small tensor does not come to stay: allocating room for it would take longer than copying it again. Where it is
    // already, because it was looked at in another way or as the first of its kind, nothing needs to be copied.
    if (work.residents.holds(resident_key(tensor)))
        return std::nullopt;
    Recording* recording = work.recordings.find_or_add(
        {tensor.dtype, tensor.byte_swapped, tensor.shape, tensor.importance != nullptr, {specs.begin(), specs.end()}});
    if (recording == nullptr || !make_ready(work, tensor, specs, *recording))
        return std::nullopt;
    job.check();
    PieceFeed(work.feed.slots[0], tensor).fill();
    recording->graph->launch(work.compute);
    work.compute.synchronize();
    work.advance(stored_bytes(tensor.dtype, tensor.shape.count()), job);
    return to_report(*recording->results, tensor.shape, specs, recording->stored_bits);
}

} // namespace qs::cuda
