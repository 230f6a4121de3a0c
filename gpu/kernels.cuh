#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/formats/block_codec.h"
#include "gpu/format_run.h"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"
#include "gpu/scopes.cuh"
#include "gpu/sinks.cuh"

/// The kernels every format runs through, and the FormatRuns that launch them. The codec (core/formats) does the
/// arithmetic; here is only who looks at which weights.
namespace qs::cuda {

/// Formats whose scale belongs to a short run of weights: a team of lanes takes a block, finds its extent, fits the
/// scale and makes the codes, so that the weights come from memory once. `width` lanes (a power of two up to 32) of
/// four weights each; blocks of up to 4·width weights keep them in registers and merge in the order of the weights,
/// longer ones are read again from the cache and merge in another order, which only minima and maxima survive.
template <NativeType type, class Codec, class Sink>
__global__ void __launch_bounds__(block_threads)
    block_kernel(Piece piece, Codec codec, unsigned block, unsigned width, Sink sink) {
    unsigned* const shared = dynamic_shared();
    const Unit unit = unit_of(piece, blockIdx.x);
    typename Sink::Block out(sink, piece, unit, shared);

    const unsigned lane = threadIdx.x % width, team = threadIdx.x / width, teams = block_threads / width;
    const unsigned first_lane = threadIdx.x % warp_threads - lane;
    const unsigned mask = (width == warp_threads ? 0xffffffffU : (1U << width) - 1) << first_lane;
    const bool held = block <= width * 4;
    for (unsigned start = team * block; start < unit.count; start += teams * block) {
        const unsigned end = start + block < unit.count ? start + block : unit.count;
        Quad quad{};
        typename Codec::Extent extent;
        for (unsigned at = start + lane * 4; at < end; at += width * 4) {
            const unsigned present = end - at < 4 ? end - at : 4;
            quad = load_quad<type>(piece.data, unit.offset + at, present);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
                if (i < present)
                    codec.extend(extent, quad.w[i]);
        }
        extent = shuffle_first(mask, team_reduce(mask, extent, width), width);
        const auto scale = codec.fit(extent);
        for (unsigned at = start + lane * 4; at < end; at += width * 4) {
            const unsigned present = end - at < 4 ? end - at : 4;
            if (!held)
                quad = load_quad<type>(piece.data, unit.offset + at, present);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
                if (i < present) {
                    const auto code = codec.encode(quad.w[i], scale);
                    out.add(at + i, quad.w[i], code, codec.decode(code, scale));
                }
        }
    }
    out.finish();
}

/// Formats whose scales were fitted before: `scales[map.scope_of(weight)]`.
template <NativeType type, class Codec, class Sink>
__global__ void __launch_bounds__(block_threads)
    lookup_kernel(Piece piece, Codec codec, ScopeMap map, const typename Codec::Scale* scales, Sink sink) {
    unsigned* const shared = dynamic_shared();
    const Unit unit = unit_of(piece, blockIdx.x);
    typename Sink::Block out(sink, piece, unit, shared);
    const ScopeWalk walk(map, piece.begin + unit.offset);
    for_each_weight<type>(piece, unit, [&](unsigned position, float w) {
        const auto scale = scales[walk.scope_of(position)];
        const auto code = codec.encode(w, scale);
        out.add(position, w, code, codec.decode(code, scale));
    });
    out.finish();
}

/// Formats without scales.
template <NativeType type, class Codec, class Sink>
__global__ void __launch_bounds__(block_threads) element_kernel(Piece piece, Codec codec, Sink sink) {
    unsigned* const shared = dynamic_shared();
    const Unit unit = unit_of(piece, blockIdx.x);
    typename Sink::Block out(sink, piece, unit, shared);
    const typename Codec::Scale scale{};
    for_each_weight<type>(piece, unit, [&](unsigned position, float w) {
        const auto code = codec.encode(w, scale);
        out.add(position, w, code, codec.decode(code, scale));
    });
    out.finish();
}

/// A run whose three ways of looking at the codes go through one template, Derived::launch(piece, sink, stream).
template <class Derived>
class CodecRun : public FormatRun {
public:
    explicit CodecRun(std::unique_ptr<TensorCodec> codec) : host_codec_(std::move(codec)) {}

    void evaluate(const Piece& piece, const ErrorTarget& target, cudaStream_t stream) const override {
        launch(piece, ErrorSink{target, static_cast<unsigned>(code_count())}, stream);
    }
    void histogram(const Piece& piece, const BinCounts& bins, cudaStream_t stream) const override {
        launch(piece, HistogramSink{bins}, stream);
    }
    void quantize(const Piece& piece, std::uint16_t* codes, float* decoded, cudaStream_t stream) const override {
        launch(piece, StoreSink{codes, decoded}, stream);
    }
    std::size_t code_count() const override { return host_codec_->code_count(); }
    double stored_bits() const override { return host_codec_->stored_bits(); }

protected:
    TensorCodec& host_codec() const { return *host_codec_; }

private:
    template <class Sink>
    void launch(const Piece& piece, const Sink& sink, cudaStream_t stream) const {
        with_native_type(piece.type, [&](auto type) {
            static_cast<const Derived*>(this)->template launch<type()>(piece, sink, stream);
        });
    }

    std::unique_ptr<TensorCodec> host_codec_;
};

template <class Codec>
class ElementRun final : public CodecRun<ElementRun<Codec>> {
public:
    ElementRun(const Codec& codec, std::unique_ptr<TensorCodec> host_codec)
        : CodecRun<ElementRun>(std::move(host_codec)), codec_(codec) {}

