#pragma once

#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/device/device.h"
#include "gpu/cuda.h"
#include "gpu/results.h"

namespace qs::cuda {

struct Workspace;

/// What tensors have in common that are worked on in the same way.
struct TensorKind {
    DType dtype;
    bool byte_swapped;
    TensorShape shape;
    bool has_importance;
    std::vector<FormatSpec> specs;
    bool operator==(const TensorKind&) const = default;
};

/// The work on a tensor of one kind as a graph: from the page-locked buffer that its bytes are put in to the results.
struct Recording {
    TensorKind kind;
    enum class State { wanted, made, refused } state = State::wanted;
    std::unique_ptr<GraphExec> graph;
    std::vector<const void*> buffers; ///< that the graph reads and writes
    std::optional<Results> results;
    std::vector<double> stored_bits; ///< of each format
};

/// The recordings of the kinds seen last.
class Recordings {
public:
    /// The recording of the kind; null where it has not been seen lately, which it then has.
    Recording* find_or_add(TensorKind kind);
    void clear() { recordings_.clear(); }

private:
    static constexpr std::size_t most = 32;
    std::list<Recording> recordings_; ///< the one used last is the first
};

/// As analyze(), for a small tensor of a kind that came before: its work is one graph, which is recorded for the second
/// of the kind and launched for all from then on. The first of them is done in the ordinary way, as recording takes
/// longer than doing the work once, and needs kernels that have been loaded. Nothing where the tensor is not small, is
/// the first, or cannot be done in this way.
std::optional<TensorReport> analyze_recorded(Workspace& work, const TensorView& tensor,
                                             std::span<const FormatSpec> specs, JobControl& job);

} // namespace qs::cuda
