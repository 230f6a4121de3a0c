#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"

namespace qs {

std::unique_ptr<TensorCodec> bind_ggml_packed(const FormatSpec& spec, const TensorShape& shape,
                                              const float* importance) {
    const Importance use = format(spec.id).importance;
    return with_ggml_packed_codec(spec, [&]<class Codec>(const Codec&) -> std::unique_ptr<TensorCodec> {
        if (shape.columns % Codec::block != 0)
            throw Error("format " + spec.id,
                        "needs rows of a multiple of " + std::to_string(Codec::block) + " weights");
        return std::make_unique<PackedTensorCodec<Codec>>(shape, importance, use);
    });
}

} // namespace qs
