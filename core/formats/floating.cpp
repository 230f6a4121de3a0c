#include "core/formats/floating.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/simd/blocks.h"

namespace qs {

namespace {

/// fp32, fp16, bf16, tf32: nothing is stored but the codes.
template <class Codec, class Word>
class ElementTensorCodec final : public ScopedCodec<Codec> {
public:
    using ScopedCodec<Codec>::ScopedCodec;

    double stored_bits() const override { return static_cast<double>(this->shape().count()) * 8 * sizeof(Word); }

    void encode(const float* weights, std::uint64_t begin, std::size_t count, std::byte* out) const override {
        if constexpr (std::is_same_v<Codec, Fp16Codec>)
            simd::to_fp16(weights, count, reinterpret_cast<std::uint16_t*>(out));
        else if constexpr (std::is_same_v<Codec, Bf16Codec>)
            simd::to_bf16(weights, count, reinterpret_cast<std::uint16_t*>(out));
        else
            ScopedCodec<Codec>::encode(weights, begin, count, out);
    }

    std::vector<StoredArray> store(const float* weights) const override {
        std::vector<Word> words(static_cast<std::size_t>(this->shape().count()));
        encode(weights, 0, words.size(), reinterpret_cast<std::byte*>(words.data()));
        return {stored_array("codes.u" + std::to_string(8 * sizeof(Word)), words)};
    }
};

/// The finite codes of an 8-bit float.
template <class Kind>
Codebook fp8_codebook() {
    std::vector<Level> levels;
    for (std::uint32_t code = 0; code < 256; ++code)
        if (const float value = fp8_to_float<Kind>(static_cast<std::uint8_t>(code)); is_finite(value))
            levels.push_back({code, value / static_cast<double>(Kind::largest)});
    return halfway_codebook(std::move(levels));
}

template <class Kind>
class Fp8TensorCodec final : public ScopedCodec<Fp8Codec<Kind>> {
public:
    using ScopedCodec<Fp8Codec<Kind>>::ScopedCodec;

    double stored_bits() const override {
        return 8.0 * static_cast<double>(this->shape().count()) + 32.0 * static_cast<double>(this->scopes());
    }

    std::optional<Codebook> codebook() const override { return fp8_codebook<Kind>(); }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = this->encode_all(weights);
        std::vector<float> scales;
        for (const auto& scale : all.scales)
            scales.push_back(scale.scale);
        return {stored_array("codes.u8", std::vector<std::uint8_t>(all.codes.begin(), all.codes.end())),
                stored_array("scales.f32", scales)};
    }
};

std::unique_ptr<TensorCodec> bind(const Fp32Codec& codec, const TensorShape& shape) {
    return std::make_unique<ElementTensorCodec<Fp32Codec, std::uint32_t>>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const Tf32Codec& codec, const TensorShape& shape) {
    return std::make_unique<ElementTensorCodec<Tf32Codec, std::uint32_t>>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const Fp16Codec& codec, const TensorShape& shape) {
    return std::make_unique<ElementTensorCodec<Fp16Codec, std::uint16_t>>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const Bf16Codec& codec, const TensorShape& shape) {
    return std::make_unique<ElementTensorCodec<Bf16Codec, std::uint16_t>>(codec, shape);
}
template <class Kind>
std::unique_ptr<TensorCodec> bind(const Fp8Codec<Kind>& codec, const TensorShape& shape) {
    return std::make_unique<Fp8TensorCodec<Kind>>(codec, shape);
}

} // namespace

std::unique_ptr<TensorCodec> bind_floating(const FormatSpec& spec, const TensorShape& shape, const float*) {
    return with_floating_codec(spec, [&](const auto& codec) { return bind(codec, shape); });
}

} // namespace qs
