#pragma once

#include <cstdint>

namespace qs::cuda {

/// The types that the kernels read as they are; every other stored type is turned into f32 on the device first.
enum class NativeType : std::uint8_t { f32, bf16, f16 };

/// A run of consecutive weights of a tensor on the device. `begin` is a multiple of unit_weights.
struct Piece {
    NativeType type;
    const void* data; ///< device address of weight `begin`
    std::uint64_t begin;
    std::uint64_t count;
};

/// Weights whose sums one thread block makes. Part of the definition of a result, as partial sums are merged in the
/// order of units, whatever the device and however the tensor was cut into pieces.
inline constexpr std::uint64_t unit_weights = 16384;

/// Weights copied to the device at a time where memory is not short, a multiple of unit_weights: as float64 16 MiB.
inline constexpr std::uint64_t usual_piece_weights = std::uint64_t{1} << 21;

inline constexpr std::uint64_t units_in(std::uint64_t weights) {
    return (weights + unit_weights - 1) / unit_weights;
}

} // namespace qs::cuda
