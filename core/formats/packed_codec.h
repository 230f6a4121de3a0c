#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/formats/block_codec.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/tensor_codec.h"

// Formats whose block is encoded as a whole, because its scales are searched for or its codes packed across the block.
// A packed codec is a struct of static functions, compiled for the host and for CUDA:
//
// - block, bytes, code_count: weights and bytes of a block, distinct codes of a weight
// - weighs_row: whether an importance-weighted block looks at the mean square of its whole row
// - encode(x, context, out): the block's bytes; x is finite
// - decode(in, out): the block's reconstruction
// - codes(in, out): the code of each weight
// - level(in, j, code): what weight j would be decoded to, had it this code
// - unit_level(code): the same at unit scale
// - level_count, code_at(rank): the codes in the order of their unit levels
// - half_words: where the block has 16-bit words, which big-endian files swap
// - sub: weights that share their levels, if fewer than the block
//
// As in block_codec.h, each operation is rounded once, in the order of the reference.

namespace qs {

/// What a block's encoder may look at besides the weights of the block.
struct BlockContext {
    const float* importance = nullptr; ///< of each weight of the block (an importance matrix's columns), or null
    float row_mean_square = 0;         ///< of the row, where the codec weighs_row and there is importance
};

/// Up to two runs of 16-bit words inside a block.
struct HalfWords {
    std::uint32_t offset, count;
    std::uint32_t second_offset = 0, second_count = 0;
};

/// Turns consecutive 16-bit words into the other byte order.
QS_HD inline void swap_words(std::uint8_t* bytes, std::uint32_t count) {
    for (std::uint32_t word = 0; word != count; ++word) {
        const std::uint8_t first = bytes[2 * word];
        bytes[2 * word] = bytes[2 * word + 1];
        bytes[2 * word + 1] = first;
    }
}

/// Turns the 16-bit words of a block into the other byte order; bytes of codes have none.
template <class Codec>
QS_HD void swap_half_words(std::uint8_t* block) {
    swap_words(block + Codec::half_words.offset, Codec::half_words.count);
    swap_words(block + Codec::half_words.second_offset, Codec::half_words.second_count);
}

/// Codes whose levels ascend with them.
template <std::uint32_t count>
struct AscendingCodes {
    static constexpr std::uint32_t code_count = count, level_count = count;
    QS_HD static std::uint32_t code_at(std::uint32_t rank) { return rank; }
};

/// What a codec has by its sub-blocks of `sub` weights, each decoded as scale(in, j)·unit_level(code) − min(in, j); the
/// Codec also has unpack(in, codes), the codes of all weights as bytes.
template <class Codec>
struct BySubBlocks {
    QS_HD static float min(const std::uint8_t*, std::uint32_t) { return 0; }

