#include "core/formats/microscaling.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/scoped_codec.h"

namespace qs {

namespace {

/// The codes as a little-endian stream of bits, every row filled up to whole blocks with zeros: of two codes in a byte
/// the first is in the low nibble.
std::vector<std::uint8_t> packed(const std::vector<std::uint16_t>& codes, const TensorShape& shape, unsigned bits,
                                 std::uint64_t block) {
    const std::uint64_t row_bytes = (shape.columns + block - 1) / block * block * bits / 8;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(shape.rows * row_bytes));
    for (std::uint64_t i = 0; i < codes.size(); ++i) {
        const std::uint64_t at = i % shape.columns * bits;
        const unsigned shifted = static_cast<unsigned>(codes[i]) << at % 8;
        std::uint8_t* byte = bytes.data() + i / shape.columns * row_bytes + at / 8;
        byte[0] = static_cast<std::uint8_t>(byte[0] | shifted);
        if (at % 8 + bits > 8)
            byte[1] = static_cast<std::uint8_t>(byte[1] | shifted >> 8);
    }
    return bytes;
}

template <class Element>
Codebook codebook_of() {
    std::vector<Level> levels;
    for (std::uint32_t code = 0; code < 1U << Element::bits; ++code)
        if (const float value = Element::decode(code); std::abs(value) <= Element::largest)
            levels.push_back({code, value / static_cast<double>(Element::largest)});
    return halfway_codebook(std::move(levels));
}

template <class Element>
class MxTensorCodec final : public ScopedCodec<MxCodec<Element>> {
public:
    using Codec = MxCodec<Element>;
    using ScopedCodec<Codec>::ScopedCodec;

    double stored_bits() const override {
        return (Element::bits * Codec::block + 8.0) * static_cast<double>(this->scopes());
    }

    std::optional<Codebook> codebook() const override { return codebook_of<Element>(); }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = this->encode_all(weights);
        std::vector<std::uint8_t> scales;
        for (const auto& scale : all.scales)
            scales.push_back(scale.e8m0);
        return {stored_array("elements.u8", packed(all.codes, this->shape(), Element::bits, Codec::block)),
                stored_array("scales.u8", scales)};
    }
};

/// The scale of the tensor comes from a first pass, those of the blocks follow from it.
class Nvfp4TensorCodec final : public ScopedCodec<Nvfp4Codec> {
public:
    explicit Nvfp4TensorCodec(const TensorShape& shape) : ScopedCodec({}, shape) {}

    bool needs_scan() const override { return true; }

    void scan(const float* weights, std::uint64_t, std::size_t count) override {
        const AbsMax part = extent_of(weights, count);
        const std::lock_guard lock(merging_);
        absmax_.merge(part);
    }

    void finish_scan() override { scaled_.global = Nvfp4Codec::global_of(absmax_); }

    double stored_bits() const override { return (4.0 * Nvfp4Codec::block + 8) * static_cast<double>(scopes()) + 32; }

    std::optional<Codebook> codebook() const override { return codebook_of<FloatElement<E2M1>>(); }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        std::vector<std::uint8_t> scales;
        for (const auto& scale : all.scales)
            scales.push_back(scale.e4m3);
        return {stored_array("elements.u8", packed(all.codes, shape(), 4, Nvfp4Codec::block)),
                stored_array("scales.u8", scales), stored_array("global.f32", std::vector<float>{scaled_.global})};
    }

protected:
    Nvfp4Codec::Scale scale_of(std::uint64_t, const float* weights, std::size_t length) const override {
        return scaled_.fit(extent_of(weights, length));
    }

private:
    std::mutex merging_;
    AbsMax absmax_;
    Nvfp4Codec scaled_;
};

} // namespace

std::unique_ptr<TensorCodec> bind_microscaling(const FormatSpec& spec, const TensorShape& shape, const float*) {
    if (spec.id == "nvfp4")
        return std::make_unique<Nvfp4TensorCodec>(shape);
    return with_microscaling_codec(spec,
                                   [&]<class Element>(const MxCodec<Element>& codec) -> std::unique_ptr<TensorCodec> {
                                       return std::make_unique<MxTensorCodec<Element>>(codec, shape);
                                   });
}

} // namespace qs
