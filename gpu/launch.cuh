#pragma once

#include <type_traits>
#include <utility>

#include "gpu/cuda.h"
#include "gpu/piece.h"
#include "gpu/reductions.cuh"

namespace qs::cuda {

/// How a kernel is launched. No blocks: not at all.
struct Launch {
    std::uint64_t blocks;
    cudaStream_t stream;
    std::size_t shared_bytes = 0; ///< of dynamic shared memory
    unsigned threads = block_threads;
};

/// Enqueues a kernel; throws Error where it cannot be launched.
template <class... Parameters, class... Arguments>
void launch(const Launch& how, void (*kernel)(Parameters...), Arguments&&... arguments) {
    if (how.blocks == 0)
        return;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(how.blocks));
    config.blockDim = dim3(how.threads);
    config.dynamicSmemBytes = how.shared_bytes;
    config.stream = how.stream;
    QS_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

/// One thread block a unit.
inline std::uint64_t blocks_for(const Piece& piece) {
    return units_in(piece.count);
}

/// Thread blocks that have one warp each for `count` things.
inline std::uint64_t warps_for(std::uint64_t count) {
    return (count + block_warps - 1) / block_warps;
}

/// Thread blocks that have one thread each for `count` things.
inline std::uint64_t threads_for(std::uint64_t count) {
    return (count + block_threads - 1) / block_threads;
}

/// Calls body(type) with the type as a constant.
template <class Body>
void with_native_type(NativeType type, Body body) {
    switch (type) {
    case NativeType::f32:
        return body(std::integral_constant<NativeType, NativeType::f32>());
    case NativeType::bf16:
        return body(std::integral_constant<NativeType, NativeType::bf16>());
    case NativeType::f16:
        return body(std::integral_constant<NativeType, NativeType::f16>());
    }
}

} // namespace qs::cuda
