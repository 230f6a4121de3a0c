#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/formats/block_codec.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/tensor_codec.h"

// Formats whose block is encoded as a whole, because its scales are searched for. A packed codec is a struct of static
// functions, compiled for the host and for CUDA:
//
// - block, bytes, code_count: weights and bytes of a block, distinct codes of a weight
// - weighs_row: whether an importance-weighted block looks at the mean square of its whole row
// - encode(x, context, out): the block's bytes; x is finite
// - decode(in, out): the block's reconstruction
// - codes(in, out): the code of each weight
// - level(in, j, code): what weight j would be decoded to, had it this code
// - unit_level(code): the same at unit scale, strictly monotone over the codes in the order of `code_at(rank)`
// - code_at(rank): the codes in the order of their unit levels
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

/// A run of 16-bit words inside a block.
struct HalfWords {
    std::uint32_t offset, count;
};

/// Encodes or decodes consecutive blocks, without importance; the fast forms of the scalar codecs.
using BlockEncoder = void (*)(const float* weights, std::size_t blocks, std::uint8_t* out);
using BlockDecoder = void (*)(const std::uint8_t* in, std::size_t blocks, float* out);

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

/// The unit levels of a packed codec on an axis from −1 to +1, with the halfway points between them.
template <class Codec>
Codebook packed_codebook() {
    const double low = Codec::unit_level(Codec::code_at(0));
    const double high = Codec::unit_level(Codec::code_at(Codec::code_count - 1));
    Codebook codebook;
    for (std::uint32_t rank = 0; rank < Codec::code_count; ++rank) {
        const std::uint32_t code = Codec::code_at(rank);
        codebook.levels.push_back({code, 2 * (Codec::unit_level(code) - low) / (high - low) - 1});
        if (rank > 0)
            codebook.boundaries.push_back((codebook.levels[rank - 1].value + codebook.levels[rank].value) / 2);
    }
    return codebook;
}

/// Binds a packed codec to a tensor whose rows are multiples of its block.
template <class Codec>
class PackedTensorCodec final : public TensorCodec {
public:
    /// `importance` has one value a column, or is null; it must outlive the codec.
    PackedTensorCodec(const TensorShape& shape, const float* importance, Importance use,
                      BlockEncoder encoder = encode_blocks<Codec>, BlockDecoder decoder = decode_blocks<Codec>)
        : shape_(shape), importance_(use == Importance::unused ? nullptr : importance), encoder_(encoder),
          decoder_(decoder), lacks_importance_(use == Importance::required && importance == nullptr) {}

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
        decoder_(reinterpret_cast<const std::uint8_t*>(encoded), count / Codec::block, out);
    }

    void quantize(const float* weights, std::uint64_t begin, std::size_t count, std::uint16_t* codes,
                  float* decoded) const override {
        std::uint8_t bytes[batch / Codec::block * Codec::bytes];
        for_each_batch(count, [&](std::size_t offset, std::size_t length) {
            encode_batch(weights, begin, offset, length, bytes);
            const std::size_t blocks = length / Codec::block;
            if (decoded != nullptr)
                decoder_(bytes, blocks, decoded + offset);
            for (std::size_t i = 0; codes != nullptr && i < blocks; ++i)
                Codec::codes(bytes + i * Codec::bytes, codes + offset + i * Codec::block);
        });
    }

    std::size_t code_count() const override { return Codec::code_count; }

    double stored_bits() const override {
        return 8.0 * Codec::bytes * (static_cast<double>(shape_.count()) / Codec::block);
    }

    std::optional<Codebook> codebook() const override { return packed_codebook<Codec>(); }

    void normalise(const float* weights, std::uint64_t begin, std::size_t count, float* position) const override {
        const std::uint32_t first = Codec::code_at(0), last = Codec::code_at(Codec::code_count - 1);
        for_each_block(weights, begin, count, [&](std::size_t offset, const std::uint8_t* bytes) {
            for (std::uint32_t j = 0; j < Codec::block; ++j) {
                const float low = Codec::level(bytes, j, first), range = Codec::level(bytes, j, last) - low;
                position[offset + j] = range != 0 ? 2 * (weights[offset + j] - low) / range - 1 : 0.0F;
            }
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
            for (std::uint32_t rank = 0; rank < Codec::code_count; ++rank)
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
            throw Error("this format", "needs an importance matrix", "give one, or choose another format");
        float clean[batch];
        const float* from = weights + offset;
        if (!all_finite(from, length)) {
            std::transform(from, from + length, clean, finite_or_zero);
            from = clean;
        }
        if (importance_ == nullptr)
            return encoder_(from, length / Codec::block, out);
        BlockContext context;
        std::uint64_t row_of_mean = ~std::uint64_t{0};
        for (std::size_t i = 0; i < length; i += Codec::block) {
            const std::uint64_t element = begin + offset + i;
            const std::uint64_t row = element / shape_.columns, column = element % shape_.columns;
            if (by_row() && row != row_of_mean) {
                context.row_mean_square = mean_square(weights + (row * shape_.columns - begin));
                row_of_mean = row;
            }
            context.importance = importance_ + column;
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
    const float* importance_;
    BlockEncoder encoder_;
    BlockDecoder decoder_;
    bool lacks_importance_;
};

} // namespace qs
