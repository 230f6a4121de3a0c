#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/hd.h"

namespace qs {

/// bitsandbytes' signed 8-bit dynamic map (functional.create_dynamic_map): 256 ascending values from −0.993 to 1, finer
/// towards zero.
struct DynamicMap {
    float values[256];
};

QS_HD constexpr DynamicMap make_dynamic_map() {
    // The positive values below 1: for i in 0 … 6, the means of 2^i equal cells of [0.1, 1] times 10^(i − 6). As the
    // reference prints them: the last bits are those of its float32 linspace.
    constexpr float positive[127] = {
        5.5000004e-7F,  3.2500002e-6F, 7.75e-6F,      2.1249998e-5F, 4.375e-5F,     6.625e-5F,     8.875e-5F,
        1.5625001e-4F,  2.6875004e-4F, 3.8125002e-4F, 4.9375003e-4F, 6.062501e-4F,  7.1875006e-4F, 8.3125e-4F,
        9.437501e-4F,   1.2812499e-3F, 1.84375e-3F,   2.40625e-3F,   2.96875e-3F,   3.5312497e-3F, 4.09375e-3F,
        4.6562497e-3F,  5.2187503e-3F, 5.78125e-3F,   6.34375e-3F,   6.90625e-3F,   7.46875e-3F,   8.03125e-3F,
        8.59375e-3F,    9.156249e-3F,  9.71875e-3F,   1.140625e-2F,  1.421875e-2F,  1.703125e-2F,  1.984375e-2F,
        2.265625e-2F,   2.546875e-2F,  2.8281247e-2F, 3.109375e-2F,  3.3906247e-2F, 3.6718752e-2F, 3.953125e-2F,
        4.2343747e-2F,  4.515625e-2F,  4.796875e-2F,  5.078125e-2F,  5.359375e-2F,  5.640625e-2F,  5.9218753e-2F,
        6.2031247e-2F,  6.484375e-2F,  6.7656256e-2F, 7.0468746e-2F, 7.328125e-2F,  7.609375e-2F,  7.890625e-2F,
        8.171874e-2F,   8.453125e-2F,  8.734375e-2F,  9.015625e-2F,  9.2968754e-2F, 9.5781244e-2F, 9.859375e-2F,
        1.07031256e-1F, 1.2109375e-1F, 1.3515624e-1F, 1.4921875e-1F, 1.6328125e-1F, 1.7734374e-1F, 1.9140625e-1F,
        2.0546874e-1F,  2.1953125e-1F, 2.3359376e-1F, 2.4765626e-1F, 2.6171875e-1F, 2.7578127e-1F, 2.8984374e-1F,
        3.0390626e-1F,  3.1796873e-1F, 3.3203125e-1F, 3.460937e-1F,  3.6015624e-1F, 3.7421876e-1F, 3.8828123e-1F,
        4.0234375e-1F,  4.164062e-1F,  4.3046874e-1F, 4.4453126e-1F, 4.5859373e-1F, 4.7265625e-1F, 4.8671877e-1F,
        5.0078124e-1F,  5.1484376e-1F, 5.289062e-1F,  5.4296875e-1F, 5.570313e-1F,  5.710938e-1F,  5.8515626e-1F,
        5.992187e-1F,   6.1328125e-1F, 6.273438e-1F,  6.4140624e-1F, 6.5546876e-1F, 6.695313e-1F,  6.8359375e-1F,
        6.976563e-1F,   7.117188e-1F,  7.2578126e-1F, 7.398438e-1F,  7.5390625e-1F, 7.679688e-1F,  7.8203124e-1F,
        7.960937e-1F,   8.101562e-1F,  8.2421875e-1F, 8.382812e-1F,  8.5234374e-1F, 8.664062e-1F,  8.804687e-1F,
        8.9453125e-1F,  9.085938e-1F,  9.2265624e-1F, 9.367187e-1F,  9.507812e-1F,  9.6484375e-1F, 9.789062e-1F,
        9.9296874e-1F};
    DynamicMap map{};
    for (int i = 0; i < 127; ++i) {
        map.values[126 - i] = -positive[i];
        map.values[128 + i] = positive[i];
    }
    map.values[255] = 1.0F;
    return map;
}

QS_HD inline float dynamic_level(std::uint32_t code) {
    static constexpr DynamicMap map = make_dynamic_map();
    return map.values[code];
}

/// The halfway point between a level and the next.
QS_HD inline float dynamic_middle(std::uint32_t lower) {
    return (dynamic_level(lower) + dynamic_level(lower + 1)) * 0.5F;
}

/// The code of x in the map, nearest first, by the kernel's search (dQuantize in csrc/kernels.cu): halfway values go to
/// where the search ends, which is the even code. Written without branches, which random weights would mispredict.
QS_HD inline std::uint8_t encode_dynamic(float x) {
    std::uint32_t code = 127;
    for (std::uint32_t step = 64; step > 0; step /= 2)
        code = code - step + static_cast<std::uint32_t>(x > dynamic_level(code)) * 2 * step;
    const std::uint32_t has_lower = code > 0 ? 1 : 0;
    const auto above = static_cast<std::uint32_t>(x > dynamic_middle(code));
    const auto below = static_cast<std::uint32_t>(x < dynamic_middle(code - has_lower)) & has_lower;
    return static_cast<std::uint8_t>(code + above - below);
}

/// The absmax of blocks as double quantization stores them: less an offset, in blocks of 256 with a float32 scale each,
/// through the dynamic map.
struct NestedAbsmax {
    static constexpr std::size_t block = 256;
    std::vector<std::uint8_t> codes;
    std::vector<float> scales;  ///< "nested_absmax", one a block
    std::vector<float> decoded; ///< map[code] · scale + offset
    float offset = 0;
};
NestedAbsmax quantize_nested(std::span<const float> absmax, float offset);
/// The same with their mean, summed in float64, as the offset.
NestedAbsmax quantize_nested(std::span<const float> absmax);

} // namespace qs
