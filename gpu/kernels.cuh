#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/formats/block_codec.h"
#include "core/formats/scoped_codec.h"
#include "gpu/fused.cuh"
#include "gpu/launch.cuh"
#include "gpu/scopes.cuh"
#include "gpu/sinks.cuh"

/// The kernels of the block codecs, and the FormatRuns that launch them. The codec (core/formats) does the arithmetic;
/// here is only who looks at which weights. Where speed matters and the codec is among those of fused.cuh, its kernels
/// are used instead.
namespace qs::cuda {

/// Formats whose scale belongs to a short run of weights: a team of lanes takes a block, finds its extent, fits the
/// scale and makes the codes, so that the weights come from memory once. `width` lanes (a power of two up to 32) of
/// four weights each; blocks of up to 4·width weights keep them in registers and merge in the order of the weights,
/// longer ones are read again from the cache and merge in another order, which only minima and maxima survive. The
/// scales go to `scales`, one a block, unless it is null.
template <class Codec>
__global__ void __launch_bounds__(block_threads)
    block_kernel(Piece piece, Codec codec, unsigned block, unsigned width, Sink sink, typename Codec::Scale* scales) {
    const Unit unit = unit_of(piece, blockIdx.x);
    SinkBlock out(sink, unit);

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
            quad = load_quad(piece, unit.offset + at, present);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
                if (i < present)
                    codec.extend(extent, quad.w[i]);
        }
        const auto scale = codec.fit(team_merge(mask, extent, width));
        if (scales != nullptr && lane == 0)
            scales[(unit.offset + start) / block] = scale;
        for (unsigned at = start + lane * 4; at < end; at += width * 4) {
            const unsigned present = end - at < 4 ? end - at : 4;
            if (!held)
                quad = load_quad(piece, unit.offset + at, present);
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

/// Formats whose scales were fitted before: `scales[map.scope_of(weight)]`; without scales where that is null.
template <class Codec>
__global__ void __launch_bounds__(block_threads)
    lookup_kernel(Piece piece, Codec codec, ScopeMap map, const typename Codec::Scale* scales, Sink sink) {
    const Unit unit = unit_of(piece, blockIdx.x);
    SinkBlock out(sink, unit);
    const ScopeWalk walk(map, piece.begin + unit.offset);
    for_each_weight(piece, unit, [&](unsigned position, float w) {
        const auto scale = scales == nullptr ? typename Codec::Scale{} : scales[walk.scope_of(position)];
        const auto code = codec.encode(w, scale);
        out.add(position, w, code, codec.decode(code, scale));
    });
    out.finish();
}

/// Codes, each of `Code`, and scales back to weights; `first` is the first weight's place in the map.
template <class Code, class Codec>
__global__ void __launch_bounds__(block_threads)
    decode_codes_kernel(const Code* codes, std::uint64_t first, std::uint64_t count, Codec codec, ScopeMap map,
                        const typename Codec::Scale* scales, float* out) {
    constexpr unsigned each = 4;
    const std::uint64_t begin = (std::uint64_t{blockIdx.x} * block_threads + threadIdx.x) * each;
    for (std::uint64_t at = begin; at < begin + each && at < count; ++at) {
        const auto scale = scales == nullptr ? typename Codec::Scale{} : scales[map.scope_of(first + at)];
        out[at] = codec.decode(static_cast<std::uint32_t>(codes[at]), scale);
    }
}

/// What the runs of block codecs have in common: codes of one, two or four bytes, and scales that lie beside them.
template <class Codec>
class CodecRun : public FormatRun {
public:
    using Scale = typename Codec::Scale;

    CodecRun(const Codec& codec, std::unique_ptr<TensorCodec> host_codec, const ScopeMap& map,
             const RunContext& context)
        : FormatRun(std::move(host_codec)), codec_(codec), map_(map), stream_(context.stream) {}

    std::size_t encoded_bytes(std::uint64_t count) const override { return codes_offset(count) + count * code_bytes(); }

    void encode(const Piece& piece, std::byte* out) const override {
        Sink sink;
        std::byte* codes = out + codes_offset(piece.count);
        if (code_bytes() == 1)
            sink.codes8 = reinterpret_cast<std::uint8_t*>(codes);
        else if (code_bytes() == 2)
            sink.codes16 = reinterpret_cast<std::uint16_t*>(codes);
        else
            sink.codes32 = reinterpret_cast<std::uint32_t*>(codes);
        enqueue(piece, sink, reinterpret_cast<Scale*>(out));
    }

    void decode(const std::byte* encoded, const Piece& piece, float* out) const override {
        const std::byte* codes = encoded + codes_offset(piece.count);
        if (code_bytes() == 1)
            decode_codes(reinterpret_cast<const std::uint8_t*>(codes), encoded, piece, out);
        else if (code_bytes() == 2)
            decode_codes(reinterpret_cast<const std::uint16_t*>(codes), encoded, piece, out);
        else
            decode_codes(reinterpret_cast<const std::uint32_t*>(codes), encoded, piece, out);
    }

    void run(const Piece& piece, const Sink& sink) const override { enqueue(piece, sink, nullptr); }

protected:
    /// Runs the codec; where it fits scales as it goes they are also written to `scales`, unless it is null.
    virtual void enqueue(const Piece& piece, const Sink& sink, Scale* scales) const = 0;
    /// Scales that were fitted before; null: they are written with the codes.
    virtual const Scale* fitted() const { return nullptr; }
    virtual bool has_scales() const { return true; }

    FusedFormat as_fused(unsigned lanes) const {
        FusedFormat format = fused_format(codec_);
        format.lanes = lanes;
        format.map = map_;
        format.scales = fitted();
        return format;
    }

    const Codec& codec() const { return codec_; }
    void set_codec(const Codec& codec) { codec_ = codec; }
    const ScopeMap& map() const { return map_; }
    cudaStream_t stream() const { return stream_; }

private:
    std::size_t code_bytes() const { return code_count() == 0 ? 4 : code_count() <= 256 ? 1 : 2; }

    /// Scales that are written with the codes take whole 16 bytes before them.
    std::size_t codes_offset(std::uint64_t count) const {
        if (!has_scales() || fitted() != nullptr)
            return 0;
        const std::uint64_t scales = (count + map_.group - 1) / map_.group;
        return (scales * sizeof(Scale) + 15) / 16 * 16;
    }

    template <class Code>
    void decode_codes(const Code* codes, const std::byte* encoded, const Piece& piece, float* out) const {
        constexpr std::uint64_t each = 4;
        const bool beside = has_scales() && fitted() == nullptr;
        const Scale* scales = beside ? reinterpret_cast<const Scale*>(encoded) : fitted();
        launch({threads_for((piece.count + each - 1) / each), stream_}, decode_codes_kernel<Code, Codec>, codes,
               beside ? 0 : piece.begin, piece.count, codec_, map_, scales, out);
    }

    Codec codec_;
    ScopeMap map_;
    cudaStream_t stream_;
};

/// A format without scales.
template <class Codec>
class ElementRun final : public CodecRun<Codec> {
public:
    using CodecRun<Codec>::CodecRun;

    std::optional<FusedFormat> fused() const override { return this->as_fused(0); }

protected:
    bool has_scales() const override { return false; }
    void enqueue(const Piece& piece, const Sink& sink, typename Codec::Scale*) const override {
        launch({blocks_for(piece), this->stream(), shared_words(sink) * 4}, lookup_kernel<Codec>, piece, this->codec(),
               this->map(), nullptr, sink);
    }
};

/// A format whose blocks are short.
template <class Codec>
class BlockRun : public CodecRun<Codec> {
public:
    using CodecRun<Codec>::CodecRun;

    std::optional<FusedFormat> fused() const override {
        const unsigned lanes = block() / 8;
        const bool fits = block() % 8 == 0 && lanes <= warp_threads && (lanes & (lanes - 1)) == 0;
        return fits ? std::optional(this->as_fused(lanes)) : std::nullopt;
    }

protected:
    void enqueue(const Piece& piece, const Sink& sink, typename Codec::Scale* scales) const override {
        const unsigned width = std::min(block() / 4, warp_threads);
        launch({blocks_for(piece), this->stream(), shared_words(sink) * 4}, block_kernel<Codec>, piece, this->codec(),
               block(), width, sink, scales);
    }

private:
    unsigned block() const { return static_cast<unsigned>(this->map().group); }
};

/// Scales of wide or odd scopes, through a scan. `adjust`, if any, has the last word on the fitted scales.
template <class Codec>
class ScopedRun : public CodecRun<Codec> {
public:
    using Scale = typename Codec::Scale;
    using Adjust = std::function<void(std::span<Scale>)>;

    ScopedRun(const Codec& codec, std::unique_ptr<TensorCodec> host_codec, const ScopeMap& map,
              const RunContext& context, Adjust adjust = {})
        : CodecRun<Codec>(codec, std::move(host_codec), map, context), runs_(map), adjust_(std::move(adjust)),
          extents_(context.scratch.take_for<typename Codec::Extent>(runs_.runs())),
          scales_(context.scratch.take_for<Scale>(map.scopes())) {}

    bool needs_scan() const override { return true; }

    void scan(const Piece& piece) override { scan_extents(piece, runs_, this->codec(), extents_, this->stream()); }

    void finish_scan() override {
        const std::uint64_t scopes = this->map().scopes();
        launch({warps_for(scopes), this->stream()}, fit_kernel<Codec>, runs_, this->codec(), extents_, scales_);
        if (!adjust_)
            return;
        std::vector<Scale> scales(scopes);
        const std::size_t bytes = scopes * sizeof(Scale);
        QS_CUDA_CHECK(cudaMemcpyAsync(scales.data(), scales_, bytes, cudaMemcpyDeviceToHost, this->stream()));
        QS_CUDA_CHECK(cudaStreamSynchronize(this->stream()));
        adjust_(scales);
        QS_CUDA_CHECK(cudaMemcpyAsync(scales_, scales.data(), bytes, cudaMemcpyHostToDevice, this->stream()));
        QS_CUDA_CHECK(cudaStreamSynchronize(this->stream()));
    }

    bool repeats() const override { return !adjust_; }

    /// Eight neighbouring weights must have one scale.
    std::optional<FusedFormat> fused() const override {
        const ScopeMap& map = this->map();
        return map.row % 8 == 0 && map.group % 8 == 0 ? std::optional(this->as_fused(0)) : std::nullopt;
    }

protected:
    const Scale* fitted() const override { return scales_; }
    void enqueue(const Piece& piece, const Sink& sink, Scale*) const override {
        launch({blocks_for(piece), this->stream(), shared_words(sink) * 4}, lookup_kernel<Codec>, piece, this->codec(),
               this->map(), scales_, sink);
    }

private:
    RunMap runs_;
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
    return {count, count, count};
}

/// Whether the scopes are blocks that one team of lanes can take: short, not cut by the ends of rows, and a whole
/// number of them to a unit.
inline bool are_blocks(const ScopeMap& map) {
    const bool cut = map.row != map.count && map.row % map.group != 0;
    return !cut && map.group >= 4 && map.group <= unit_weights / 4 && unit_weights % map.group == 0;
}

/// The run of a codec in the way that suits its scope.
template <class Codec>
std::unique_ptr<FormatRun> run_by_scope(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                        const RunContext& context) {
    const ScopeMap map = map_of(codec.scope(), context.shape);
    if constexpr (std::is_base_of_v<ElementCodec, Codec>)
        return std::make_unique<ElementRun<Codec>>(codec, std::move(host_codec), map, context);
    else if (are_blocks(map))
        return std::make_unique<BlockRun<Codec>>(codec, std::move(host_codec), map, context);
    else
        return std::make_unique<ScopedRun<Codec>>(codec, std::move(host_codec), map, context);
}

} // namespace qs::cuda
