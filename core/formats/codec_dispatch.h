#pragma once

#include <limits>

#include "core/base/error.h"
#include "core/formats/bitsandbytes.h"
#include "core/formats/floating.h"
#include "core/formats/format_spec.h"
#include "core/formats/ggml_basic.h"
#include "core/formats/integer.h"

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

/// Calls `use(codec)` with the block codec of a spec. One call for the CPU's codecs, the CUDA kernels and the tests.
/// Throws Error for an id that has none.
template <class Use>
auto with_codec(const FormatSpec& spec, Use&& use) {
    const std::string& id = spec.id;
    if (id == "fp32")
        return use(Fp32Codec{});
    if (id == "fp16")
        return use(Fp16Codec{});
    if (id == "bf16")
        return use(Bf16Codec{});
    if (id == "tf32")
        return use(Tf32Codec{});
    if (id == "fp8_e4m3")
        return use(Fp8Codec<E4M3>{scope_of(spec, "scale")});
    if (id == "fp8_e5m2")
        return use(Fp8Codec<E5M2>{scope_of(spec, "scale")});
    if (id == "int8")
        return with_int_codec(spec, 8, use);
    if (id == "int4")
        return with_int_codec(spec, 4, use);
    if (id == "llm_int8") {
        const auto threshold = static_cast<float>(spec.real("threshold"));
        return use(LlmInt8Codec{threshold > 0 ? threshold : std::numeric_limits<float>::infinity()});
    }
    if (id == "nf4")
        return use(Nf4Codec{static_cast<std::uint64_t>(spec.integer("block"))});
    if (id == "fp4")
        return use(Fp4Codec{static_cast<std::uint64_t>(spec.integer("block"))});
    if (id == "q4_0")
        return use(Q4_0Codec{});
    if (id == "q4_1")
        return use(Q4_1Codec{});
    if (id == "q5_0")
        return use(Q5_0Codec{});
    if (id == "q5_1")
        return use(Q5_1Codec{});
    if (id == "q8_0")
        return use(Q8_0Codec{});
    throw Error("format " + id, "has no block codec");
}

} // namespace qs
