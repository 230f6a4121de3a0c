#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/codec_dispatch.h"
#include "gpu/families.h"
#include "gpu/feed.h"
#include "gpu/launch.cuh"

/// Stored types that the kernels do not read as they are, turned into f32.
namespace qs::cuda {

namespace {

template <class Word>
__device__ Word word_at(const unsigned char* stored, std::uint64_t index, bool byte_swapped) {
    Word word = 0;
    for (unsigned byte = 0; byte < sizeof(Word); ++byte) {
        const unsigned shift = 8 * (byte_swapped ? sizeof(Word) - 1 - byte : byte);
        word |= static_cast<Word>(static_cast<Word>(stored[index * sizeof(Word) + byte]) << shift);
    }
    return word;
}

struct FromF64 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        const auto bits = word_at<std::uint64_t>(stored, index, byte_swapped);
        return __double2float_rn(__longlong_as_double(static_cast<long long>(bits)));
    }
};

struct FromF32 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return bits_float(word_at<std::uint32_t>(stored, index, byte_swapped));
    }
};

struct FromF16 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return fp16_to_float(word_at<std::uint16_t>(stored, index, byte_swapped));
    }
};

struct FromBf16 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return bf16_to_float(word_at<std::uint16_t>(stored, index, byte_swapped));
    }
};

template <class Kind>
struct FromFp8 {
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return fp8_to_float<Kind>(stored[index]);
    }
};

template <class From>
__global__ void __launch_bounds__(block_threads)
    convert_kernel(const unsigned char* stored, std::uint64_t count, float* weights, From from) {
    const std::uint64_t index = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
    if (index < count)
        weights[index] = from(stored, index);
}

/// Launches a kernel that reads a type of single weights, and says whether it is one.
bool convert_weights(DType dtype, bool byte_swapped, const unsigned char* stored, std::uint64_t count, float* weights,
                     cudaStream_t stream) {
    const auto convert = [&](auto from) {
        launch({threads_for(count), stream}, convert_kernel<decltype(from)>, stored, count, weights, from);
        return true;
    };
    switch (dtype) {
    case DType::f64:
        return convert(FromF64{byte_swapped});
    case DType::f32:
        return convert(FromF32{byte_swapped});
    case DType::f16:
        return convert(FromF16{byte_swapped});
    case DType::bf16:
        return convert(FromBf16{byte_swapped});
    case DType::f8_e4m3:
        return convert(FromFp8<E4M3>());
    case DType::f8_e5m2:
        return convert(FromFp8<E5M2>());
    default:
        return false;
    }
}

/// One row a thread.
__global__ void __launch_bounds__(block_threads)
    row_squares_kernel(Piece piece, std::uint64_t columns, std::uint64_t first_row, std::uint64_t rows,
                       float* squares) {
    const std::uint64_t number = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
    if (number >= rows)
        return;
    const std::uint64_t row = first_row + number, row_begin = row * columns, row_end = row_begin + columns;
    const std::uint64_t piece_end = piece.begin + piece.count;
    const std::uint64_t begin = row_begin > piece.begin ? row_begin : piece.begin;
    const std::uint64_t end = row_end < piece_end ? row_end : piece_end;
    float sum = begin == row_begin ? 0.0F : squares[row];
    for (std::uint64_t at = begin; at < end; ++at) {
        const float w = finite_or_zero(load_one(piece, at - piece.begin));
        sum += w * w;
    }
    squares[row] = sum;
}

} // namespace

void sum_row_squares(const Piece& piece, std::uint64_t columns, float* squares, cudaStream_t stream) {
    const std::uint64_t first = piece.begin / columns;
    const std::uint64_t rows = (piece.begin + piece.count - 1) / columns - first + 1;
    launch({threads_for(rows), stream}, row_squares_kernel, piece, columns, first, rows, squares);
}

bool can_convert(DType dtype) {
    return block_layout(dtype).elements == 1 || has_stored_codec(dtype);
}

void convert_to_f32(DType dtype, bool byte_swapped, const void* stored, std::uint64_t count, float* weights,
                    cudaStream_t stream) {
    const auto* bytes = static_cast<const unsigned char*>(stored);
    if (convert_weights(dtype, byte_swapped, bytes, count, weights, stream))
        return;
    with_stored_codec(dtype, [&]<class Codec>(const Codec&) {
        decode_packed<Codec>(bytes, count / Codec::block, byte_swapped, weights, stream);
    });
}

} // namespace qs::cuda
