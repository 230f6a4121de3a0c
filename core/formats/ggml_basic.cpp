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

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = this->encode_all(weights);
        std::vector<std::uint8_t> bytes(all.scales.size() * Layout::bytes);
        for (std::size_t block = 0; block < all.scales.size(); ++block)
            Layout::pack(all.codes.data() + block * ggml_block, all.scales[block],
                         bytes.data() + block * Layout::bytes);
        return {stored_array("blocks.u8", bytes)};
    }
};

} // namespace

std::unique_ptr<TensorCodec> bind_ggml_basic(const FormatSpec& spec, const TensorShape& shape) {
    if (shape.columns % ggml_block != 0)
        throw Error("format " + spec.id, "needs rows of a multiple of 32 weights");
    return with_ggml_basic_codec(spec, [&]<class Codec>(const Codec& codec) -> std::unique_ptr<TensorCodec> {
        return std::make_unique<GgmlTensorCodec<Codec>>(codec, shape);
    });
}

} // namespace qs
