#pragma once

#include <type_traits>

#include "gpu/cuda.h"
#include "gpu/piece.h"
#include "gpu/reductions.cuh"

namespace qs::cuda {

/// One thread block a unit.
inline unsigned blocks_for(const Piece& piece) {
    return static_cast<unsigned>(units_in(piece.count));
}

/// One warp each for `count` things.
inline unsigned warps_for(std::uint64_t count) {
    return static_cast<unsigned>((count + block_warps - 1) / block_warps);
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
