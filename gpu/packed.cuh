#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/formats/codec_dispatch.h"
#include "core/formats/packed_codec.h"
#include "gpu/families.h"
#include "gpu/format_run.h"
#include "gpu/launch.cuh"
#include "gpu/sinks.cuh"

/// The kernels of the packed codecs: one block a thread, as the search of a block goes from weight to weight.
namespace qs::cuda {

/// Whether encoding looks for points in the tables of a grid.
template <class Codec>
concept SearchesGrid = requires {
    typename Codec::SearchGrid;
};

/// Threads that a unit keeps busy.
template <class Codec>
inline constexpr unsigned packed_threads = unit_weights / Codec::block < block_threads
                                               ? static_cast<unsigned>(unit_weights / Codec::block)
                                               : block_threads;

/// What encoding a block looks at besides its weights, for a whole tensor.
struct PackedContext {
    GridSearch grid{};                  ///< on the device
    const float* importance = nullptr;  ///< of each column of each matrix, or null
    const float* row_squares = nullptr; ///< sums over rows, where the codec weighs_row and there is importance
    std::uint64_t columns = 1, matrix_rows = 1;

    template <class Codec>
    __device__ void encode(const float* x, std::uint64_t element, std::uint8_t* out) const {
        BlockContext context;
        if (importance != nullptr) {
            const std::uint64_t row = element / columns;
            context.importance = importance + row / matrix_rows * columns + element % columns;
            if (row_squares != nullptr)
                context.row_mean_square = row_squares[row] / static_cast<float>(columns);
        }
        if constexpr (SearchesGrid<Codec>)
            Codec::encode(grid, x, context, out);
        else
            Codec::encode(x, context, out);
    }
};

/// The weights of a block as its encoder wants them: finite.
template <class Codec>
__device__ inline void load_block(const Piece& piece, std::uint64_t offset, float* x) {
    for (unsigned i = 0; i < Codec::block; i += 4) {
        const Quad quad = load_quad(piece, offset + i, 4);
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
            x[i + j] = finite_or_zero(quad.w[j]);
    }
}

/// The blocks of a piece: into `blocks` as they are stored or, where that is null, their codes and reconstructions into
/// the sink.
template <class Codec>
__global__ void __launch_bounds__(packed_threads<Codec>)
    packed_kernel(Piece piece, PackedContext context, Sink sink, std::uint8_t* blocks) {
    const Unit unit = unit_of(piece, blockIdx.x);
    SinkBlock out(sink, unit);
    for (unsigned start = threadIdx.x * Codec::block; start < unit.count; start += blockDim.x * Codec::block) {
        const std::uint64_t offset = unit.offset + start;
        float values[Codec::block];
        std::uint8_t bytes[Codec::bytes];
        load_block<Codec>(piece, offset, values);
        context.encode<Codec>(values, piece.begin + offset, bytes);
        if (blocks != nullptr) {
            for (unsigned i = 0; i < Codec::bytes; ++i)
                blocks[offset / Codec::block * Codec::bytes + i] = bytes[i];
            continue;
        }
        std::uint16_t codes[Codec::block];
        Codec::decode(bytes, values);
        Codec::codes(bytes, codes);
        for (unsigned i = 0; i < Codec::block; ++i)
            out.add(start + i, load_one(piece, offset + i), codes[i], values[i]);
    }
    out.finish();
}

/// Blocks of a packed codec, one a thread.
template <class Codec>
__global__ void __launch_bounds__(block_threads)
    decode_kernel(const unsigned char* stored, std::uint64_t blocks, bool byte_swapped, float* weights) {
    const std::uint64_t index = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
    if (index >= blocks)
        return;
    std::uint8_t bytes[Codec::bytes];
    for (std::uint32_t i = 0; i < Codec::bytes; ++i)
        bytes[i] = stored[index * Codec::bytes + i];
    if (byte_swapped)
        swap_half_words<Codec>(bytes);
    Codec::decode(bytes, weights + index * Codec::block);
}

template <class Codec>
void decode_packed(const std::uint8_t* blocks, std::uint64_t count, bool byte_swapped, float* weights,
                   cudaStream_t stream) {
    launch({threads_for(count), stream}, decode_kernel<Codec>, blocks, count, byte_swapped, weights);
}

/// A packed format on a tensor.
template <class Codec>
class PackedRun final : public FormatRun {
public:
    PackedRun(std::unique_ptr<TensorCodec> host_codec, Importance use, const RunContext& context)
        : FormatRun(std::move(host_codec)), stream_(context.stream), shape_(context.shape) {
        context_.columns = std::max<std::uint64_t>(shape_.columns, 1);
        context_.matrix_rows = std::max<std::uint64_t>(shape_.rows / shape_.matrices, 1);
        if constexpr (SearchesGrid<Codec>)
            context_.grid = context.tables.on_device(grid_search<typename Codec::SearchGrid>(), stream_);
        if (context.importance == nullptr && use == Importance::required)
            fail_without_importance();
        if (context.importance == nullptr || use == Importance::unused)
            return;
        const std::size_t count = shape_.columns * shape_.matrices;
        auto* importance = context.scratch.take_for<float>(count);
        QS_CUDA_CHECK(
            cudaMemcpyAsync(importance, context.importance, count * sizeof(float), cudaMemcpyHostToDevice, stream_));
        context_.importance = importance;
        if (Codec::weighs_row)
            row_squares_ = context.scratch.take_for<float>(shape_.rows);
    }

    bool needs_scan() const override { return row_squares_ != nullptr; }
    void scan(const Piece& piece) override { sum_row_squares(piece, context_.columns, row_squares_, stream_); }
    void finish_scan() override { context_.row_squares = row_squares_; }
    bool repeats() const override { return context_.importance == nullptr; }

    void run(const Piece& piece, const Sink& sink) const override { enqueue(piece, sink, nullptr); }

    std::size_t encoded_bytes(std::uint64_t count) const override { return count / Codec::block * Codec::bytes; }
    void encode(const Piece& piece, std::byte* out) const override {
        enqueue(piece, {}, reinterpret_cast<std::uint8_t*>(out));
    }
    void decode(const std::byte* encoded, const Piece& piece, float* out) const override {
        decode_packed<Codec>(reinterpret_cast<const std::uint8_t*>(encoded), piece.count / Codec::block, false, out,
                             stream_);
    }

private:
    void enqueue(const Piece& piece, const Sink& sink, std::uint8_t* blocks) const {
        launch({blocks_for(piece), stream_, shared_words(sink) * 4, packed_threads<Codec>}, packed_kernel<Codec>, piece,
               context_, sink, blocks);
    }

    cudaStream_t stream_;
    TensorShape shape_;
    PackedContext context_;
    float* row_squares_ = nullptr;
};

} // namespace qs::cuda
