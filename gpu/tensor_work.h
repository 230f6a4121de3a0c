#pragma once

#include <optional>

#include "gpu/analysis.h"
#include "gpu/results.h"

namespace qs::cuda {

/// Statistics and errors of one tensor: what is enqueued for them, and what they are.
class TensorWork {
public:
    /// `exact` as in FusedWork.
    TensorWork(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, bool exact);

    /// How often enqueue() goes over the tensor.
    int passes() const;
    /// Whether enqueue() does the same for every tensor of the shape; see FormatRun::repeats().
    bool repeats() const;

    /// Enqueues all of the work. `pass(visit)` calls visit(piece) for all pieces.
    template <class Pass>
    void enqueue(Pass pass) const {
        results_.enqueue_zero(stream_);
        scan(runs_, pass);
        pass([&](const Piece& piece) { todo_.enqueue(runs_, piece, stream_); });
        results_.enqueue_merge(stream_);
        pass([&](const Piece& piece) { results_.enqueue_beyond_sigma(piece, stream_); });
        results_.enqueue_fetch(stream_);
    }

    /// After all of the work is done. Nothing where float32 was not good enough: a reconstruction overflowed, or next
    /// to nothing is left of the weights.
    std::optional<TensorReport> report(const TensorShape& shape, std::span<const FormatSpec> specs) const;

    const Results& results() const { return results_; }
    std::vector<double> stored_bits() const;

private:
    cudaStream_t stream_;
    Runs runs_;
    Results results_;
    PieceWork todo_;
};

/// What `results` say of a tensor; `stored_bits` of each format.
TensorReport to_report(const Results& results, const TensorShape& shape, std::span<const FormatSpec> specs,
                       std::span<const double> stored_bits);

} // namespace qs::cuda
