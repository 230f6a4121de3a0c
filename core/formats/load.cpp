#include "core/formats/load.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/ggml_basic.h"
#include "core/formats/ggml_iq.h"
#include "core/formats/ggml_ternary.h"

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

/// Blocks of 32. In a big-endian file the float16 fields are swapped, bytes of codes are not.
template <class Codec>
void load_blocks(const std::byte* data, std::uint64_t begin, std::size_t count, bool swapped, float* out) {
    using Layout = GgmlLayout<Codec>;
    constexpr bool has_min = std::is_same_v<typename Codec::Extent, MinMax>;
    for (std::size_t i = 0; i < count;) {
        const std::uint64_t element = begin + i, block = element / ggml_block;
        std::uint8_t bytes[Layout::bytes];
        std::memcpy(bytes, data + block * Layout::bytes, sizeof bytes);
        if (swapped) {
            std::swap(bytes[0], bytes[1]);
            if (has_min)
                std::swap(bytes[2], bytes[3]);
        }
        for (auto j = static_cast<std::uint32_t>(element % ggml_block); j < ggml_block && i < count; ++j, ++i)
            out[i] = Layout::value(bytes, j);
    }
}

void swap_words(std::uint8_t* bytes, std::uint32_t words) {
    for (std::uint32_t word = 0; word < words; ++word)
        std::swap(bytes[2 * word], bytes[2 * word + 1]);
}

/// Blocks of a packed codec.
template <class Codec>
void load_packed(const std::byte* data, std::uint64_t begin, std::size_t count, bool swapped, float* out) {
    for (std::size_t i = 0; i < count;) {
        const std::uint64_t element = begin + i, block = element / Codec::block;
        std::uint8_t bytes[Codec::bytes];
        std::memcpy(bytes, data + block * Codec::bytes, sizeof bytes);
        if (swapped) {
            swap_words(bytes + Codec::half_words.offset, Codec::half_words.count);
            swap_words(bytes + Codec::half_words.second_offset, Codec::half_words.second_count);
        }
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
    case DType::q4_0:
        return load_blocks<Q4_0Codec>(data, begin, count, byte_swapped, out);
    case DType::q4_1:
        return load_blocks<Q4_1Codec>(data, begin, count, byte_swapped, out);
    case DType::q5_0:
        return load_blocks<Q5_0Codec>(data, begin, count, byte_swapped, out);
    case DType::q5_1:
        return load_blocks<Q5_1Codec>(data, begin, count, byte_swapped, out);
    case DType::q8_0:
        return load_blocks<Q8_0Codec>(data, begin, count, byte_swapped, out);
    case DType::q2_K:
        return load_packed<Q2_K>(data, begin, count, byte_swapped, out);
    case DType::q3_K:
        return load_packed<Q3_K>(data, begin, count, byte_swapped, out);
    case DType::q4_K:
        return load_packed<Q4_K>(data, begin, count, byte_swapped, out);
    case DType::q5_K:
        return load_packed<Q5_K>(data, begin, count, byte_swapped, out);
    case DType::q6_K:
        return load_packed<Q6_K>(data, begin, count, byte_swapped, out);
    case DType::iq4_nl:
        return load_packed<Iq4Nl>(data, begin, count, byte_swapped, out);
    case DType::iq4_xs:
        return load_packed<Iq4Xs>(data, begin, count, byte_swapped, out);
    case DType::iq1_s:
        return load_packed<Iq1S>(data, begin, count, byte_swapped, out);
    case DType::iq1_m:
        return load_packed<Iq1M>(data, begin, count, byte_swapped, out);
    case DType::iq2_xxs:
        return load_packed<Iq2Xxs>(data, begin, count, byte_swapped, out);
    case DType::iq2_xs:
        return load_packed<Iq2Xs>(data, begin, count, byte_swapped, out);
    case DType::iq2_s:
        return load_packed<Iq2S>(data, begin, count, byte_swapped, out);
    case DType::iq3_xxs:
        return load_packed<Iq3Xxs>(data, begin, count, byte_swapped, out);
    case DType::iq3_s:
        return load_packed<Iq3S>(data, begin, count, byte_swapped, out);
    case DType::tq1_0:
        return load_packed<Tq1_0>(data, begin, count, byte_swapped, out);
    case DType::tq2_0:
        return load_packed<Tq2_0>(data, begin, count, byte_swapped, out);
    case DType::mxfp4:
        return load_packed<Mxfp4Ggml>(data, begin, count, byte_swapped, out);
    case DType::nvfp4:
        return load_packed<Nvfp4Ggml>(data, begin, count, byte_swapped, out);
    case DType::q1_0:
        return load_packed<Q1_0>(data, begin, count, byte_swapped, out);
    case DType::q2_0:
        return load_packed<Q2_0>(data, begin, count, byte_swapped, out);
    default:
        throw Error(std::string(to_string(dtype)), "does not hold weights that can be read as floats");
    }
}

} // namespace qs
