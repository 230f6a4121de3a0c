#pragma once

#include <cstdint>

#include "gpu/fused.h"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

/// Scales whose scope is not a small block: a row, a group that does not divide the row, the whole tensor. A first pass
/// takes the extents of the scopes, then the scales are fitted, then codes are made by looking the scale up.
namespace qs::cuda {

/// The quotient; 64-bit division, which the device does in software, only where it is needed.
__device__ inline std::uint64_t divide(std::uint64_t a, std::uint64_t b) {
    if (((a | b) >> 32) == 0)
        return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
    return a / b;
}

/// Finds the scopes of the weights of one unit without dividing for every weight where rows and groups are long.
class ScopeWalk {
public:
    __device__ ScopeWalk(const ScopeMap& map, std::uint64_t first_weight)
        : map_(map), groups_(map.groups_per_row()), row_(divide(first_weight, map.row)),
          column_(first_weight - row_ * map.row), group_(divide(column_, map.group)),
          inside_(column_ - group_ * map.group) {}

    /// The scope of the weight at `position` from the first one.
    __device__ std::uint64_t scope_of(unsigned position) const {
        const std::uint64_t inside = inside_ + position, column = column_ + position;
        if (column < map_.row)
            return row_ * groups_ + group_ + (inside < map_.group ? 0 : divide(inside, map_.group));
        const std::uint64_t rows = divide(column, map_.row);
        const std::uint64_t left = column - rows * map_.row;
        return (row_ + rows) * groups_ + (left < map_.group ? 0 : divide(left, map_.group));
    }

private:
    ScopeMap map_;
    std::uint64_t groups_, row_, column_, group_, inside_;
};

/// A scope is looked at in runs of this many weights, one warp each; their extents are merged afterwards.
inline constexpr std::uint64_t run_weights = 2048;

/// The runs of all scopes, numbered scope by scope.
struct RunMap {
    ScopeMap scopes;
    std::uint64_t runs_per_scope;

    explicit RunMap(const ScopeMap& map) : scopes(map), runs_per_scope((map.group + run_weights - 1) / run_weights) {}
    std::uint64_t runs() const { return scopes.scopes() * runs_per_scope; }
    QS_HD std::uint64_t run_of(std::uint64_t weight) const {
        const std::uint64_t scope = scopes.scope_of(weight);
        return scope * runs_per_scope + (weight - scopes.begin_of(scope)) / run_weights;
    }
};

/// Extents of the part of each run that lies in the piece. Pieces come in order, so a run that the piece before began
/// is continued. The order inside a run is not kept: extents are minima, maxima and counts.
template <class Codec>
__global__ void __launch_bounds__(block_threads)
    scan_kernel(Piece piece, RunMap map, Codec codec, std::uint64_t first_run, std::uint64_t run_count,
                typename Codec::Extent* of_runs) {
    const std::uint64_t number = std::uint64_t{blockIdx.x} * block_warps + threadIdx.x / warp_threads;
    if (number >= run_count)
        return;
    const std::uint64_t run = first_run + number;
    const std::uint64_t scope = divide(run, map.runs_per_scope);
    const std::uint64_t run_begin = map.scopes.begin_of(scope) + (run - scope * map.runs_per_scope) * run_weights;
    const std::uint64_t scope_end = map.scopes.end_of(scope), piece_end = piece.begin + piece.count;
    std::uint64_t end = run_begin + run_weights;
    end = end < scope_end ? end : scope_end;
    end = end < piece_end ? end : piece_end;
    const std::uint64_t begin = run_begin > piece.begin ? run_begin : piece.begin;
    if (begin >= end)
        return;

    typename Codec::Extent extent;
    const unsigned lane = threadIdx.x % warp_threads;
    for (std::uint64_t at = begin + lane; at < end; at += warp_threads)
        codec.extend(extent, load_one(piece, at - piece.begin));
    extent = team_reduce(0xffffffffU, extent, warp_threads);
    if (lane != 0)
        return;
    if (begin == run_begin) {
        of_runs[run] = extent;
    } else {
        auto whole = of_runs[run];
        whole.merge(extent);
        of_runs[run] = whole;
    }
}

/// Enqueues the look at the extents of a piece.
template <class Codec>
void scan_extents(const Piece& piece, const RunMap& map, const Codec& codec, typename Codec::Extent* of_runs,
                  cudaStream_t stream) {
    const std::uint64_t first = map.run_of(piece.begin);
    const std::uint64_t count = map.run_of(piece.begin + piece.count - 1) - first + 1;
    launch({warps_for(count), stream}, scan_kernel<Codec>, piece, map, codec, first, count, of_runs);
}

/// One warp a scope: its extent, and the scale that the codec fits to it.
template <class Codec>
__global__ void __launch_bounds__(block_threads)
    fit_kernel(RunMap map, Codec codec, const typename Codec::Extent* of_runs, typename Codec::Scale* scales) {
    const std::uint64_t scope = std::uint64_t{blockIdx.x} * block_warps + threadIdx.x / warp_threads;
    if (scope >= map.scopes.scopes())
        return;
    const std::uint64_t weights = map.scopes.end_of(scope) - map.scopes.begin_of(scope);
    const std::uint64_t runs = (weights + run_weights - 1) / run_weights;
    typename Codec::Extent extent;
    for (std::uint64_t run = threadIdx.x % warp_threads; run < runs; run += warp_threads)
        extent.merge(of_runs[scope * map.runs_per_scope + run]);
    extent = team_reduce(0xffffffffU, extent, warp_threads);
    if (threadIdx.x % warp_threads == 0)
        scales[scope] = codec.fit(extent);
}

} // namespace qs::cuda
