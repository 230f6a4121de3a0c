#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "core/formats/ggml_iq_tables.h"
#include "core/formats/registry.h"
#include "gpu/cuda.h"
#include "gpu/fused.h"
#include "gpu/piece.h"

namespace qs::cuda {

/// Device buffers that are handed out one after the other during a call and used again in the next one.
class Scratch {
public:
    void rewind() { next_ = 0; }
    void clear() {
        buffers_.clear();
        next_ = 0;
    }
    DeviceBuffer& take() {
        if (next_ == buffers_.size())
            buffers_.emplace_back();
        return buffers_[next_++];
    }
    template <class T>
    T* take_for(std::size_t count) {
        return take().reserve_for<T>(count > 0 ? count : 1);
    }
    /// Those handed out since rewind().
    std::size_t taken() const { return next_; }
    const DeviceBuffer& operator[](std::size_t index) const { return buffers_[index]; }
    std::size_t size() const { return buffers_.size(); }

private:
    std::deque<DeviceBuffer> buffers_;
    std::size_t next_ = 0;
};

/// Copies of the grids' search tables (ggml_iq_tables.h) on the device, made when first asked for.
class GridTables {
public:
    GridSearch on_device(const GridSearch& host, cudaStream_t stream);

private:
    struct Entry {
        DeviceBuffer places, neighbours;
    };
    std::map<const GridSearch*, Entry> entries_;
};

/// What a run works on and with; all of it outlives the run.
struct RunContext {
    TensorShape shape;
    const float* importance; ///< on the host, or null
    Scratch& scratch;
    GridTables& tables;
    cudaStream_t stream; ///< that everything of the run goes through
};

/// One format on one tensor on the device. Mirrors TensorCodec: where needs_scan() is true all pieces go through
/// scan(), then finish_scan() once, before anything else. Everything is enqueued into the context's stream; pieces come
/// in order.
class FormatRun {
public:
    virtual ~FormatRun() = default;

    virtual bool needs_scan() const { return false; }
    virtual void scan(const Piece&) {}
    virtual void finish_scan() {}
    /// Whether what is enqueued for a tensor of one piece is the same for every tensor of the shape: the host neither
    /// waits for results on the way nor gives more than the weights.
    virtual bool repeats() const { return true; }

    /// Gives every weight of the piece to the sink.
    virtual void run(const Piece& piece, const Sink& sink) const = 0;
    /// What the fused kernels need to do the same, where they can. After the scan, if any.
    virtual std::optional<FusedFormat> fused() const { return std::nullopt; }

    /// Bytes that encode() writes for a piece of `count` weights.
    virtual std::size_t encoded_bytes(std::uint64_t count) const = 0;
    /// All that is stored of the piece: packed blocks, or scales and codes. After the scan, if any.
    virtual void encode(const Piece& piece, std::byte* out) const = 0;
    /// Of what encode() wrote.
    virtual void decode(const std::byte* encoded, const Piece& piece, float* out) const = 0;

    std::size_t code_count() const { return host_codec_->code_count(); }
    /// As TensorCodec::stored_bits(), after the scan, if any.
    virtual double stored_bits() const { return host_codec_->stored_bits(); }

protected:
    explicit FormatRun(std::unique_ptr<TensorCodec> host_codec) : host_codec_(std::move(host_codec)) {}

private:
    std::unique_ptr<TensorCodec> host_codec_; ///< the format on the CPU, for what is not the device's business
};

/// Binds a format, effective for the context's shape, to a tensor. Throws Error for one that needs importance and has
/// none.
std::unique_ptr<FormatRun> make_run(const FormatSpec& spec, const RunContext& context);

} // namespace qs::cuda
