#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace qs {

/// bitsandbytes' signed 8-bit dynamic map (functional.create_dynamic_map): 256 ascending values from −0.993 to 1, finer
/// towards zero.
const std::array<float, 256>& dynamic_map();

/// The code of x in the map, nearest first, by the kernel's search (dQuantize in csrc/kernels.cu).
std::uint8_t encode_dynamic(float x);

/// The absmax of blocks as double quantization stores them: less an offset, in blocks of 256 with a float32 scale each,
/// through the dynamic map.
struct NestedAbsmax {
    static constexpr std::size_t block = 256;
    std::vector<std::uint8_t> codes;
    std::vector<float> scales;  ///< "nested_absmax", one a block
    std::vector<float> decoded; ///< map[code] · scale + offset
};
NestedAbsmax quantize_nested(std::span<const float> absmax, float offset);

} // namespace qs
