#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/base/half.h"
#include "core/formats/tensor_codec.h"
#include "gpu/piece.h"

/// What the kernels share: reading weights four at a time and reductions whose order is fixed.
namespace qs::cuda {

/// Threads of a block, or the most where a kernel takes fewer.
inline constexpr unsigned block_threads = 256;
inline constexpr unsigned warp_threads = 32;
inline constexpr unsigned block_warps = block_threads / warp_threads;

/// The dynamic shared memory of the thread block.
__device__ inline unsigned* dynamic_shared() {
    extern __shared__ unsigned shared[];
    return shared;
}

/// Four neighbouring weights; the ones past the end of the tensor are not there.
struct Quad {
    float w[4];
};

template <NativeType type>
__device__ inline float load_one(const void* data, std::uint64_t offset) {
    if constexpr (type == NativeType::f32)
        return static_cast<const float*>(data)[offset];
    else if constexpr (type == NativeType::bf16)
        return bf16_to_float(static_cast<const std::uint16_t*>(data)[offset]);
    else
        return fp16_to_float(static_cast<const std::uint16_t*>(data)[offset]);
}

/// Weights [offset, offset + count) of a piece, `offset` a multiple of 4 and `count` from 1 to 4.
template <NativeType type>
__device__ inline Quad load_quad(const void* data, std::uint64_t offset, unsigned count) {
    Quad quad{};
    if (count < 4) {
        for (unsigned i = 0; i < count; ++i)
            quad.w[i] = load_one<type>(data, offset + i);
    } else if constexpr (type == NativeType::f32) {
        const float4 read = *reinterpret_cast<const float4*>(static_cast<const float*>(data) + offset);
        quad = {{read.x, read.y, read.z, read.w}};
    } else {
        const ushort4 read = *reinterpret_cast<const ushort4*>(static_cast<const std::uint16_t*>(data) + offset);
        const std::uint16_t bits[4] = {read.x, read.y, read.z, read.w};
        for (unsigned i = 0; i < 4; ++i)
            quad.w[i] = load_one<type>(bits, i);
    }
    return quad;
}

/// The same of a piece whose type is known when the kernel runs: all threads take the same branch.
__device__ inline float load_one(const Piece& piece, std::uint64_t offset) {
    switch (piece.type) {
    case NativeType::f32:
        break;
    case NativeType::bf16:
        return load_one<NativeType::bf16>(piece.data, offset);
    case NativeType::f16:
        return load_one<NativeType::f16>(piece.data, offset);
    }
    return load_one<NativeType::f32>(piece.data, offset);
}
__device__ inline Quad load_quad(const Piece& piece, std::uint64_t offset, unsigned count) {
    switch (piece.type) {
    case NativeType::f32:
        break;
    case NativeType::bf16:
        return load_quad<NativeType::bf16>(piece.data, offset, count);
    case NativeType::f16:
        return load_quad<NativeType::f16>(piece.data, offset, count);
    }
    return load_quad<NativeType::f32>(piece.data, offset, count);
}

/// What the thread block has to do of a piece: one unit of weights.
struct Unit {
    std::uint64_t offset; ///< from the start of the piece
    std::uint64_t index;  ///< from the start of the tensor, in units
    unsigned count;       ///< weights
};

__device__ inline Unit unit_of(const Piece& piece, unsigned number) {
    const std::uint64_t offset = number * unit_weights;
    const std::uint64_t left = piece.count - offset;
    return {offset, piece.begin / unit_weights + number,
            static_cast<unsigned>(left < unit_weights ? left : unit_weights)};
}

/// Calls visit(position in the unit, weight) for every weight of the unit, each thread for its own.
template <class Visit>
__device__ inline void for_each_weight(const Piece& piece, const Unit& unit, Visit visit) {
    for (unsigned at = threadIdx.x * 4; at < unit.count; at += blockDim.x * 4) {
        const unsigned present = unit.count - at < 4 ? unit.count - at : 4;
        const Quad quad = load_quad(piece, unit.offset + at, present);
#pragma unroll
        for (unsigned i = 0; i < 4; ++i)
            if (i < present)
                visit(at + i, quad.w[i]);
    }
}

/// The value that another lane gives by `shuffle`, which exchanges one word.
template <class T, class Shuffle>
__device__ inline T shuffled(const T& value, Shuffle shuffle) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);
    unsigned words[sizeof(T) / 4];
    std::memcpy(words, &value, sizeof(T));
#pragma unroll
    for (unsigned& word : words)
        word = shuffle(word);
    T result;
    std::memcpy(&result, words, sizeof(T));
    return result;
}

/// The value that the lane `delta` above holds.
template <class T>
__device__ inline T shuffle_down(unsigned mask, const T& value, unsigned delta, unsigned width) {
    return shuffled(value, [&](unsigned word) { return __shfl_down_sync(mask, word, delta, width); });
}

/// The value that the first lane of the team holds.
template <class T>
__device__ inline T shuffle_first(unsigned mask, const T& value, unsigned width) {
    return shuffled(value, [&](unsigned word) { return __shfl_sync(mask, word, 0, width); });
}

/// The value of the lane whose number differs in the bits of `delta`.
template <class T>
__device__ inline T shuffle_across(unsigned mask, const T& value, unsigned delta) {
    return shuffled(value, [&](unsigned word) { return __shfl_xor_sync(mask, word, delta); });
}

/// Merges the values of a team of `width` neighbouring lanes (a power of two) with value.merge(later), in the order of
/// the lanes; the first lane has the result.
template <class T>
__device__ inline T team_reduce(unsigned mask, T value, unsigned width) {
    for (unsigned delta = 1; delta < width; delta *= 2)
        value.merge(shuffle_down(mask, value, delta, width));
    return value;
}

/// The same for all lanes of the team.
template <class T>
__device__ inline T team_merge(unsigned mask, T value, unsigned width) {
    if constexpr (T::any_order) {
        for (unsigned delta = 1; delta < width; delta *= 2)
            value.merge(shuffle_across(mask, value, delta));
        return value;
    } else {
        return shuffle_first(mask, team_reduce(mask, value, width), width);
    }
}

/// Merges the values of all threads of the block in a fixed order; thread 0 has the result. All threads must call.
template <class T>
__device__ inline T block_reduce(T value) {
    __shared__ double room[(block_warps * sizeof(T) + 7) / 8];
    T* of_warps = reinterpret_cast<T*>(room);
    value = team_reduce(0xffffffffU, value, warp_threads);
    if (threadIdx.x % warp_threads == 0)
        of_warps[threadIdx.x / warp_threads] = value;
    __syncthreads();
    if (threadIdx.x == 0)
        for (unsigned warp = 1; warp < blockDim.x / warp_threads; ++warp)
            value.merge(of_warps[warp]);
    __syncthreads();
    return value;
}

} // namespace qs::cuda
