#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/base/hd.h"

/// Conversions between float32 and the narrow floats, by bits: the same on the host and on a device, whatever the
/// compiler's options. All round to nearest even.
namespace qs {

QS_HD inline std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

QS_HD inline float bits_float(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// Neither NaN nor infinite.
QS_HD inline bool is_finite(float value) {
    return (float_bits(value) & 0x7F800000U) != 0x7F800000U;
}

/// bfloat16; a NaN stays one (made quiet).
QS_HD inline std::uint16_t float_to_bf16(float value) {
    const std::uint32_t bits = float_bits(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U)
        return static_cast<std::uint16_t>((bits >> 16) | 64);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1)) >> 16);
}

QS_HD inline float bf16_to_float(std::uint16_t half) {
    return bits_float(static_cast<std::uint32_t>(half) << 16);
}

/// IEEE binary16; from 65520 on it is infinite.
QS_HD inline std::uint16_t float_to_fp16(float value) {
    const std::uint32_t bits = float_bits(value), magnitude = bits & 0x7FFFFFFFU;
    const std::uint32_t quiet_nan = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
    // Subnormal in half: adding 0.5 leaves the rounded multiple of 2⁻²⁴ in the low bits.
    const std::uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5F) - 0x3F000000U;
    const std::uint32_t normal = (magnitude + 0xFFFU + ((magnitude >> 13) & 1) - 0x38000000U) >> 13;
    const std::uint32_t finite = magnitude < 0x38800000U ? subnormal : normal;
    const std::uint32_t infinite = magnitude > 0x7F800000U ? quiet_nan : 0x7C00U;
    return static_cast<std::uint16_t>(((bits >> 16) & 0x8000U) | (magnitude < 0x477FF000U ? finite : infinite));
}

QS_HD inline float fp16_to_float(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16, magnitude = half & 0x7FFFU;
    const std::uint32_t subnormal = float_bits(static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24F);
    const std::uint32_t rebias = magnitude < 0x7C00U ? 112U << 23 : 224U << 23;
    return bits_float(sign | (magnitude < 0x400U ? subnormal : (magnitude << 13) + rebias));
}

/// NVIDIA's tf32: a float32 whose mantissa is rounded to 10 bits.
QS_HD inline float round_to_tf32(float value) {
    const std::uint32_t bits = float_bits(value);
    if ((bits & 0x7F800000U) == 0x7F800000U)
        return value;
    return bits_float((bits + 0xFFFU + ((bits >> 13) & 1)) & 0xFFFFE000U);
}

/// The two 8-bit floats of the OCP OFP8 specification.
struct E4M3 {
    static constexpr int bits = 8, mantissa_bits = 3, bias = 7;
    static constexpr float largest = 448.0F;
    static constexpr std::uint8_t nan = 0x7F;
};
struct E5M2 {
    static constexpr int bits = 8, mantissa_bits = 2, bias = 15;
    static constexpr float largest = 57344.0F;
    static constexpr std::uint8_t nan = 0x7F;
};

/// The 6- and 4-bit floats of the OCP Microscaling specification: every code is a number.
struct E3M2 {
    static constexpr int bits = 6, mantissa_bits = 2, bias = 3;
    static constexpr float largest = 28.0F;
};
struct E2M3 {
    static constexpr int bits = 6, mantissa_bits = 3, bias = 1;
    static constexpr float largest = 7.5F;
};
struct E2M1 {
    static constexpr int bits = 4, mantissa_bits = 1, bias = 1;
    static constexpr float largest = 6.0F;
};

/// An 8-, 6- or 4-bit float; saturates at ±largest, for infinities and NaN too.
template <class Kind>
QS_HD std::uint8_t float_to_minifloat(float value) {
    constexpr int shift = 23 - Kind::mantissa_bits;
    constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(128 - Kind::bias) << 23;
    // Added to a subnormal, it leaves the rounded multiple of 2^(1 − bias − mantissa bits) in the low bits.
    constexpr std::uint32_t aligned = static_cast<std::uint32_t>(127 + 23 + 1 - Kind::bias - Kind::mantissa_bits) << 23;
    const std::uint32_t bits = float_bits(value), magnitude = bits & 0x7FFFFFFFU;
    const std::uint32_t sign = bits >> 31 << (Kind::bits - 1);
    const std::uint32_t clamped = bits_float(magnitude) < Kind::largest ? magnitude : float_bits(Kind::largest);
    const std::uint32_t subnormal = float_bits(bits_float(clamped) + bits_float(aligned)) - aligned;
    const std::uint32_t normal = ((clamped + ((1U << (shift - 1)) - 1) + ((clamped >> shift) & 1)) >> shift) -
                                 (static_cast<std::uint32_t>(127 - Kind::bias) << Kind::mantissa_bits);
    return static_cast<std::uint8_t>(sign | (clamped < smallest_normal ? subnormal : normal));
}

/// The value of a code that is a finite number.
template <class Kind>
QS_HD float minifloat_to_float(std::uint8_t code) {
    constexpr int step = 1 - Kind::bias - Kind::mantissa_bits;
    const std::uint32_t sign = static_cast<std::uint32_t>(code) >> (Kind::bits - 1) << 31;
    const std::uint32_t magnitude = code & ((1U << (Kind::bits - 1)) - 1);
    const float unit = bits_float(static_cast<std::uint32_t>(127 + step) << 23);
    const std::uint32_t subnormal = float_bits(static_cast<float>(static_cast<int>(magnitude)) * unit);
    const std::uint32_t normal =
        (magnitude << (23 - Kind::mantissa_bits)) + (static_cast<std::uint32_t>(127 - Kind::bias) << 23);
    return bits_float(sign | (magnitude < (1U << Kind::mantissa_bits) ? subnormal : normal));
}

/// Saturates at ±largest; a NaN stays one.
template <class Kind>
QS_HD std::uint8_t float_to_fp8(float value) {
    const std::uint32_t bits = float_bits(value);
    const std::uint32_t nan = ((bits >> 24) & 0x80U) | Kind::nan;
    return (bits & 0x7FFFFFFFU) > 0x7F800000U ? static_cast<std::uint8_t>(nan) : float_to_minifloat<Kind>(value);
}

template <class Kind>
QS_HD float fp8_to_float(std::uint8_t code);

template <>
QS_HD inline float fp8_to_float<E4M3>(std::uint8_t code) {
    const std::uint32_t nan = static_cast<std::uint32_t>(code & 0x80U) << 24 | 0x7FC00000U;
    return (code & 0x7FU) == E4M3::nan ? bits_float(nan) : minifloat_to_float<E4M3>(code);
}

template <>
QS_HD inline float fp8_to_float<E5M2>(std::uint8_t code) {
    // E5M2 is the upper half of a binary16.
    return fp16_to_float(static_cast<std::uint16_t>(code << 8));
}

/// E8M0, the scale of the OCP Microscaling formats: 2^(code − 127); 255 is NaN.
QS_HD inline float e8m0_to_float(std::uint8_t code) {
    const std::uint32_t power = code == 0 ? 0x00400000U : static_cast<std::uint32_t>(code) << 23;
    return bits_float(code == 255 ? 0x7FC00000U : power);
}

} // namespace qs
