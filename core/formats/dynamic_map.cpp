#include "core/formats/dynamic_map.h"

#include <algorithm>
#include <numeric>

#include "core/formats/bitsandbytes.h"

namespace qs {

NestedAbsmax quantize_nested(std::span<const float> absmax, float offset) {
    NestedAbsmax nested;
    nested.offset = offset;
    for (std::size_t begin = 0; begin < absmax.size(); begin += NestedAbsmax::block) {
        const auto block = absmax.subspan(begin, std::min(NestedAbsmax::block, absmax.size() - begin));
        AbsMax largest;
        for (const float value : block)
            largest.add(value - offset);
        const AbsmaxScale scale = absmax_scale(largest.value);
        nested.scales.push_back(largest.value);
        for (const float value : block) {
            // Where nothing is left of any absmax the reference has 0·∞ and ends on code 0.
            const std::uint8_t code = largest.value > 0 ? encode_dynamic((value - offset) * scale.reciprocal) : 0;
            nested.codes.push_back(code);
            nested.decoded.push_back(dynamic_level(code) * largest.value + offset);
        }
    }
    return nested;
}

NestedAbsmax quantize_nested(std::span<const float> absmax) {
    const double sum = std::accumulate(absmax.begin(), absmax.end(), 0.0);
    return quantize_nested(absmax,
                           absmax.empty() ? 0.0F : static_cast<float>(sum / static_cast<double>(absmax.size())));
}

} // namespace qs
