#pragma once

#include "core/formats/block_codec.h"

/// The float formats: FORMATS part "Floats".
namespace qs {

struct NoScale {};

/// Formats that round each weight by itself.
struct ElementCodec {
    using Extent = NoExtent;
    using Scale = NoScale;
    QS_HD Scope scope() const { return {Scope::Kind::element, 1}; }
    QS_HD void extend(Extent&, float) const {}
    QS_HD Scale fit(const Extent&) const { return {}; }
    QS_HD float position(float w, const Scale&) const { return w; }
};

struct Fp32Codec : ElementCodec {
    static constexpr std::uint32_t code_count = 0;
    QS_HD std::uint32_t encode(float w, const Scale&) const { return float_bits(w); }
    QS_HD float decode(std::uint32_t code, const Scale&) const { return bits_float(code); }
};

struct Tf32Codec : ElementCodec {
    static constexpr std::uint32_t code_count = 0;
    QS_HD std::uint32_t encode(float w, const Scale&) const { return float_bits(round_to_tf32(w)); }
    QS_HD float decode(std::uint32_t code, const Scale&) const { return bits_float(code); }
};

struct Fp16Codec : ElementCodec {
    static constexpr std::uint32_t code_count = 65536;
    QS_HD std::uint32_t encode(float w, const Scale&) const { return float_to_fp16(w); }
    QS_HD float decode(std::uint32_t code, const Scale&) const {
        return fp16_to_float(static_cast<std::uint16_t>(code));
    }
};

struct Bf16Codec : ElementCodec {
    static constexpr std::uint32_t code_count = 65536;
    QS_HD std::uint32_t encode(float w, const Scale&) const { return float_to_bf16(w); }
    QS_HD float decode(std::uint32_t code, const Scale&) const {
        return bf16_to_float(static_cast<std::uint16_t>(code));
    }
};

/// fp8 with a float32 scale, amax / largest, for a tensor or a row.
template <class Kind>
struct Fp8Codec {
    static constexpr std::uint32_t code_count = 256;
    using Extent = AbsMax;
    struct Scale {
        float scale;
    };
    Scope scope_;

    QS_HD Scope scope() const { return scope_; }
    QS_HD void extend(Extent& extent, float w) const { extent.add(w); }
    QS_HD Scale fit(const Extent& extent) const {
        const float scale = extent.value / Kind::largest;
        // Where even the quotient is zero there is nothing to scale.
        return {scale > 0 ? scale : 1.0F};
    }
    QS_HD std::uint32_t encode(float w, const Scale& scale) const {
        return float_to_fp8<Kind>(clamp(w / scale.scale, -Kind::largest, Kind::largest));
    }
    QS_HD float decode(std::uint32_t code, const Scale& scale) const {
        return fp8_to_float<Kind>(static_cast<std::uint8_t>(code)) * scale.scale;
    }
    QS_HD float position(float w, const Scale& scale) const { return w / scale.scale / Kind::largest; }
};

} // namespace qs
