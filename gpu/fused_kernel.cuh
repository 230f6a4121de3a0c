#pragma once

#include "gpu/fused.cuh"
#include "gpu/launch.cuh"
#include "gpu/moments.cuh"
#include "gpu/scopes.cuh"
#include "gpu/sinks.cuh"

/// One pass over a piece for statistics, histograms and the errors of several formats. A thread block takes a unit:
/// the first look at it comes from memory, sixteen bytes a load, the others from the cache that is next to it.
namespace qs::cuda {

/// Eight neighbouring weights, one lane's share of a tile.
struct Oct {
    float w[8];
};

/// Weights a warp looks at together.
inline constexpr unsigned tile_weights = warp_threads * 8;

/// Weights [offset, offset + present) of a piece, `offset` a multiple of 8; those after them are 0.
template <NativeType type>
__device__ inline Oct load_oct(const void* data, std::uint64_t offset, unsigned present) {
    Oct oct{};
    if (present < 8) {
        for (unsigned i = 0; i < present; ++i)
            oct.w[i] = load_one<type>(data, offset + i);
    } else if constexpr (type == NativeType::f32) {
        const auto* quads = reinterpret_cast<const float4*>(static_cast<const float*>(data) + offset);
        const float4 first = quads[0], second = quads[1];
        oct = {{first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w}};
    } else {
        const uint4 read = *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(data) + offset);
        const unsigned words[4] = {read.x, read.y, read.z, read.w};
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const auto bits = static_cast<std::uint16_t>(i % 2 == 0 ? words[i / 2] : words[i / 2] >> 16);
            oct.w[i] = load_one<type>(&bits, 0);
        }
    }
    return oct;
}

/// Error sums of a thread, of eight weights at a time. Products are summed in float64: weights of few bits have few
/// different errors, whose products float32 would round one way over and over. The errors themselves are summed in
/// float32 first. As in TensorCodec::leaves_w2(), Σw² is left out, and Σv² is what it has more than Σw².
class OctSums {
public:
    __device__ explicit OctSums(bool exact) : exact_(exact) {}

    __device__ void add(unsigned position, unsigned present, const Oct& weights, const Oct& reconstructions) {
        float d1 = 0, largest = 0;
        double d2 = 0, wd = 0;
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const float w = weights.w[i], v = reconstructions.w[i], d = w - v;
            const auto exact_d = static_cast<double>(d);
            d2 = __fma_rn(exact_d, exact_d, d2);
            wd = __fma_rn(static_cast<double>(w), exact_d, wd);
            d1 += d;
            largest = fmaxf(largest, fabsf(d));
        }
        const bool finite = fabsf(d1) < INFINITY;
        if (exact_ || present < 8 || !finite) {
            for (unsigned i = 0; i < present; ++i)
                sums_.add(position + i, weights.w[i], reconstructions.w[i]);
            bound_ = static_cast<float>(sums_.max_abs);
            return;
        }
        sums_.count += 8;
        sums_.sum_v2 += d2 - 2 * wd;
        sums_.sum_d2 += d2;
        sums_.sum_d -= static_cast<double>(d1);
        // Rounded differences order as the exact ones do, but for ties.
        if (largest >= bound_ && largest > 0)
            keep_largest(position, weights, reconstructions);
    }

    __device__ const ErrorAccumulator& sums() const { return sums_; }

private:
    __device__ void keep_largest(unsigned position, const Oct& weights, const Oct& reconstructions) {
#pragma unroll 1
        for (unsigned i = 0; i < 8; ++i)
            sums_.keep_largest(position + i,
                               static_cast<double>(weights.w[i]) - static_cast<double>(reconstructions.w[i]));
        bound_ = static_cast<float>(sums_.max_abs);
    }

    ErrorAccumulator sums_;
    float bound_ = 0; ///< the largest error so far, rounded
    bool exact_;
};

