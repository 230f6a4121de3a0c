#pragma once

#include <limits>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"
#include "core/formats/bitsandbytes.h"
#include "core/formats/floating.h"
#include "core/formats/format_spec.h"
#include "core/formats/ggml_basic.h"
#include "core/formats/ggml_iq.h"
#include "core/formats/ggml_ternary.h"
#include "core/formats/integer.h"
#include "core/formats/microscaling.h"

/// From a spec to its block codec: `with_codec(spec, use)` calls `use(codec)`, `with_<family>_codec` compiles `use` for
/// one family only. The CPU's tensor codecs and the CUDA kernels both come through here. Throws Error for an id that
/// has none.
namespace qs {

/// The scope that an integer or fp8 spec names.
inline Scope scope_of(const FormatSpec& spec, const std::string& parameter) {
    const std::string& choice = spec.choice(parameter);
    if (choice == "tensor")
        return {Scope::Kind::tensor, 0};
    if (choice == "channel")
        return {Scope::Kind::row, 0};
    return {Scope::Kind::row, static_cast<std::uint64_t>(spec.integer("group"))};
}

template <class Codec>
Codec make_int_codec(const FormatSpec& spec, int bits) {
    return {scope_of(spec, "scope"), bits, spec.choice("scales") == "fp16", 1U << bits};
}

template <class Use>
auto with_int_codec(const FormatSpec& spec, int bits, Use&& use) {
    if (spec.flag("affine"))
        return use(make_int_codec<AffineIntCodec>(spec, bits));
    return use(make_int_codec<SymmetricIntCodec>(spec, bits));
}

[[noreturn]] inline void no_block_codec(const FormatSpec& spec) {
    throw Error("format " + spec.id, "has no block codec");
}

template <class Use>
auto with_floating_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "fp32")
        return use(Fp32Codec{});
    if (spec.id == "fp16")
        return use(Fp16Codec{});
    if (spec.id == "bf16")
        return use(Bf16Codec{});
    if (spec.id == "tf32")
        return use(Tf32Codec{});
    if (spec.id == "fp8_e4m3")
        return use(Fp8Codec<E4M3>{scope_of(spec, "scale")});
    if (spec.id == "fp8_e5m2")
        return use(Fp8Codec<E5M2>{scope_of(spec, "scale")});
    no_block_codec(spec);
}

template <class Use>
auto with_integer_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "int8")
        return with_int_codec(spec, 8, use);
    if (spec.id == "int4")
        return with_int_codec(spec, 4, use);
    if (spec.id == "int3")
        return with_int_codec(spec, 3, use);
    if (spec.id == "int2")
        return with_int_codec(spec, 2, use);
    if (spec.id == "llm_int8") {
        const auto threshold = static_cast<float>(spec.real("threshold"));
        return use(LlmInt8Codec{threshold > 0 ? threshold : std::numeric_limits<float>::infinity()});
    }
    no_block_codec(spec);
}

template <class Use>
auto with_bitsandbytes_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "nf4")
        return use(Nf4Codec{static_cast<std::uint64_t>(spec.integer("block"))});
    if (spec.id == "fp4")
        return use(Fp4Codec{static_cast<std::uint64_t>(spec.integer("block"))});
    if (spec.id == "dynamic8")
        return use(Dynamic8Codec{static_cast<std::uint64_t>(spec.integer("block"))});
    no_block_codec(spec);
}

/// The element codecs of the blocks of 32, which CUDA kernels run.
template <class Use>
auto with_ggml_basic_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "q4_0")
        return use(Q4_0Codec{});
    if (spec.id == "q4_1")
        return use(Q4_1Codec{});
    if (spec.id == "q5_0")
        return use(Q5_0Codec{});
    if (spec.id == "q5_1")
        return use(Q5_1Codec{});
    if (spec.id == "q8_0")
        return use(Q8_0Codec{});
    no_block_codec(spec);
}

/// The formats whose blocks are encoded as a whole (packed_codec.h).
template <class Use>
auto with_ggml_packed_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "q4_0")
        return use(Q4_0{});
    if (spec.id == "q4_1")
        return use(Q4_1{});
    if (spec.id == "q5_0")
        return use(Q5_0{});
    if (spec.id == "q5_1")
        return use(Q5_1{});
    if (spec.id == "q8_0")
        return use(Q8_0{});
    if (spec.id == "q2_K")
        return use(Q2_K{});
    if (spec.id == "q3_K")
        return use(Q3_K{});
    if (spec.id == "q4_K")
        return use(Q4_K{});
    if (spec.id == "q5_K")
        return use(Q5_K{});
    if (spec.id == "q6_K")
        return use(Q6_K{});
    if (spec.id == "iq4_nl")
        return use(Iq4Nl{});
    if (spec.id == "iq4_xs")
        return use(Iq4Xs{});
    if (spec.id == "iq1_s")
        return use(Iq1S{});
    if (spec.id == "iq1_m")
        return use(Iq1M{});
    if (spec.id == "iq2_xxs")
        return use(Iq2Xxs{});
    if (spec.id == "iq2_xs")
        return use(Iq2Xs{});
    if (spec.id == "iq2_s")
        return use(Iq2S{});
    if (spec.id == "iq3_xxs")
        return use(Iq3Xxs{});
    if (spec.id == "iq3_s")
        return use(Iq3S{});
    if (spec.id == "mxfp4_ggml")
        return use(Mxfp4Ggml{});
    if (spec.id == "nvfp4_ggml")
        return use(Nvfp4Ggml{});
    if (spec.id == "tq1_0")
        return use(Tq1_0{});
    if (spec.id == "tq2_0")
        return use(Tq2_0{});
    if (spec.id == "q1_0")
        return use(Q1_0{});
    if (spec.id == "q2_0")
        return use(Q2_0{});
    no_block_codec(spec);
}

