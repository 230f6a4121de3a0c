#include "core/formats/ggml_basic.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/scoped_codec.h"

namespace qs {

namespace {

template <int bits>
Codebook codebook_of(const GgmlSymmetricCodec<bits>& codec) {
    Codebook codebook;
    for (std::uint32_t q = 0; q < codec.code_count; ++q) {
        codebook.levels.push_back({q, (q - static_cast<double>(codec.half)) / codec.half});
        if (q > 0)
            codebook.boundaries.push_back((q - 0.5 - codec.half) / codec.half);
    }
    return codebook;
}

template <int bits>
Codebook codebook_of(const GgmlAffineCodec<bits>& codec) {
    Codebook codebook;
    for (std::uint32_t q = 0; q < codec.code_count; ++q) {
        codebook.levels.push_back({q, 2.0 * q / codec.last - 1});
        if (q > 0)
            codebook.boundaries.push_back(2 * (q - 0.5) / codec.last - 1);
    }
    return codebook;
}

/// Code −128 is never made: the scale puts the extreme at ±127.
Codebook codebook_of(const Q8_0Codec&) {
    Codebook codebook;
    for (std::uint32_t code = 1; code < 256; ++code) {
        codebook.levels.push_back({code, (code - 128.0) / 127});
        if (code > 1)
            codebook.boundaries.push_back((code - 128.5) / 127);
    }
    return codebook;
}

template <class Codec>
class GgmlTensorCodec final : public ScopedCodec<Codec> {
public:
    using ScopedCodec<Codec>::ScopedCodec;
    using Layout = GgmlLayout<Codec>;

    double stored_bits() const override { return 8.0 * Layout::bytes * static_cast<double>(this->scopes()); }

    std::optional<Codebook> codebook() const override { return codebook_of(this->codec()); }

    std::size_t encoded_bytes(std::uint64_t, std::size_t count) const override {
        return count / ggml_block * Layout::bytes;
    }

    void encode(const float* weights, std::uint64_t begin, std::size_t count, std::byte* out) const override {
        auto* bytes = reinterpret_cast<std::uint8_t*>(out);
        this->for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            const float* block = weights + (from - begin);
            const auto scale = this->scale_of(scope, block, length);
            std::uint16_t codes[ggml_block];
            for (std::size_t j = 0; j < ggml_block; ++j)
                codes[j] = static_cast<std::uint16_t>(this->codec().encode(block[j], scale));
            Layout::pack(codes, scale, bytes);
            bytes += Layout::bytes;
        });
    }

    void decode(const std::byte* encoded, std::uint64_t, std::size_t count, float* out) const override {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(encoded);
        for (std::size_t i = 0; i < count; i += ggml_block, bytes += Layout::bytes)
            for (std::uint32_t j = 0; j < ggml_block; ++j)
                out[i + j] = Layout::value(bytes, j);
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto count = static_cast<std::size_t>(this->shape().count());
        std::vector<std::byte> bytes(encoded_bytes(0, count));
        encode(weights, 0, count, bytes.data());
        return {{"blocks.u8", std::move(bytes)}};
    }
};

template <class Codec>
std::unique_ptr<TensorCodec> bind(const Codec& codec, const TensorShape& shape, const float*) {
    return std::make_unique<GgmlTensorCodec<Codec>>(codec, shape);
}
template <class Weighted, class Codec>
std::unique_ptr<TensorCodec> bind_weighted(const Codec& codec, const TensorShape& shape, const float* importance) {
    if (importance == nullptr)
        return std::make_unique<GgmlTensorCodec<Codec>>(codec, shape);
    return std::make_unique<PackedTensorCodec<Weighted>>(shape, importance, Importance::optional);
}
template <int bits>
std::unique_ptr<TensorCodec> bind(const GgmlSymmetricCodec<bits>& codec, const TensorShape& shape,
                                  const float* importance) {
    return bind_weighted<GgmlWeightedCodec<bits, false>>(codec, shape, importance);
}
template <int bits>
std::unique_ptr<TensorCodec> bind(const GgmlAffineCodec<bits>& codec, const TensorShape& shape,
                                  const float* importance) {
    return bind_weighted<GgmlWeightedCodec<bits, true>>(codec, shape, importance);
}

} // namespace

std::unique_ptr<TensorCodec> bind_ggml_basic(const FormatSpec& spec, const TensorShape& shape,
                                             const float* importance) {
    if (shape.columns % ggml_block != 0)
        throw Error("format " + spec.id, "needs rows of a multiple of 32 weights");
    return with_ggml_basic_codec(spec, [&](const auto& codec) { return bind(codec, shape, importance); });
}

} // namespace qs
