#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"
#include "core/formats/simd/blocks.h"

namespace qs {

namespace {

/// The fastest encoder of a codec.
template <class Codec>
BlockEncoder encoder_of(const Codec&) {
    return encode_blocks<Codec>;
}
BlockEncoder encoder_of(const Q4_0&) {
    return simd::encode_q4_0;
}
BlockEncoder encoder_of(const Q4_1&) {
    return simd::encode_q4_1;
}
BlockEncoder encoder_of(const Q5_0&) {
    return simd::encode_q5_0;
}
BlockEncoder encoder_of(const Q5_1&) {
    return simd::encode_q5_1;
}
BlockEncoder encoder_of(const Q8_0&) {
    return simd::encode_q8_0;
}
BlockEncoder encoder_of(const Q2_K&) {
    return simd::encode_q2_K;
}
BlockEncoder encoder_of(const Q3_K&) {
    return simd::encode_q3_K;
}
BlockEncoder encoder_of(const Q4_K&) {
    return simd::encode_q4_K;
}
BlockEncoder encoder_of(const Q5_K&) {
    return simd::encode_q5_K;
}
BlockEncoder encoder_of(const Q6_K&) {
    return simd::encode_q6_K;
}
BlockEncoder encoder_of(const Iq4Nl&) {
    return simd::encode_iq4_nl;
}
BlockEncoder encoder_of(const Iq4Xs&) {
    return simd::encode_iq4_xs;
}
BlockEncoder encoder_of(const Mxfp4Ggml&) {
    return simd::encode_mxfp4_ggml;
}
BlockEncoder encoder_of(const Nvfp4Ggml&) {
    return simd::encode_nvfp4_ggml;
}

} // namespace

std::unique_ptr<TensorCodec> bind_ggml_packed(const FormatSpec& spec, const TensorShape& shape,
                                              const float* importance) {
    const Importance use = format(spec.id).importance;
    return with_ggml_packed_codec(spec, [&]<class Codec>(const Codec& codec) -> std::unique_ptr<TensorCodec> {
        if (shape.columns % Codec::block != 0)
            throw Error("format " + spec.id,
                        "needs rows of a multiple of " + std::to_string(Codec::block) + " weights");
        return std::make_unique<PackedTensorCodec<Codec>>(shape, importance, use, encoder_of(codec));
    });
}

} // namespace qs
