#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/analysis/statistics.h"
#include "core/base/hd.h"
#include "core/formats/tensor_codec.h"
#include "gpu/piece.h"

namespace qs::cuda {

/// Counts on the device; 64 bits wide, so that no tensor overflows them.
using Count = unsigned long long;

/// Equal bins over [low, high]: counts[i] of bin i, then what lies below, above and is not finite
/// (`bins` + 3 counts in all). Without counts, no bins.
struct BinCounts {
    double low = 0, high = 0;
    double per_bin = 0;
    unsigned bins = 0;
    Count* counts = nullptr;
};

/// Where the codes and reconstructions of a format go. What is null is not wanted.
struct Sink {
    ErrorSums* errors = nullptr; ///< one for each unit of the tensor
    Count* usage = nullptr;      ///< per code
    unsigned codes = 0;          ///< distinct codes, where `usage` is wanted
    BinCounts bins;              ///< of the reconstructions
    std::uint8_t* codes8 = nullptr;
    std::uint16_t* codes16 = nullptr;
    std::uint32_t* codes32 = nullptr;
    float* decoded = nullptr;
};

/// How a tensor is divided into scopes: every run of `row` weights into groups of `group`, the last one possibly
/// shorter. A scope of a whole row has group = row; of the tensor, both are its count; flat blocks have row = count.
struct ScopeMap {
    std::uint64_t count = 0;
    std::uint64_t row = 1;
    std::uint64_t group = 1;

    QS_HD std::uint64_t groups_per_row() const { return (row + group - 1) / group; }
    QS_HD std::uint64_t scopes() const { return (count + row - 1) / row * groups_per_row(); }
    QS_HD std::uint64_t begin_of(std::uint64_t scope) const {
        return scope / groups_per_row() * row + scope % groups_per_row() * group;
    }
    QS_HD std::uint64_t end_of(std::uint64_t scope) const {
        const std::uint64_t row_end = (scope / groups_per_row() + 1) * row;
        const std::uint64_t end = begin_of(scope) + group;
        const std::uint64_t inside = end < row_end ? end : row_end;
        return inside < count ? inside : count;
    }
    QS_HD std::uint64_t scope_of(std::uint64_t weight) const {
        return weight / row * groups_per_row() + weight % row / group;
    }
};

/// A format as the fused kernels take it: a block codec, and where its scales come from.
struct FusedFormat {
    unsigned kind = 0;            ///< of the codec, in the list of the kernels (fused.cuh)
    unsigned lanes = 0;           ///< that share a block, each with eight weights; 0: no blocks, but `scales`, if any
    ScopeMap map;                 ///< of the scales
    const void* scales = nullptr; ///< fitted before, one a scope
    alignas(8) unsigned char codec[40]{};
    Sink sink;
};

/// What a pass over a piece makes of it; all of it from one load of each weight.
struct FusedWork {
    static constexpr unsigned most_formats = 8;
    Moments* moments = nullptr; ///< of each unit of the tensor
    BinCounts bins;             ///< of the weights
    /// Sum each weight in float64; else runs of eight in float32, and without Σw² as TensorCodec::leaves_w2() says.
    bool exact = true;
    unsigned count = 0; ///< formats
    FusedFormat formats[most_formats];
};

/// Tensors of at least this many weights may be summed by runs of eight in float32: what the roundings leave in the
/// sums is then below 1e-9 of them.
inline constexpr std::uint64_t inexact_from = std::uint64_t{1} << 22;

/// Enqueues the work on a piece.
void run_fused(const Piece& piece, const FusedWork& work, cudaStream_t stream);

} // namespace qs::cuda
