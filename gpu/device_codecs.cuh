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
