#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"

/// What the tests of the formats share: a matrix through a format, whole or in parts, and random weights.
namespace qs::test {

struct Coded {
    std::vector<std::uint16_t> codes;
    std::vector<float> decoded;
    std::vector<StoredArray> arrays;
    std::vector<std::uint64_t> usage;
    ErrorSums sums;
    double stored_bits = 0;

    const StoredArray* array(const std::string& name) const {
        for (const StoredArray& array : arrays)
            if (array.name == name)
                return &array;
        return nullptr;
    }
};

template <class T>
std::vector<T> values_of(const std::vector<std::byte>& bytes) {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

/// Whether the format's blocks are encoded as a whole (core/formats/packed_codec.h).
inline bool is_packed(const FormatSpec& spec) {
    try {
        with_ggml_packed_codec(spec, [](const auto&) {});
        return true;
    } catch (const Error&) {
        return false;
    }
}

/// Ranges that cover `count` elements: one, or random ones between cuts of the codec.
inline std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_of(const TensorCodec& codec, std::uint64_t count,
                                                                      std::mt19937* random) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (std::uint64_t begin = 0; begin < count;) {
        std::uint64_t end = count;
        if (random != nullptr)
            end = codec.next_cut(std::min(count, begin + 1 + (*random)() % (count / 3 + 1)));
        ranges.emplace_back(begin, end);
        begin = end;
    }
    return ranges;
}

/// Even importance for formats that do not encode without; null for the others.
inline const float* needed_importance(const FormatSpec& spec, const TensorShape& shape) {
    thread_local std::vector<float> even;
    if (format(spec.id).importance != Importance::required)
        return nullptr;
    even.assign(static_cast<std::size_t>(shape.columns), 1.0F);
    return even.data();
}

/// The codec of a spec, its scan done in the given order of ranges. `importance` is null or of each column.
inline std::unique_ptr<TensorCodec> scanned_codec(const FormatSpec& spec, const std::vector<float>& weights,
                                                  const TensorShape& shape, std::mt19937* random = nullptr,
                                                  const float* importance = nullptr) {
    std::unique_ptr<TensorCodec> codec =
        bind_codec(spec, shape, importance != nullptr ? importance : needed_importance(spec, shape));
    if (!codec->needs_scan())
        return codec;
    auto ranges = ranges_of(*codec, shape.count(), random);
    if (random != nullptr)
        std::shuffle(ranges.begin(), ranges.end(), *random);
    for (const auto& [begin, end] : ranges)
        codec->scan(weights.data() + begin, begin, static_cast<std::size_t>(end - begin));
    codec->finish_scan();
    return codec;
}

/// A matrix through a format; with `random`, in random ranges.
inline Coded code_matrix(const FormatSpec& spec, const std::vector<float>& weights, const TensorShape& shape,
                         std::mt19937* random = nullptr, const float* importance = nullptr) {
    const std::unique_ptr<TensorCodec> codec = scanned_codec(spec, weights, shape, random, importance);
    Coded coded;
    coded.codes.resize(weights.size());
    coded.decoded.resize(weights.size());
    coded.usage.resize(codec->code_count());
    for (const auto& [begin, end] : ranges_of(*codec, shape.count(), random)) {
        const auto count = static_cast<std::size_t>(end - begin);
        codec->quantize(weights.data() + begin, begin, count, coded.codes.data() + begin, coded.decoded.data() + begin);
        ErrorSums part;
        codec->evaluate(weights.data() + begin, begin, count, part, coded.usage.empty() ? nullptr : coded.usage.data());
        coded.sums.merge(part);
    }
    coded.arrays = codec->store(weights.data());
    coded.stored_bits = codec->stored_bits();
    return coded;
}

/// Weights as trained models have them: normal, with some rows of another size and a few outliers.
inline std::vector<float> random_weights(const TensorShape& shape, std::mt19937& random) {
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> weights(static_cast<std::size_t>(shape.count()));
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = normal(random) * (i / shape.columns % 3 == 1 ? 5.0F : 1.0F) * (random() % 997 == 0 ? 30.0F : 1.0F);
    return weights;
}

/// −1 where all bytes are equal, −2 where not even their number is.
inline std::ptrdiff_t first_difference(std::span<const std::byte> made, std::span<const std::byte> expected) {
    if (made.size() != expected.size())
        return -2;
    const auto at = std::mismatch(made.begin(), made.end(), expected.begin()).first;
    return at == made.end() ? -1 : at - made.begin();
}

/// Equal as numbers, so that −0 equals +0, or both NaN.
inline bool same_value(float a, float b) {
    return a == b || (std::isnan(a) && std::isnan(b));
}

} // namespace qs::test
