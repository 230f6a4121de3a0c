#include "core/formats/load.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/half.h"
#include "core/formats/codec_dispatch.h"

namespace qs {

namespace {

template <class Word>
Word word_at(const std::byte* data, std::uint64_t index, bool swapped) {
    Word word;
    std::memcpy(&word, data + index * sizeof(Word), sizeof word);
    if (!swapped)
        return word;
    Word reversed = 0;
    for (std::size_t byte = 0; byte < sizeof(Word); ++byte)
        reversed = static_cast<Word>(reversed << 8 | (word >> (8 * byte) & 0xFF));
    return reversed;
}

/// Plain types: each word through `value`. Two loops, so that the usual one vectorises.
template <class Word, class Value>
void load_words(const std::byte* data, std::uint64_t begin, std::size_t count, bool swapped, float* out, Value value) {
    if (swapped)
        for (std::size_t i = 0; i < count; ++i)
            out[i] = value(word_at<Word>(data, begin + i, true));
    else
        for (std::size_t i = 0; i < count; ++i)
            out[i] = value(word_at<Word>(data, begin + i, false));
}

/// Blocks of a packed codec.
template <class Codec>
void load_packed(const std::byte* data, std::uint64_t begin, std::size_t count, bool swapped, float* out) {
    for (std::size_t i = 0; i < count;) {
        const std::uint64_t element = begin + i, block = element / Codec::block;
        std::uint8_t bytes[Codec::bytes];
        std::memcpy(bytes, data + block * Codec::bytes, sizeof bytes);
        if (swapped)
            swap_half_words<Codec>(bytes);
        float values[Codec::block];
        const auto first = static_cast<std::size_t>(element % Codec::block);
        const std::size_t length = std::min(Codec::block - first, count - i);
        Codec::decode(bytes, length == Codec::block ? out + i : values);
        if (length < Codec::block)
            std::copy_n(values + first, length, out + i);
        i += length;
    }
}

} // namespace

void load_weights(DType dtype, bool byte_swapped, const std::byte* data, std::uint64_t begin, std::size_t count,
                  float* out) {
    switch (dtype) {
    case DType::f64:
        return load_words<std::uint64_t>(data, begin, count, byte_swapped, out, [](std::uint64_t bits) {
            return static_cast<float>(std::bit_cast<double>(bits));
        });
    case DType::f32:
        return load_words<std::uint32_t>(data, begin, count, byte_swapped, out, bits_float);
    case DType::f16:
        return load_words<std::uint16_t>(data, begin, count, byte_swapped, out, fp16_to_float);
    case DType::bf16:
        return load_words<std::uint16_t>(data, begin, count, byte_swapped, out, bf16_to_float);
    case DType::f8_e4m3:
        return load_words<std::uint8_t>(data, begin, count, false, out, fp8_to_float<E4M3>);
    case DType::f8_e5m2:
        return load_words<std::uint8_t>(data, begin, count, false, out, fp8_to_float<E5M2>);
    default:
        return with_stored_codec(
            dtype, [&]<class Codec>(const Codec&) { load_packed<Codec>(data, begin, count, byte_swapped, out); });
    }
}

} // namespace qs
