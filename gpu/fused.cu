#include "gpu/fused.cuh"

#include "gpu/launch.cuh"
#include "gpu/moments.cuh"
#include "gpu/scopes.cuh"
#include "gpu/sinks.cuh"

/// One pass over a piece for statistics, histograms and the errors of several formats. A thread block takes a unit:
/// the first look at it comes from memory, sixteen bytes a load, the others from the cache that is next to it.
namespace qs::cuda {

namespace {

/// Eight neighbouring weights, one lane's share of a tile.
struct Oct {
    float w[8];
};

/// Weights a warp looks at together.
inline constexpr unsigned tile_weights = warp_threads * 8;

/// Weights [offset, offset + 8), `offset` a multiple of 8.
template <NativeType type>
__device__ inline Oct load_oct(const void* data, std::uint64_t offset) {
    Oct oct{};
    if constexpr (type == NativeType::f32) {
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

/// Weights [offset, offset + present) of a piece, `offset` a multiple of 8; those after them are 0.
__device__ inline Oct load_oct(const Piece& piece, std::uint64_t offset, unsigned present) {
    if (present == 8)
        switch (piece.type) {
        case NativeType::f32:
            return load_oct<NativeType::f32>(piece.data, offset);
        case NativeType::bf16:
            return load_oct<NativeType::bf16>(piece.data, offset);
        case NativeType::f16:
            return load_oct<NativeType::f16>(piece.data, offset);
        }
    Oct oct{};
#pragma unroll
    for (unsigned i = 0; i < 8; ++i)
        if (i < present)
            oct.w[i] = load_one(piece, offset + i);
    return oct;
}

/// Error sums of a thread, of eight weights at a time. Products are summed in float64: weights of few bits have few
/// different errors, whose products float32 would round one way over and over. The errors themselves are summed in
/// float32 first. As in TensorCodec::leaves_w2(), Σw² is left out, and Σv² is what it has more than Σw².
class OctSums {
public:
    /// The first `present` of eight, each for itself in float64.
    __device__ void add_exactly(unsigned position, unsigned present, const Oct& weights, const Oct& reconstructions) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
            if (i < present)
                sums_.add(position + i, weights.w[i], reconstructions.w[i]);
        bound_ = static_cast<float>(sums_.max_abs);
    }

    __device__ void add(unsigned position, const Oct& weights, const Oct& reconstructions) {
        float d1 = 0, largest = 0;
        double d2 = 0, wd = 0;
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const float d = weights.w[i] - reconstructions.w[i];
            const auto exact_d = static_cast<double>(d);
            d2 = __fma_rn(exact_d, exact_d, d2);
            wd = __fma_rn(static_cast<double>(weights.w[i]), exact_d, wd);
            d1 += d;
            largest = fmaxf(largest, fabsf(d));
        }
        if (!(fabsf(d1) < INFINITY))
            return add_exactly(position, 8, weights, reconstructions);
        sums_.count += 8;
        sums_.sum_v2 += d2 - 2 * wd;
        sums_.sum_d2 += d2;
        sums_.sum_d -= static_cast<double>(d1);
        // Rounded differences order as the exact ones do, but for ties.
        if (largest >= bound_ && largest > 0)
            keep_largest(position, weights, reconstructions);
    }

    __device__ const ErrorAccumulator& sums() const {
        return sums_;
    }

private:
    __device__ void keep_largest(unsigned position, const Oct& weights, const Oct& reconstructions) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
            sums_.keep_largest(position + i,
                               static_cast<double>(weights.w[i]) - static_cast<double>(reconstructions.w[i]));
        bound_ = static_cast<float>(sums_.max_abs);
    }

    ErrorAccumulator sums_;
    float bound_ = 0; ///< the largest error so far, rounded
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

/// Whether eight weights are finite: what is not, times zero, is NaN.
__device__ inline bool all_finite(const Oct& oct) {
    float sum = 0;
#pragma unroll
    for (unsigned i = 0; i < 8; ++i)
        sum = __fmaf_rn(oct.w[i], 0.0F, sum);
    return sum == 0;
}

/// One format on a unit.
template <class Codec>
class FormatPass {
public:
    __device__ FormatPass(const Piece& piece, const Unit& unit, const FusedFormat& format)
        : piece_(piece), unit_(unit), format_(format), codec_(codec_of(format)), warp_codec_(codec_),
          walk_(format.map, piece.begin + unit.offset), usage_(format.sink.usage, format.sink.codes, dynamic_shared()),
          binning_(format.sink.bins, dynamic_shared() + usage_words(format.sink.usage, format.sink.codes)) {}