    QS_HD static void decode(const std::uint8_t* in, float* out) {
        std::uint8_t codes[Codec::block];
        Codec::unpack(in, codes);
        for (std::uint32_t j = 0; j < Codec::block / Codec::sub; ++j) {
            const float d = Codec::scale(in, j), m = Codec::min(in, j);
            for (std::uint32_t i = j * Codec::sub; i < (j + 1) * Codec::sub; ++i)
                out[i] = d * Codec::unit_level(codes[i]) - m;
        }
    }
    QS_HD static void codes(const std::uint8_t* in, std::uint16_t* out) {
        std::uint8_t codes[Codec::block];
        Codec::unpack(in, codes);
        for (std::uint32_t i = 0; i < Codec::block; ++i)
            out[i] = codes[i];
    }
    QS_HD static float level(const std::uint8_t* in, std::uint32_t j, std::uint32_t code) {
        return Codec::scale(in, j / Codec::sub) * Codec::unit_level(code) - Codec::min(in, j / Codec::sub);
    }
};

/// Encodes or decodes consecutive blocks, without importance; the fast forms of the scalar codecs.
using BlockEncoder = void (*)(const float* weights, std::size_t blocks, std::uint8_t* out);
using BlockDecoder = void (*)(const std::uint8_t* in, std::size_t blocks, float* out);

/// The fused evaluation of TensorCodec::evaluate_bf16.
using WordEvaluator = std::size_t (*)(const std::uint16_t* words, std::uint64_t begin, std::size_t count,
                                      ErrorSums& sums, std::uint64_t* usage);

/// Throws what is to be said of a format that requires importance and has none.
[[noreturn]] inline void fail_without_importance() {
    throw Error("this format", "needs an importance matrix", "give one, or choose another format");
}

/// The fast forms of a packed codec; `evaluate` is null where there is none.
struct FastForms {
    BlockEncoder encode;
    BlockDecoder decode;
    WordEvaluator evaluate;
};

template <class Codec>
void encode_blocks(const float* weights, std::size_t blocks, std::uint8_t* out) {
    for (std::size_t i = 0; i < blocks; ++i)
        Codec::encode(weights + i * Codec::block, BlockContext{}, out + i * Codec::bytes);
}

template <class Codec>
void decode_blocks(const std::uint8_t* in, std::size_t blocks, float* out) {
    for (std::size_t i = 0; i < blocks; ++i)
        Codec::decode(in + i * Codec::bytes, out + i * Codec::block);
}

/// The axis of a packed codec's levels, from −1 to +1: formats with a minimum fill it, the others keep 0 at 0.
template <class Codec>
class PackedAxis {
public:
    double position(double value, double low, double high) const {
        if (fills_)
            return high != low ? 2 * (value - low) / (high - low) - 1 : 0;
        const double scale = (high - low) / (last_ - first_);
        return scale != 0 ? value / scale / std::max(-first_, last_) : 0;
    }
    Codebook codebook() const {
        Codebook codebook;
        for (std::uint32_t rank = 0; rank < Codec::level_count; ++rank) {
            const std::uint32_t code = Codec::code_at(rank);
            codebook.levels.push_back({code, position(Codec::unit_level(code), first_, last_)});
            if (rank > 0)
                codebook.boundaries.push_back((codebook.levels[rank - 1].value + codebook.levels[rank].value) / 2);
        }
        return codebook;
    }

private:
    double first_ = Codec::unit_level(Codec::code_at(0));
    double last_ = Codec::unit_level(Codec::code_at(Codec::level_count - 1));
    bool fills_ = first_ >= 0;
};

/// Binds a packed codec to a tensor whose rows are multiples of its block.
template <class Codec>
class PackedTensorCodec final : public TensorCodec {
public:
    /// `importance` has one value a column of each matrix, or is null; it must outlive the codec.
    PackedTensorCodec(const TensorShape& shape, const float* importance, Importance use,
                      const FastForms& fast = {encode_blocks<Codec>, decode_blocks<Codec>, nullptr})
        : shape_(shape), importance_(use == Importance::unused ? nullptr : importance), fast_(fast),
          lacks_importance_(use == Importance::required && importance == nullptr) {}

    std::uint64_t next_cut(std::uint64_t element) const override {
        const std::uint64_t size = by_row() ? shape_.columns : Codec::block;
        return std::min((element + size - 1) / size * size, shape_.count());
    }

    std::size_t encoded_bytes(std::uint64_t, std::size_t count) const override {
        return count / Codec::block * Codec::bytes;
    }

    void encode(const float* weights, std::uint64_t begin, std::size_t count, std::byte* out) const override {
        auto* bytes = reinterpret_cast<std::uint8_t*>(out);
        for_each_batch(count, [&](std::size_t offset, std::size_t length) {
            encode_batch(weights, begin, offset, length, bytes + offset / Codec::block * Codec::bytes);
        });
    }

    void decode(const std::byte* encoded, std::uint64_t, std::size_t count, float* out) const override {
        fast_.decode(reinterpret_cast<const std::uint8_t*>(encoded), count / Codec::block, out);
    }

    void quantize(const float* weights, std::uint64_t begin, std::size_t count, std::uint16_t* codes,
                  float* decoded) const override {
        std::uint8_t bytes[batch / Codec::block * Codec::bytes];
        for_each_batch(count, [&](std::size_t offset, std::size_t length) {
            encode_batch(weights, begin, offset, length, bytes);
            const std::size_t blocks = length / Codec::block;
            if (decoded != nullptr)
                fast_.decode(bytes, blocks, decoded + offset);
            for (std::size_t i = 0; codes != nullptr && i < blocks; ++i)
                Codec::codes(bytes + i * Codec::bytes, codes + offset + i * Codec::block);
        });
    }

    bool has_bf16_form() const override {
        return fast_.evaluate != nullptr && importance_ == nullptr && shape_.count() >= word_forms_from;
    }
    bool leaves_w2() const override { return has_bf16_form(); }

    std::size_t evaluate_bf16(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                              std::uint64_t* usage) const override {
        return has_bf16_form() ? fast_.evaluate(words, begin, count, sums, usage) : 0;
    }

    std::size_t code_count() const override { return Codec::code_count; }

    double stored_bits() const override {
        return 8.0 * Codec::bytes * (static_cast<double>(shape_.count()) / Codec::block);
    }

    std::optional<Codebook> codebook() const override { return PackedAxis<Codec>().codebook(); }

