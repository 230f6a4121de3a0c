#pragma once

#include "core/formats/bitsandbytes.h"
#include "core/formats/floating.h"
#include "core/formats/ggml_basic.h"
#include "core/formats/integer.h"
#include "core/formats/microscaling.h"
#include "gpu/cuda.h"

/// The block codecs as the kernels run them: most as they are; those that look values up in tables, with the tables as
/// constants in the code.
namespace qs::cuda {

/// f(i) of the n constants f(base), f(base + 1), … by selecting, as an array indexed by a variable would lie in slow
/// memory.
template <unsigned n, unsigned base = 0, class Constants>
__device__ __forceinline__ auto select(unsigned i, Constants f) {
    if constexpr (n == 1)
        return f(base);
    else
        return (i & n / 2) != 0 ? select<n / 2, base + n / 2>(i, f) : select<n / 2, base>(i, f);
}

/// How many of the 2ⁿ − 1 ascending thresholds, n = log2(codes), lie below x: a binary search whose candidates at each
/// step are constants.
template <unsigned codes, unsigned step = codes / 2, class Thresholds>
__device__ __forceinline__ unsigned rank_of(float x, Thresholds threshold, unsigned rank = 0) {
    if constexpr (step == 0) {
        return rank;
    } else {
        constexpr unsigned candidates = codes / (2 * step);
        const float t =
            select<candidates>(rank / (2 * step), [&](unsigned i) { return threshold(2 * step * i + step - 1); });
        return rank_of<codes, step / 2>(x, threshold, rank + (x > t ? step : 0));
    }
}

struct DeviceNf4Codec : Nf4Codec {
    __device__ std::uint32_t encode(float w, const Scale& scale) const {
        const float x = is_finite(w) ? w * scale.reciprocal : 0.0F;
        return rank_of<16>(x, [](unsigned i) { return threshold(i); });
    }
    __device__ float decode(std::uint32_t code, const Scale& scale) const {
        return select<16>(code, [](unsigned i) { return level(i); }) * scale.decode;
    }
};

struct DeviceFp4Codec : Fp4Codec {
    __device__ std::uint32_t encode(float w, const Scale& scale) const {
        const float x = is_finite(w) ? w * scale.reciprocal : 0.0F;
        const unsigned rank = rank_of<8>(fabsf(x), [](unsigned i) { return threshold(i); });
        const unsigned code = select<8>(rank, [](unsigned i) { return code_of_rank(i); });
        return code | (x < 0 ? 8U : 0U);
    }
    __device__ float decode(std::uint32_t code, const Scale& scale) const {
        return select<16>(code, [](unsigned i) { return level(i); }) * scale.decode;
    }
};

/// How all lanes of a warp encode and decode together, each its own weight, finite and with its scale: most codecs as
/// ever. Formats of sixteen levels keep a table in the lanes of the warp, and look values up in each other's registers.
template <class Codec>
class WarpCodec {
public:
    __device__ explicit WarpCodec(const Codec& codec) : codec_(codec) {}
    /// To be called by all lanes before the rest.
    __device__ void prepare() {}
    __device__ std::uint32_t encode(float w, const typename Codec::Scale& scale) const {
        return codec_.encode(w, scale);
    }
    __device__ float decode(std::uint32_t code, const typename Codec::Scale& scale) const {
        return codec_.decode(code, scale);
    }

private:
    Codec codec_;
};

/// Thresholds by cells, one a lane: an interval so narrow that one threshold at most lies in it.
class LaneThresholds {
public:
    /// x = 0 lies in the cell `first`; 1 is `cells` further.
    __device__ LaneThresholds(float cells, float first) : cells_(cells), first_(first) {}

    /// Takes `count` ascending thresholds, whose cells differ.
    template <class Thresholds>
    __device__ void fill(unsigned count, Thresholds threshold) {
        const unsigned lane = threadIdx.x % 32;
#pragma unroll
        for (unsigned i = 0; i < count; ++i) {
            const unsigned cell = cell_of(threshold(i));
            below_ += cell < lane ? 1 : 0;
            threshold_ = cell == lane ? threshold(i) : threshold_;
        }
    }

    /// How many thresholds lie below x.
    __device__ unsigned rank(float x) const {
        const unsigned cell = cell_of(x);
        return __shfl_sync(0xffffffffU, below_, static_cast<int>(cell)) +
               (x > __shfl_sync(0xffffffffU, threshold_, static_cast<int>(cell)) ? 1U : 0U);
    }

private:
    /// Ascends with x: rounded once, to a whole number from 0 to 31, in the last bits of a large float.
    __device__ unsigned cell_of(float x) const {
        return __float_as_uint(__fmaf_rn(x, cells_, first_ + 0x1p23F)) % 32;
    }

    float cells_, first_;
    unsigned below_ = 0;         ///< thresholds of the cells before
    float threshold_ = INFINITY; ///< of this cell
};

template <>
class WarpCodec<DeviceNf4Codec> {
public:
    __device__ explicit WarpCodec(const DeviceNf4Codec&) : thresholds_(15, 16) {}
    __device__ void prepare() {
        thresholds_.fill(15, [](unsigned i) { return Nf4Codec::threshold(i); });
        level_ = select<16>(threadIdx.x % 16, [](unsigned i) { return Nf4Codec::level(i); });
    }

    __device__ std::uint32_t encode(float w, const AbsmaxScale& scale) const {
        return thresholds_.rank(w * scale.reciprocal);
    }
    __device__ float decode(std::uint32_t code, const AbsmaxScale& scale) const {
        return __shfl_sync(0xffffffffU, level_, static_cast<int>(code)) * scale.decode;
    }

private:
    LaneThresholds thresholds_;
    float level_ = 0;
};

template <>
class WarpCodec<DeviceFp4Codec> {
public:
    __device__ explicit WarpCodec(const DeviceFp4Codec&) : thresholds_(30, 0) {}
    __device__ void prepare() {
        thresholds_.fill(7, [](unsigned i) { return Fp4Codec::threshold(i); });
        level_ = select<16>(threadIdx.x % 16, [](unsigned i) { return Fp4Codec::level(i); });
    }

    __device__ std::uint32_t encode(float w, const AbsmaxScale& scale) const {
        const float x = w * scale.reciprocal;
        return Fp4Codec::code_of_rank(thresholds_.rank(fabsf(x))) | (x < 0 ? 8U : 0U);
    }
    __device__ float decode(std::uint32_t code, const AbsmaxScale& scale) const {
        return __shfl_sync(0xffffffffU, level_, static_cast<int>(code)) * scale.decode;
    }

private:
    LaneThresholds thresholds_;
    float level_ = 0;
};

/// The form of a codec that runs on the device.
template <class Codec>
const Codec& on_device(const Codec& codec) {
    return codec;
}
inline DeviceNf4Codec on_device(const Nf4Codec& codec) {
    return {codec};
}
inline DeviceFp4Codec on_device(const Fp4Codec& codec) {
    return {codec};
}

} // namespace qs::cuda
