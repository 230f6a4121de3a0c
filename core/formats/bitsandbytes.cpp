#include "core/formats/bitsandbytes.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/simd/codebook4.h"
#include "core/formats/stored_arrays.h"

namespace qs {

namespace {

Codebook codebook_of(const Nf4Codec&) {
    Codebook codebook;
    for (std::uint32_t code = 0; code < 16; ++code) {
        codebook.levels.push_back({code, Nf4Codec::level(code)});
        if (code > 0)
            codebook.boundaries.push_back(Nf4Codec::threshold(code - 1));
    }
    return codebook;
}

Codebook codebook_of(const Fp4Codec&) {
    Codebook codebook;
    for (int rank = 7; rank >= 0; --rank) {
        const std::uint32_t code = Fp4Codec::code_of_rank(static_cast<std::uint32_t>(rank)) | 8;
        codebook.levels.push_back({code, Fp4Codec::level(code)});
        codebook.boundaries.push_back(rank > 0 ? -Fp4Codec::threshold(static_cast<std::uint32_t>(rank) - 1) : 0.0);
    }
    for (std::uint32_t rank = 0; rank < 8; ++rank) {
        const std::uint32_t code = Fp4Codec::code_of_rank(rank);
        codebook.levels.push_back({code, Fp4Codec::level(code)});
        if (rank > 0)
            codebook.boundaries.push_back(Fp4Codec::threshold(rank - 1));
    }
    return codebook;
}

/// Two codes a byte, the first in the high nibble.
std::vector<std::uint8_t> packed(const std::vector<std::uint16_t>& codes) {
    std::vector<std::uint8_t> bytes((codes.size() + 1) / 2);
    for (std::size_t i = 0; i < codes.size(); ++i)
        bytes[i / 2] = static_cast<std::uint8_t>(bytes[i / 2] | codes[i] << (i % 2 == 0 ? 4 : 0));
    return bytes;
}

StoredArray absmax_array(const std::vector<AbsmaxScale>& scales) {
    std::vector<float> absmax;
    for (const AbsmaxScale& scale : scales)
        absmax.push_back(scale.decode);
    return stored_array("absmax.f32", absmax);
}

template <class Codec>
class FourBitTensorCodec : public ScopedCodec<Codec> {
public:
    using ScopedCodec<Codec>::ScopedCodec;

    double stored_bits() const override { return this->packed_bits() + 32.0 * static_cast<double>(this->scopes()); }

    std::optional<Codebook> codebook() const override { return codebook_of(this->codec()); }

    bool has_bf16_form() const override { return this->shape().count() >= word_forms_from; }
    bool leaves_w2() const override { return has_bf16_form(); }

    std::size_t evaluate_bf16(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                              std::uint64_t* usage) const override {
        const auto codebook = std::is_same_v<Codec, Nf4Codec> ? simd::Codebook4::nf4 : simd::Codebook4::fp4;
        const float* absmax = decode_absmax();
        const std::uint64_t block = this->codec().block;
        return simd::evaluate_codebook4(codebook, words, begin, count, static_cast<std::size_t>(block),
                                        absmax == nullptr ? nullptr : absmax + begin / block, sums, usage);
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = this->encode_all(weights);
        return stored_arrays(all.codes, all.scales);
    }

protected:
    /// What each block is decoded with, where it is not its absmax.
    virtual const float* decode_absmax() const { return nullptr; }

    /// Two codes a byte: an odd count leaves a nibble unused.
    double packed_bits() const { return 8.0 * static_cast<double>((this->shape().count() + 1) / 2); }
};

/// Double quantization: the absmax of the blocks, less their mean, go through the 8-bit dynamic map in blocks of 256.
template <class Codec>
class DoubleQuantTensorCodec final : public FourBitTensorCodec<Codec> {
public:
    using Scale = typename Codec::Scale;

    using FourBitTensorCodec<Codec>::FourBitTensorCodec;

    bool needs_scan() const override { return true; }

    void scan(const float* weights, std::uint64_t begin, std::size_t count) override {
        this->for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            blocks().at(static_cast<std::size_t>(scope)) = this->extent_of(weights + (from - begin), length).value;
        });
    }

    void finish_scan() override { nested_ = quantize_nested(blocks()); }

    double stored_bits() const override {
        const auto blocks = static_cast<double>(this->scopes());
        const auto nested = static_cast<double>((this->scopes() + NestedAbsmax::block - 1) / NestedAbsmax::block);
        return this->packed_bits() + 8 * blocks + 32 * nested + 32;
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = this->encode_all(weights);
        return stored_arrays(all.codes, nested_);
    }

protected:
    const float* decode_absmax() const override { return nested_.decoded.data(); }

    Scale scale_of(std::uint64_t scope, const float* weights, std::size_t length) const override {
        Scale scale = this->codec().fit(this->extent_of(weights, length));
        scale.decode = nested_.decoded[static_cast<std::size_t>(scope)];
        return scale;
    }

private:
    std::vector<float>& blocks() {
        std::call_once(sized_, [&] { absmax_.resize(static_cast<std::size_t>(this->scopes())); });
        return absmax_;
    }

    std::once_flag sized_;
    std::vector<float> absmax_;
    NestedAbsmax nested_;
};

class Dynamic8TensorCodec final : public ScopedCodec<Dynamic8Codec> {
public:
    using ScopedCodec::ScopedCodec;

    double stored_bits() const override {
        return 8.0 * static_cast<double>(shape().count()) + 32.0 * static_cast<double>(scopes());
    }

    std::optional<Codebook> codebook() const override {
        std::vector<Level> levels;
        for (std::uint32_t code = 0; code < 256; ++code)
            levels.push_back({code, dynamic_level(code)});
        return halfway_codebook(std::move(levels));
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        return {stored_array("weight.u8", std::vector<std::uint8_t>(all.codes.begin(), all.codes.end())),
                absmax_array(all.scales)};
    }
};

template <class Codec>
std::unique_ptr<TensorCodec> bind(const Codec& codec, const FormatSpec& spec, const TensorShape& shape) {
    if (spec.flag("dq"))
        return std::make_unique<DoubleQuantTensorCodec<Codec>>(codec, shape);
    return std::make_unique<FourBitTensorCodec<Codec>>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const Dynamic8Codec& codec, const FormatSpec&, const TensorShape& shape) {
    return std::make_unique<Dynamic8TensorCodec>(codec, shape);
}

} // namespace

std::vector<StoredArray> stored_arrays(const std::vector<std::uint16_t>& codes,
                                       const std::vector<AbsmaxScale>& scales) {
    return {stored_array("weight.u8", packed(codes)), absmax_array(scales)};
}

std::vector<StoredArray> stored_arrays(const std::vector<std::uint16_t>& codes, const NestedAbsmax& nested) {
    return {stored_array("weight.u8", packed(codes)), stored_array("absmax.u8", nested.codes),
            stored_array("nested_absmax.f32", nested.scales),
            stored_array("offset.f32", std::vector<float>{nested.offset})};
}

std::unique_ptr<TensorCodec> bind_bitsandbytes(const FormatSpec& spec, const TensorShape& shape, const float*) {
    return with_bitsandbytes_codec(spec, [&](const auto& codec) { return bind(codec, spec, shape); });
}

} // namespace qs
