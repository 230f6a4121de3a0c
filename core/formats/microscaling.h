#pragma once

#include "core/formats/block_codec.h"

/// The microscaling formats: FORMATS part "FP8, FP6, FP4, MX, NVFP4". MX is that of the OCP Microscaling Formats
/// specification 1.0, its other rules for the scale those of pytorch/ao (prototype/mx_formats); NVFP4 is that of
/// NVIDIA's ModelOpt (qtensor/nvfp4_tensor.py at a2fbac7b).
namespace qs {

/// A float as element of a block.
template <class Kind>
struct FloatElement {
    static constexpr int bits = Kind::bits, mantissa_bits = Kind::mantissa_bits;
    static constexpr float largest = Kind::largest;

    QS_HD static std::uint32_t encode(float x) { return float_to_minifloat<Kind>(x); }
    QS_HD static float decode(std::uint32_t code) {
        if constexpr (bits == 8)
            return fp8_to_float<Kind>(static_cast<std::uint8_t>(code));
        else
            return minifloat_to_float<Kind>(static_cast<std::uint8_t>(code));
    }
};

/// A multiple of 1/64 in two's complement; −128 is never made.
struct IntElement {
    static constexpr int bits = 8, mantissa_bits = 6;
    static constexpr float largest = 127 / 64.0F;

    QS_HD static std::uint32_t encode(float x) {
        return static_cast<std::uint8_t>(static_cast<std::int32_t>(nearest_even(clamp(x * 64, -127.0F, 127.0F))));
    }
    QS_HD static float decode(std::uint32_t code) {
        return static_cast<float>(static_cast<std::int8_t>(code)) * (1 / 64.0F);
    }
};

/// How the power of two is chosen that scales a block.
enum class MxScaleRule : std::uint8_t {
    floor, ///< that of absmax, rounded down, over that of the largest element: OCP's rule
    ceil,  ///< the same rounded up
    even,  ///< rounded down after absmax is rounded to the precision of the elements
    rceil  ///< absmax / largest element, rounded up: the least with which nothing saturates
};

/// An OCP MX format: blocks of 32 along a row, a power of two (E8M0) as scale.
template <class Element>
struct MxCodec {
    static constexpr std::uint32_t code_count = 1U << Element::bits, block = 32;
    using Extent = AbsMax;
    struct Scale {
        std::uint8_t e8m0;
    };
    MxScaleRule rule;

    QS_HD Scope scope() const { return {Scope::Kind::row, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const {
        // As in microxcaling, a block of zeros counts as the smallest normal number.
        const float absmax = extent.value > 0 ? extent.value : 0x1p-126F;
        const int shift = absmax < 0x1p-126F ? 24 : 0;
        const std::uint32_t bits = float_bits(shift > 0 ? absmax * 0x1p24F : absmax);
        const int power = exponent_of(bits) - shift + (mantissa_of(bits) > last_rounded_down() ? 1 : 0);
        const int e8m0 = power - exponent_of(float_bits(Element::largest)) + 127;
        return {static_cast<std::uint8_t>(e8m0 < 0 ? 0 : e8m0 > 254 ? 254 : e8m0)};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        // As in the references, a zero loses its sign.
        return Element::encode(finite_or_zero(w) * reciprocal(scale) + 0.0F);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return Element::decode(code) * e8m0_to_float(scale.e8m0);
    }
    QS_HD float position(float w, const Scale& scale) const { return w * reciprocal(scale) / Element::largest; }

private:
    QS_HD static float reciprocal(const Scale& scale) {
        return e8m0_to_float(static_cast<std::uint8_t>(254 - scale.e8m0));
    }
    QS_HD static int exponent_of(std::uint32_t bits) { return static_cast<int>(bits >> 23) - 127; }
    QS_HD static std::uint32_t mantissa_of(std::uint32_t bits) { return bits & 0x7FFFFFU; }

    /// With a mantissa above this one, absmax counts as the next power of two.
    QS_HD std::uint32_t last_rounded_down() const {
        switch (rule) {
        case MxScaleRule::floor:
            break;
        case MxScaleRule::ceil:
            return 0;
        case MxScaleRule::even:
            return 0x7FFFFFU - (1U << (22 - Element::mantissa_bits));
        case MxScaleRule::rceil:
            return mantissa_of(float_bits(Element::largest));
        }
        return 0x7FFFFFU;
    }
};

/// NVFP4: E2M1 in blocks of 16 along a row, an E4M3 scale for each, and a float32 scale for the tensor.
struct Nvfp4Codec {
    static constexpr std::uint32_t code_count = 16, block = 16;
    using Extent = AbsMax;
    struct Scale {
        float decode; ///< of the block times that of the tensor
        std::uint8_t e4m3;
    };
    float global = 1; ///< the tensor's scale

    QS_HD static float global_of(const AbsMax& tensor) { return tensor.value / (E2M1::largest * E4M3::largest); }

    QS_HD Scope scope() const { return {Scope::Kind::row, block}; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const {
        const float scale = extent.value / (E2M1::largest * global);
        // Where nothing is to be scaled the reference has 1.
        const float present = scale > 0 ? clamp(scale, 0x1p-9F, E4M3::largest) : 1.0F;
        const std::uint8_t e4m3 = float_to_fp8<E4M3>(present);
        return {fp8_to_float<E4M3>(e4m3) * global, e4m3};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        // Both scales together can be below all float32; a zero loses its sign.
        const float x = scale.decode > 0 ? finite_or_zero(w) / scale.decode : 0.0F;
        return float_to_minifloat<E2M1>(x + 0.0F);
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return minifloat_to_float<E2M1>(static_cast<std::uint8_t>(code)) * scale.decode;
    }
    QS_HD float position(float w, const Scale& scale) const {
        return scale.decode > 0 ? w / scale.decode / E2M1::largest : 0.0F;
    }
};

} // namespace qs
