#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"
#include "core/formats/simd/blocks.h"
#include "core/formats/simd/uniform.h"

namespace qs {

namespace {

/// The fastest that there is of a codec.
template <class Codec>
FastForms fast_forms() {
    return {encode_blocks<Codec>, decode_blocks<Codec>, nullptr};
}
template <>
FastForms fast_forms<Q4_0>() {
    return {simd::encode_q4_0, decode_blocks<Q4_0>, simd::evaluate_q4_0};
}
template <>
FastForms fast_forms<Q4_1>() {
    return {simd::encode_q4_1, decode_blocks<Q4_1>, nullptr};
}
template <>
FastForms fast_forms<Q5_0>() {
    return {simd::encode_q5_0, decode_blocks<Q5_0>, simd::evaluate_q5_0};
}
template <>
FastForms fast_forms<Q5_1>() {
    return {simd::encode_q5_1, decode_blocks<Q5_1>, nullptr};
}
template <>
FastForms fast_forms<Q8_0>() {
    return {simd::encode_q8_0, decode_blocks<Q8_0>, simd::evaluate_q8_0};
}
template <>
FastForms fast_forms<Q2_K>() {
    return {simd::encode_q2_K, decode_blocks<Q2_K>, nullptr};
}
template <>
FastForms fast_forms<Q3_K>() {
    return {simd::encode_q3_K, decode_blocks<Q3_K>, nullptr};
}
template <>
FastForms fast_forms<Q4_K>() {
    return {simd::encode_q4_K, decode_blocks<Q4_K>, nullptr};
}
template <>
FastForms fast_forms<Q5_K>() {
    return {simd::encode_q5_K, decode_blocks<Q5_K>, nullptr};
}
template <>
FastForms fast_forms<Q6_K>() {
    return {simd::encode_q6_K, decode_blocks<Q6_K>, nullptr};
}
template <>
FastForms fast_forms<Iq4Nl>() {
    return {simd::encode_iq4_nl, decode_blocks<Iq4Nl>, nullptr};
}
template <>
FastForms fast_forms<Iq4Xs>() {
    return {simd::encode_iq4_xs, decode_blocks<Iq4Xs>, nullptr};
}
template <>
FastForms fast_forms<Mxfp4Ggml>() {
    return {simd::encode_mxfp4_ggml, decode_blocks<Mxfp4Ggml>, nullptr};
}
template <>
FastForms fast_forms<Nvfp4Ggml>() {
    return {simd::encode_nvfp4_ggml, decode_blocks<Nvfp4Ggml>, nullptr};
}

} // namespace

std::unique_ptr<TensorCodec> bind_ggml_packed(const FormatSpec& spec, const TensorShape& shape,
                                              const float* importance) {
    const Importance use = format(spec.id).importance;
    return with_ggml_packed_codec(spec, [&]<class Codec>(const Codec&) -> std::unique_ptr<TensorCodec> {
        if (shape.columns % Codec::block != 0)
            throw Error("format " + spec.id,
                        "needs rows of a multiple of " + std::to_string(Codec::block) + " weights");
        return std::make_unique<PackedTensorCodec<Codec>>(shape, importance, use, fast_forms<Codec>());
    });
}

} // namespace qs
