#include "core/formats/integer.h"

#include <atomic>

#include "core/formats/codec_dispatch.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/simd/uniform.h"
#include "core/formats/stored_arrays.h"

namespace qs {

namespace {

std::vector<std::int8_t> signed_bytes(const std::vector<std::uint16_t>& codes, int offset) {
    std::vector<std::int8_t> bytes(codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
        bytes[i] = static_cast<std::int8_t>(static_cast<int>(codes[i]) - offset);
    return bytes;
}

/// Evenly spaced levels: code q at first + step·q, decided halfway.
Codebook even_codebook(std::uint32_t codes, double first, double step) {
    Codebook codebook;
    for (std::uint32_t q = 0; q < codes; ++q) {
        codebook.levels.push_back({q, first + step * q});
        if (q > 0)
            codebook.boundaries.push_back(first + step * (q - 0.5));
    }
    return codebook;
}

double scale_bits(bool half) {
    return half ? 16 : 32;
}

class SymmetricTensorCodec final : public ScopedCodec<SymmetricIntCodec> {
public:
    using ScopedCodec::ScopedCodec;

    bool has_bf16_form() const override {
        // With fewer bits most weights are 0 and their errors as short as themselves, so that float32 sums round one
        // way.
        constexpr int least_bits = 4;
        return codec().bits >= least_bits && !needs_scan() && scope_size() % 64 == 0 &&
               shape().columns % scope_size() == 0 && shape().count() >= word_forms_from;
    }
    bool leaves_w2() const override { return has_bf16_form(); }

    std::size_t evaluate_bf16(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                              std::uint64_t* usage) const override {
        SymmetricIntCodec scoped = codec();
        scoped.scope_ = {Scope::Kind::row, scope_size()};
        return has_bf16_form() ? simd::evaluate_symmetric(scoped, words, begin, count, sums, usage) : 0;
    }

    double stored_bits() const override {
        return codec().bits * static_cast<double>(shape().count()) +
               scale_bits(codec().half_scales) * static_cast<double>(scopes());
    }

    std::optional<Codebook> codebook() const override {
        const double half = codec().half_range();
        return even_codebook(codec().code_count, -half / (half - 1), 1 / (half - 1));
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        return stored_arrays(codec(), all.codes, all.scales);
    }
};

class AffineTensorCodec final : public ScopedCodec<AffineIntCodec> {
public:
    using ScopedCodec::ScopedCodec;

    double stored_bits() const override {
        return codec().bits * static_cast<double>(shape().count()) +
               (scale_bits(codec().half_scales) + codec().bits) * static_cast<double>(scopes());
    }

    std::optional<Codebook> codebook() const override {
        return even_codebook(codec().code_count, -1, 2.0 / codec().last());
    }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        return stored_arrays(codec(), all.codes, all.scales);
    }
};

/// With a threshold, the columns that hold an outlier are found in a first pass and kept in float16; all their codes
/// are 0.
class LlmInt8TensorCodec final : public ScopedCodec<LlmInt8Codec> {
public:
    LlmInt8TensorCodec(const LlmInt8Codec& codec, const TensorShape& shape)
        : ScopedCodec(codec, shape), thresholded_(codec.has_threshold()), outlier_(thresholded_ ? shape.columns : 0) {}

    bool needs_scan() const override { return thresholded_ || ScopedCodec::needs_scan(); }

    void scan(const float* weights, std::uint64_t begin, std::size_t count) override {
        if (ScopedCodec::needs_scan())
            ScopedCodec::scan(weights, begin, count);
        if (!thresholded_)
            return;
        for (std::size_t i = 0; i < count; ++i)
            if (codec().is_outlier(weights[i]))
                outlier_[column_of(begin + i)].store(true, std::memory_order_relaxed);
    }

    void finish_scan() override {
        ScopedCodec::finish_scan();
        outliers_ = static_cast<std::size_t>(
            std::count_if(outlier_.begin(), outlier_.end(), [](const auto& flag) { return flag.load(); }));
    }

    void quantize(const float* weights, std::uint64_t begin, std::size_t count, std::uint16_t* codes,
                  float* decoded) const override {
        ScopedCodec::quantize(weights, begin, count, codes, decoded);
        if (outliers_ == 0)
            return;
        for (std::size_t i = 0; i < count; ++i) {
            if (!outlier_[column_of(begin + i)].load(std::memory_order_relaxed))
                continue;
            if (codes != nullptr)
                codes[i] = 128;
            if (decoded != nullptr)
                decoded[i] = LlmInt8Codec::half(weights[i]);
        }
    }

    double stored_bits() const override { return LlmInt8Codec::stored_bits(shape().rows, shape().columns, outliers_); }

    std::optional<Codebook> codebook() const override { return even_codebook(256, -128.0 / 127, 1.0 / 127); }

    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        std::vector<float> absmax;
        for (const auto& scale : all.scales)
            absmax.push_back(scale.absmax);
        std::vector<StoredArray> arrays{stored_array("CB.i8", signed_bytes(all.codes, 128)),
                                        stored_array("SCB.f32", absmax)};
        if (thresholded_) {
            std::vector<std::int64_t> columns;
            std::vector<std::uint16_t> kept;
            for (std::uint64_t column = 0; column < shape().columns; ++column)
                if (outlier_[static_cast<std::size_t>(column)].load()) {
                    columns.push_back(static_cast<std::int64_t>(column));
                    for (std::uint64_t row = 0; row < shape().rows; ++row)
                        kept.push_back(float_to_fp16(weights[row * shape().columns + column]));
                }
            arrays.push_back(stored_array("outlier_columns.i64", columns));
            arrays.push_back(stored_array("outliers.f16", kept));
        }
        return arrays;
    }

private:
    std::size_t column_of(std::uint64_t element) const { return static_cast<std::size_t>(element % shape().columns); }

    bool thresholded_;
    std::vector<std::atomic<bool>> outlier_;
    std::size_t outliers_ = 0;
};

std::unique_ptr<TensorCodec> bind(const SymmetricIntCodec& codec, const TensorShape& shape) {
    return std::make_unique<SymmetricTensorCodec>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const AffineIntCodec& codec, const TensorShape& shape) {
    return std::make_unique<AffineTensorCodec>(codec, shape);
}
std::unique_ptr<TensorCodec> bind(const LlmInt8Codec& codec, const TensorShape& shape) {
    return std::make_unique<LlmInt8TensorCodec>(codec, shape);
}

} // namespace

std::vector<StoredArray> stored_arrays(const SymmetricIntCodec& codec, const std::vector<std::uint16_t>& codes,
                                       const std::vector<SymmetricIntCodec::Scale>& stored) {
    std::vector<float> scales;
    for (const auto& scale : stored)
        scales.push_back(scale.scale);
    return {stored_array("codes.i8", signed_bytes(codes, 1 << (codec.bits - 1))), stored_array("scales.f32", scales)};
}

std::vector<StoredArray> stored_arrays(const AffineIntCodec&, const std::vector<std::uint16_t>& codes,
                                       const std::vector<AffineIntCodec::Scale>& stored) {
    std::vector<float> scales, zeros;
    for (const auto& scale : stored) {
        scales.push_back(scale.scale);
        zeros.push_back(scale.zero);
    }
    return {stored_array("codes.i8", signed_bytes(codes, 0)), stored_array("scales.f32", scales),
            stored_array("zeros.f32", zeros)};
}

std::unique_ptr<TensorCodec> bind_integer(const FormatSpec& spec, const TensorShape& shape, const float*) {
    return with_integer_codec(spec, [&](const auto& codec) { return bind(codec, shape); });
}

} // namespace qs