/// The scale of a lane's eight weights: fitted to the block that `lanes` neighbouring lanes share, or looked up.
template <class Codec>
__device__ inline typename Codec::Scale scale_of(const Codec& codec, const FusedFormat& format, const ScopeWalk& walk,
                                                 unsigned position, unsigned present, const Oct& oct) {
    if constexpr (std::is_base_of_v<ElementCodec, Codec>) {
        return {};
    } else {
        if (format.lanes == 0)
            return present == 0 ? typename Codec::Scale{}
                                : static_cast<const typename Codec::Scale*>(format.scales)[walk.scope_of(position)];
        typename Codec::Extent extent;
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
            if (i < present)
                codec.extend(extent, oct.w[i]);
        return codec.fit(team_merge(0xffffffffU, extent, format.lanes));
    }
}

/// One format on the unit.
template <NativeType type, class Codec>
__device__ void run_format(const Piece& piece, const Unit& unit, const FusedFormat& format, bool exact) {
    Codec codec;
    std::memcpy(&codec, format.codec, sizeof(Codec));
    const Sink& sink = format.sink;
    const UsageCounter usage(sink.usage, sink.codes, dynamic_shared());
    const Binning binning(sink.bins, dynamic_shared() + usage_words(sink.usage, sink.codes));
    const ScopeWalk walk(format.map, piece.begin + unit.offset);
    OctSums sums(exact);
    const unsigned lane = threadIdx.x % warp_threads, warp = threadIdx.x / warp_threads;
    // All lanes of a warp go round together, as they exchange extents.
    for (unsigned tile = warp * tile_weights; tile < unit.count; tile += block_warps * tile_weights) {
        const unsigned position = tile + lane * 8;
        const unsigned left = position < unit.count ? unit.count - position : 0, present = left < 8 ? left : 8;
        const Oct oct = load_oct<type>(piece.data, unit.offset + position, present);
        const auto scale = scale_of(codec, format, walk, position, present, oct);
        Oct decoded;
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const std::uint32_t code = codec.encode(oct.w[i], scale);
            decoded.w[i] = codec.decode(code, scale);
            if (i < present) {
                usage.add(code);
                binning.add(static_cast<double>(decoded.w[i]));
            }
        }
        if (present > 0)
            sums.add(position, present, oct, decoded);
    }
    if (sink.errors != nullptr) {
        const ErrorAccumulator total = block_reduce(sums.sums());
        if (threadIdx.x == 0)
            total.write(unit.index, sink.errors[unit.index]);
    }
    usage.finish();
    binning.finish();
}

template <NativeType type, class... Codecs>
__device__ inline void run_format(CodecList<Codecs...>, const Piece& piece, const Unit& unit, const FusedFormat& format,
                                  bool exact) {
    unsigned kind = 0;
    static_cast<void>(((format.kind == kind++ && (run_format<type, Codecs>(piece, unit, format, exact), true)) || ...));
}

template <NativeType type>
__global__ void __launch_bounds__(block_threads) fused_kernel(Piece piece, FusedWork work) {
    const Unit unit = unit_of(piece, blockIdx.x);
    if (work.moments != nullptr)
        measure_moments(piece, unit, work.moments[unit.index]);
    if (work.bins.counts != nullptr) {
        const Binning binning(work.bins, dynamic_shared());
        for_each_weight(piece, unit, [&](unsigned, float w) { binning.add(static_cast<double>(w)); });
        binning.finish();
    }
    for (unsigned i = 0; i < work.count; ++i)
        run_format<type>(FusedCodecs{}, piece, unit, work.formats[i], work.exact);
}

/// Enqueues the kernel of a native type; one source file each, as they take long to compile.
template <NativeType type>
void launch_fused(const Piece& piece, const FusedWork& work, cudaStream_t stream) {
    unsigned words = binning_words(work.bins);
    for (unsigned i = 0; i < work.count; ++i)
        words = std::max(words, shared_words(work.formats[i].sink));
    launch({blocks_for(piece), stream, words * 4}, fused_kernel<type>, piece, work);
}

} // namespace qs::cuda