    __device__ void run(bool exact) {
        warp_codec_.prepare();
        const unsigned lane = threadIdx.x % warp_threads, warp = threadIdx.x / warp_threads;
        // All lanes of a warp go round together, as they exchange extents and levels.
        for (unsigned tile = warp * tile_weights; tile < unit_.count; tile += block_warps * tile_weights) {
            const unsigned position = tile + lane * 8;
            const unsigned left = position < unit_.count ? unit_.count - position : 0, present = left < 8 ? left : 8;
            const Oct oct = load_oct(piece_, unit_.offset + position, present);
            const bool usual = !exact && present == 8 && all_finite(oct);
            if (__all_sync(0xffffffffU, usual ? 1 : 0) != 0)
                take(position, oct);
            else
                take_exactly(position, present, oct);
        }
        finish();
    }

private:
    __device__ static Codec codec_of(const FusedFormat& format) {
        Codec codec;
        std::memcpy(&codec, format.codec, sizeof(Codec));
        return codec;
    }

    /// Eight finite weights in every lane.
    __device__ void take(unsigned position, const Oct& oct) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
            __builtin_assume(is_finite(oct.w[i]));
        const auto scale = scale_of(codec_, format_, walk_, position, 8, oct);
        Oct decoded;
        std::uint32_t codes[8];
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            codes[i] = warp_codec_.encode(oct.w[i], scale);
            decoded.w[i] = warp_codec_.decode(codes[i], scale);
        }
        count(codes, 8, decoded);
        sums_.add(position, oct, decoded);
    }

    /// The end of a tensor, weights that are not finite, and small tensors.
    __device__ void take_exactly(unsigned position, unsigned present, const Oct& oct) {
        const auto scale = scale_of(codec_, format_, walk_, position, present, oct);
        Oct decoded;
        std::uint32_t codes[8];
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            codes[i] = codec_.encode(oct.w[i], scale);
            decoded.w[i] = codec_.decode(codes[i], scale);
        }
        count(codes, present, decoded);
        sums_.add_exactly(position, present, oct, decoded);
    }

    __device__ void count(const std::uint32_t (&codes)[8], unsigned present, const Oct& decoded) const {
        usage_.add(codes, present);
        if (format_.sink.bins.counts != nullptr)
#pragma unroll
            for (unsigned i = 0; i < 8; ++i)
                if (i < present)
                    binning_.add(static_cast<double>(decoded.w[i]));
    }

    __device__ void finish() const {
        const Sink& sink = format_.sink;
        if (sink.errors != nullptr) {
            const ErrorAccumulator total = block_reduce(sums_.sums());
            if (threadIdx.x == 0)
                total.write(unit_.index, sink.errors[unit_.index]);
        }
        usage_.finish();
        binning_.finish();
    }

    const Piece& piece_;
    const Unit& unit_;
    const FusedFormat& format_;
    Codec codec_;
    WarpCodec<Codec> warp_codec_;
    ScopeWalk walk_;
    UsageCounter usage_;
    Binning binning_;
    OctSums sums_;
};

template <class... Codecs>
__device__ inline void run_format(CodecList<Codecs...>, const Piece& piece, const Unit& unit, const FusedFormat& format,
                                  bool exact) {
    unsigned kind = 0;
    static_cast<void>(((format.kind == kind++ && (FormatPass<Codecs>(piece, unit, format).run(exact), true)) || ...));
}

__global__ void __launch_bounds__(block_threads, 3)
    fused_kernel(const __grid_constant__ Piece piece, const __grid_constant__ FusedWork work) {
    const Unit unit = unit_of(piece, blockIdx.x);
    if (work.moments != nullptr)
        measure_moments(piece, unit, work.moments[unit.index]);
    if (work.bins.counts != nullptr) {
        const Binning binning(work.bins, dynamic_shared());
        for_each_weight(piece, unit, [&](unsigned, float w) { binning.add(static_cast<double>(w)); });
        binning.finish();
    }
    for (unsigned i = 0; i < work.count; ++i)
        run_format(FusedCodecs{}, piece, unit, work.formats[i], work.exact);
}

} // namespace

void run_fused(const Piece& piece, const FusedWork& work, cudaStream_t stream) {
    unsigned words = binning_words(work.bins);
    for (unsigned i = 0; i < work.count; ++i)
        words = std::max(words, shared_words(work.formats[i].sink));
    launch({blocks_for(piece), stream, words * 4}, fused_kernel, piece, work);
}

} // namespace qs::cuda