    bool needs_scan() const override { return false; }
    void scan(const Piece&, cudaStream_t) override {}
    void finish_scan(cudaStream_t) override {}

    template <NativeType type, class Sink>
    void launch(const Piece& piece, const Sink& sink, cudaStream_t stream) const {
        cuda::launch({blocks_for(piece), stream, sink.shared_bytes()}, element_kernel<type, Codec, Sink>, piece, codec_, sink);
    }

private:
    Codec codec_;
};

template <class Codec>
class BlockRun final : public CodecRun<BlockRun<Codec>> {
public:
    BlockRun(const Codec& codec, std::unique_ptr<TensorCodec> host_codec, unsigned block)
        : CodecRun<BlockRun>(std::move(host_codec)), codec_(codec), block_(block) {}

    bool needs_scan() const override { return false; }
    void scan(const Piece&, cudaStream_t) override {}
    void finish_scan(cudaStream_t) override {}

    template <NativeType type, class Sink>
    void launch(const Piece& piece, const Sink& sink, cudaStream_t stream) const {
        const unsigned width = block_ / 4 < warp_threads ? block_ / 4 : warp_threads;
        cuda::launch({blocks_for(piece), stream, sink.shared_bytes()}, block_kernel<type, Codec, Sink>, piece, codec_,
                     block_, width, sink);
    }

private:
    Codec codec_;
    unsigned block_;
};

/// Scales of wide or odd scopes, through a scan. `adjust`, if any, has the last word on the fitted scales.
template <class Codec>
class ScopedRun final : public CodecRun<ScopedRun<Codec>> {
public:
    using Scale = typename Codec::Scale;
    using Adjust = std::function<void(std::span<Scale>)>;

    ScopedRun(const Codec& codec, std::unique_ptr<TensorCodec> host_codec, const ScopeMap& map, Scratch& scratch,
              Adjust adjust = {})
        : CodecRun<ScopedRun>(std::move(host_codec)), codec_(codec), map_(map), adjust_(std::move(adjust)),
          extents_(scratch.take().template reserve_for<typename Codec::Extent>(map_.runs())),
          scales_(scratch.take().template reserve_for<Scale>(map_.scopes.scopes())) {}

    bool needs_scan() const override { return true; }

    void scan(const Piece& piece, cudaStream_t stream) override {
        const std::uint64_t first = map_.run_of(piece.begin);
        const std::uint64_t count = map_.run_of(piece.begin + piece.count - 1) - first + 1;
        with_native_type(piece.type, [&](auto type) {
            cuda::launch({warps_for(count), stream}, scan_kernel<type(), Codec>, piece, map_, codec_, first, count,
                         extents_);
        });
    }

    void finish_scan(cudaStream_t stream) override {
        const std::uint64_t scopes = map_.scopes.scopes();
        cuda::launch({warps_for(scopes), stream}, fit_kernel<Codec>, map_, codec_, extents_, scales_);
        if (!adjust_)
            return;
        std::vector<Scale> scales(scopes);
        const std::size_t bytes = scopes * sizeof(Scale);
        QS_CUDA_CHECK(cudaMemcpyAsync(scales.data(), scales_, bytes, cudaMemcpyDeviceToHost, stream));
        QS_CUDA_CHECK(cudaStreamSynchronize(stream));
        adjust_(scales);
        QS_CUDA_CHECK(cudaMemcpyAsync(scales_, scales.data(), bytes, cudaMemcpyHostToDevice, stream));
        QS_CUDA_CHECK(cudaStreamSynchronize(stream));
    }

    template <NativeType type, class Sink>
    void launch(const Piece& piece, const Sink& sink, cudaStream_t stream) const {
        cuda::launch({blocks_for(piece), stream, sink.shared_bytes()}, lookup_kernel<type, Codec, Sink>, piece, codec_,
                     map_.scopes, scales_, sink);
    }

private:
    Codec codec_;
    RunMap map_;
    Adjust adjust_;
    typename Codec::Extent* extents_;
    Scale* scales_;
};

/// How a scope divides a matrix. `size` 0 of a row scope is the whole row.
inline ScopeMap map_of(const Scope& scope, const TensorShape& shape) {
    const std::uint64_t count = std::max<std::uint64_t>(shape.count(), 1);
    const std::uint64_t columns = std::max<std::uint64_t>(shape.columns, 1);
    switch (scope.kind) {
    case Scope::Kind::tensor:
        return {count, count, count};
    case Scope::Kind::flat:
        return {count, count, scope.size};
    case Scope::Kind::row:
        return {count, columns, scope.size == 0 ? columns : std::min(scope.size, columns)};
    case Scope::Kind::element:
        break;
    }
    return {count, count, 1};
}

/// Whether the scopes are blocks that one team of lanes can take: short, not cut by the ends of rows, and a whole
/// number of them to a unit.
inline bool are_blocks(const ScopeMap& map) {
    const bool cut = map.row != map.count && map.row % map.group != 0;
    return !cut && map.group >= 4 && map.group <= unit_weights / 4 && unit_weights % map.group == 0;
}

/// The run of a codec in the way that suits its scope.
template <class Codec>
std::unique_ptr<FormatRun> run_by_scope(const Codec& codec, const TensorShape& shape,
                                        std::unique_ptr<TensorCodec> host_codec, Scratch& scratch) {
    const ScopeMap map = map_of(codec.scope(), shape);
    if (are_blocks(map))
        return std::make_unique<BlockRun<Codec>>(codec, std::move(host_codec), static_cast<unsigned>(map.group));
    return std::make_unique<ScopedRun<Codec>>(codec, std::move(host_codec), map, scratch);
}

} // namespace qs::cuda
