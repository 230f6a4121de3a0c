#pragma once

#include "gpu/workspace.h"

/// The work of Device on one tensor, in a workspace.
namespace qs::cuda {

TensorReport analyze(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job);

HistogramSet histogram(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, double low,
                       double high, unsigned bins, JobControl& job);

double quantize(Workspace& work, const float* weights, const TensorShape& shape, const FormatSpec& spec,
                const float* importance, std::uint16_t* codes, float* decoded, JobControl& job);

/// Adds everything that `runs` and the statistics want of the piece to where they want it; `sinks` has one a run.
/// Formats that the fused kernels know go through one pass.
struct PieceWork {
    Moments* moments = nullptr;
    BinCounts bins;
    bool exact = true;
    std::vector<Sink> sinks;

    void enqueue(const Runs& runs, const Piece& piece, cudaStream_t stream) const;
};

/// Passes over the tensor: `others`, and one for a scan where a run needs it.
int passes_for(const Runs& runs, int others);

/// Lets the runs that need it look at the whole tensor. `pass(visit)` calls visit(piece) for all pieces.
template <class Pass>
void scan(const Runs& runs, Pass pass) {
    if (std::none_of(runs.begin(), runs.end(), [](const auto& run) { return run->needs_scan(); }))
        return;
    pass([&](const Piece& piece) {
        for (const auto& run : runs)
            if (run->needs_scan())
                run->scan(piece);
    });
    for (const auto& run : runs)
        if (run->needs_scan())
            run->finish_scan();
}

} // namespace qs::cuda
