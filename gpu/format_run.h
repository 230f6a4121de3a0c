#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "core/formats/registry.h"
#include "gpu/cuda.h"
#include "gpu/piece.h"
#include "gpu/statistics.h"

namespace qs::cuda {

/// Device buffers that are handed out one after the other during a call and used again in the next one.
class Scratch {
public:
    void rewind() { next_ = 0; }
    DeviceBuffer& take() {
        if (next_ == buffers_.size())
            buffers_.emplace_back();
        return buffers_[next_++];
    }

private:
    std::deque<DeviceBuffer> buffers_;
    std::size_t next_ = 0;
};

/// Where the sums of a format go.
struct ErrorTarget {
    ErrorSums* units; ///< one for each unit of the tensor
    Count* usage;     ///< per code, or null
};

/// One format on one tensor on the device. Mirrors TensorCodec: where needs_scan() is true all pieces go through
/// scan(), then finish_scan() once, before anything else. Everything is enqueued into `stream`; pieces come in order.
class FormatRun {
public:
    virtual ~FormatRun() = default;

    virtual bool needs_scan() const = 0;
    virtual void scan(const Piece& piece, cudaStream_t stream) = 0;
    virtual void finish_scan(cudaStream_t stream) = 0;

    /// Error sums of each unit of the piece, and code usage.
    virtual void evaluate(const Piece& piece, const ErrorTarget& target, cudaStream_t stream) const = 0;
    /// Adds the reconstructions to a histogram.
    virtual void histogram(const Piece& piece, const BinCounts& bins, cudaStream_t stream) const = 0;
    /// Codes and reconstructions of the piece; either may be null.
    virtual void quantize(const Piece& piece, std::uint16_t* codes, float* decoded, cudaStream_t stream) const = 0;

    virtual std::size_t code_count() const = 0;
    /// As TensorCodec::stored_bits().
    virtual double stored_bits() const = 0;
};

/// Whether the format has kernels for a matrix with this importance (null: none).
bool has_kernels(const FormatSpec& spec, const float* importance);

/// Binds a format, effective for `shape`, to a tensor. `scratch` must outlive the run. Throws Error for a format that
/// has no kernels.
std::unique_ptr<FormatRun> make_run(const FormatSpec& spec, const TensorShape& shape, Scratch& scratch);

} // namespace qs::cuda