/// The packed codec of a stored type of blocks. Throws Error for types that hold no weights.
template <class Use>
auto with_stored_codec(DType dtype, Use&& use) {
    switch (dtype) {
    case DType::q4_0:
        return use(Q4_0{});
    case DType::q4_1:
        return use(Q4_1{});
    case DType::q5_0:
        return use(Q5_0{});
    case DType::q5_1:
        return use(Q5_1{});
    case DType::q8_0:
        return use(Q8_0{});
    case DType::q2_K:
        return use(Q2_K{});
    case DType::q3_K:
        return use(Q3_K{});
    case DType::q4_K:
        return use(Q4_K{});
    case DType::q5_K:
        return use(Q5_K{});
    case DType::q6_K:
        return use(Q6_K{});
    case DType::iq4_nl:
        return use(Iq4Nl{});
    case DType::iq4_xs:
        return use(Iq4Xs{});
    case DType::iq1_s:
        return use(Iq1S{});
    case DType::iq1_m:
        return use(Iq1M{});
    case DType::iq2_xxs:
        return use(Iq2Xxs{});
    case DType::iq2_xs:
        return use(Iq2Xs{});
    case DType::iq2_s:
        return use(Iq2S{});
    case DType::iq3_xxs:
        return use(Iq3Xxs{});
    case DType::iq3_s:
        return use(Iq3S{});
    case DType::mxfp4:
        return use(Mxfp4Ggml{});
    case DType::nvfp4:
        return use(Nvfp4Ggml{});
    case DType::tq1_0:
        return use(Tq1_0{});
    case DType::tq2_0:
        return use(Tq2_0{});
    case DType::q1_0:
        return use(Q1_0{});
    case DType::q2_0:
        return use(Q2_0{});
    default:
        throw Error("data type " + std::string(to_string(dtype)), "does not hold weights that can be read as floats");
    }
}

inline MxScaleRule scale_rule_of(const FormatSpec& spec) {
    const std::string& rule = spec.choice("scale");
    return rule == "ceil"    ? MxScaleRule::ceil
           : rule == "even"  ? MxScaleRule::even
           : rule == "rceil" ? MxScaleRule::rceil
                             : MxScaleRule::floor;
}

/// The OCP MX formats. NVFP4 is not among them: its codec needs the tensor's scale.
template <class Use>
auto with_microscaling_codec(const FormatSpec& spec, Use&& use) {
    if (spec.id == "mxfp8_e4m3")
        return use(MxCodec<FloatElement<E4M3>>{scale_rule_of(spec)});
    if (spec.id == "mxfp8_e5m2")
        return use(MxCodec<FloatElement<E5M2>>{scale_rule_of(spec)});
    if (spec.id == "mxfp6_e3m2")
        return use(MxCodec<FloatElement<E3M2>>{scale_rule_of(spec)});
    if (spec.id == "mxfp6_e2m3")
        return use(MxCodec<FloatElement<E2M3>>{scale_rule_of(spec)});
    if (spec.id == "mxfp4")
        return use(MxCodec<FloatElement<E2M1>>{scale_rule_of(spec)});
    if (spec.id == "mxint8")
        return use(MxCodec<IntElement>{scale_rule_of(spec)});
    no_block_codec(spec);
}

/// The formats of the other kind (block_codec.h).
template <class Use>
auto with_codec(const FormatSpec& spec, Use&& use) {
    const std::string& id = spec.id;
    if (id.starts_with("int") || id == "llm_int8")
        return with_integer_codec(spec, use);
    if (id == "nf4" || id == "fp4" || id == "dynamic8")
        return with_bitsandbytes_codec(spec, use);
    if (id.starts_with("mx"))
        return with_microscaling_codec(spec, use);
    if (id.starts_with("q"))
        return with_ggml_basic_codec(spec, use);
    return with_floating_codec(spec, use);
}

/// Whether with_codec() takes the spec and with_stored_codec() the type; asked of themselves, so that they cannot
/// differ.
inline bool has_block_codec(const FormatSpec& spec) {
    try {
        with_codec(spec, [](const auto&) {});
        return true;
    } catch (const Error&) {
        return false;
    }
}
inline bool has_stored_codec(DType dtype) {
    try {
        with_stored_codec(dtype, [](const auto&) {});
        return true;
    } catch (const Error&) {
        return false;
    }
}

} // namespace qs