    void normalise(const float* weights, std::uint64_t begin, std::size_t count, float* position) const override {
        const PackedAxis<Codec> axis;
        const std::uint32_t first = Codec::code_at(0), last = Codec::code_at(Codec::level_count - 1);
        for_each_block(weights, begin, count, [&](std::size_t offset, const std::uint8_t* bytes) {
            for (std::uint32_t j = 0; j < Codec::block; ++j)
                position[offset + j] = static_cast<float>(
                    axis.position(weights[offset + j], Codec::level(bytes, j, first), Codec::level(bytes, j, last)));
        });
    }

    LevelBlock level_block(std::uint64_t element) const override {
        const std::uint64_t size = weights_a_scale();
        return {element / size, element / size * size, element / size * size + size};
    }

    std::vector<Level> levels_at(const float* weights, std::uint64_t begin, std::size_t count,
                                 std::uint64_t element) const override {
        std::vector<Level> levels;
        for_each_block(weights, begin, count, [&](std::size_t offset, const std::uint8_t* bytes) {
            if (element < begin + offset || element >= begin + offset + Codec::block)
                return;
            const auto j = static_cast<std::uint32_t>(element - begin - offset);
            for (std::uint32_t rank = 0; rank < Codec::level_count; ++rank)
                levels.push_back({Codec::code_at(rank), Codec::level(bytes, j, Codec::code_at(rank))});
        });
        return levels;
    }

    std::vector<StoredArray> store(const float* weights) const override {
        std::vector<std::byte> bytes(encoded_bytes(0, static_cast<std::size_t>(shape_.count())));
        encode(weights, 0, static_cast<std::size_t>(shape_.count()), bytes.data());
        return {{"blocks.u8", std::move(bytes)}};
    }

private:
    /// Weights that go through the encoder at once: few enough for the bytes to stay in the nearest cache.
    static constexpr std::size_t batch = 4096;

    static constexpr std::uint64_t weights_a_scale() {
        if constexpr (requires { Codec::sub; })
            return static_cast<std::uint64_t>(Codec::sub);
        else
            return Codec::block;
    }

    bool by_row() const { return Codec::weighs_row && importance_ != nullptr; }

    template <class Visit>
    static void for_each_batch(std::size_t count, Visit visit) {
        for (std::size_t offset = 0; offset < count; offset += batch)
            visit(offset, std::min(batch, count - offset));
    }

    template <class Visit>
    void for_each_block(const float* weights, std::uint64_t begin, std::size_t count, Visit visit) const {
        std::uint8_t bytes[Codec::bytes];
        for (std::size_t offset = 0; offset < count; offset += Codec::block) {
            encode_batch(weights, begin, offset, Codec::block, bytes);
            visit(offset, bytes);
        }
    }

    /// Encodes `length` weights from `offset` on, of those that start with element `begin`.
    void encode_batch(const float* weights, std::uint64_t begin, std::size_t offset, std::size_t length,
                      std::uint8_t* out) const {
        if (lacks_importance_)
            fail_without_importance();
        float clean[batch];
        const float* from = weights + offset;
        if (!all_finite(from, length)) {
            std::transform(from, from + length, clean, finite_or_zero);
            from = clean;
        }
        if (importance_ == nullptr)
            return fast_.encode(from, length / Codec::block, out);
        BlockContext context;
        std::uint64_t row_of_mean = ~std::uint64_t{0};
        for (std::size_t i = 0; i < length; i += Codec::block) {
            const std::uint64_t element = begin + offset + i;
            const std::uint64_t row = element / shape_.columns, column = element % shape_.columns;
            if (by_row() && row != row_of_mean) {
                context.row_mean_square = mean_square(weights + (row * shape_.columns - begin));
                row_of_mean = row;
            }
            context.importance = importance_ + row / matrix_rows_ * shape_.columns + column;
            Codec::encode(from + i, context, out + i / Codec::block * Codec::bytes);
        }
    }

    static bool all_finite(const float* weights, std::size_t count) {
        std::uint32_t finite = 1;
        for (std::size_t i = 0; i < count; ++i)
            finite &= static_cast<std::uint32_t>(is_finite(weights[i]));
        return finite != 0;
    }

    float mean_square(const float* row) const {
        float sum = 0;
        for (std::uint64_t i = 0; i < shape_.columns; ++i) {
            const float w = finite_or_zero(row[i]);
            sum += w * w;
        }
        return sum / static_cast<float>(shape_.columns);
    }

    TensorShape shape_;
    std::uint64_t matrix_rows_ = std::max<std::uint64_t>(shape_.rows / shape_.matrices, 1);
    const float* importance_;
    FastForms fast_;
    bool lacks_importance_;
};

} // namespace qs
