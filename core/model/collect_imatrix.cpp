#include "core/model/collect_imatrix.h"

#include <tbb/task_arena.h>

#include <map>
#include <span>
#include <string>

#include "core/analysis/importance.h"
#include "core/base/error.h"

namespace qs {

namespace {

/// Bytes of hidden states of windows that go through the layers together.
constexpr std::size_t most_hidden_bytes = std::size_t{512} << 20;

/// Past the last of the windows from `first` on that go together.
std::size_t group_end(const std::vector<std::vector<int>>& windows, std::size_t first, Index hidden) {
    const std::size_t most = most_hidden_bytes / (static_cast<std::size_t>(hidden) * sizeof(float));
    std::size_t end = first, tokens = 0;
    do
        tokens += windows[end++].size();
    while (end < windows.size() && tokens + windows[end].size() <= most);
    return end;
}

void collect_group(const Decoder& decoder, std::span<const std::vector<int>> windows,
                   const std::map<std::size_t, std::string>& names, ImatrixCollector& collector, JobControl& job) {
    const auto observe = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix&) {
        if (const auto name = names.find(tensor.tensor); name != names.end())
            collector.add(name->second, inputs.data(), static_cast<std::size_t>(inputs.rows()),
                          static_cast<std::size_t>(inputs.cols()));
    };
    std::vector<Batch> batches = decoder.start(windows);
    LayerActivations activations;
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        decoder.advance(decoder.weights().layer(layer), batches, activations, observe, job);
        for (const Batch& batch : batches)
            job.advance(batch.tokens.size());
    }
}

} // namespace

std::vector<LinearTensor> collect_imatrix(const Decoder& decoder, const std::vector<std::vector<int>>& windows,
                                          ImatrixCollector& collector, JobControl& job, int threads) {
    if (windows.empty())
        throw Error("the text", "is too short to collect anything", "give a longer text");
    const Checkpoint& checkpoint = decoder.weights().checkpoint();
    std::map<std::size_t, std::string> names;
    std::vector<LinearTensor> unknown;
    for (LinearTensor& linear : decoder.weights().linears()) {
        std::string name = importance_name(checkpoint, checkpoint.tensors[linear.tensor]);
        if (name.empty())
            unknown.push_back(std::move(linear));
        else
            names[linear.tensor] = std::move(name);
    }
    std::uint64_t tokens = 0;
    for (const auto& window : windows)
        tokens += window.size();
    job.set_total(tokens * static_cast<std::uint64_t>(decoder.config().layers));
    tbb::task_arena arena(threads > 0 ? threads : tbb::task_arena::automatic);
    arena.execute([&] {
        for (std::size_t first = 0, end = 0; first < windows.size(); first = end) {
            end = group_end(windows, first, decoder.config().hidden);
            collect_group(decoder, std::span(windows).subspan(first, end - first), names, collector, job);
        }
    });
    return unknown;
}

} // namespace qs
