#pragma once

#include <cstring>
#include <type_traits>

#include "gpu/device_codecs.cuh"
#include "gpu/fused.h"

/// Which codecs the fused kernels have.
namespace qs::cuda {

template <class... Codecs>
struct CodecList {};

using FusedCodecs =
    CodecList<Fp32Codec, Tf32Codec, Fp16Codec, Bf16Codec, Fp8Codec<E4M3>, Fp8Codec<E5M2>, SymmetricIntCodec,
              AffineIntCodec, LlmInt8Codec, DeviceNf4Codec, DeviceFp4Codec, Dynamic8Codec, Q4_0Codec, Q4_1Codec,
              Q5_0Codec, Q5_1Codec, Q8_0Codec, MxCodec<FloatElement<E4M3>>, MxCodec<FloatElement<E5M2>>,
              MxCodec<FloatElement<E3M2>>, MxCodec<FloatElement<E2M3>>, MxCodec<FloatElement<E2M1>>,
              MxCodec<IntElement>, Nvfp4Codec>;

template <class Codec, class... Codecs>
constexpr unsigned kind_of(CodecList<Codecs...>) {
    unsigned kind = 0;
    const bool found = ((std::is_same_v<Codec, Codecs> || (++kind, false)) || ...);
    return found ? kind : ~0U;
}

/// A format with this codec, and nothing else set.
template <class Codec>
FusedFormat fused_format(const Codec& codec) {
    constexpr unsigned kind = kind_of<Codec>(FusedCodecs{});
    static_assert(kind != ~0U && sizeof(Codec) <= sizeof(FusedFormat::codec) && std::is_trivially_copyable_v<Codec>);
    FusedFormat format;
    format.kind = kind;
    std::memcpy(format.codec, &codec, sizeof(Codec));
    return format;
}

} // namespace qs::cuda
