#pragma once

#include "core/formats/codec_dispatch.h"

// Inside core/methods: the block codecs of the formats that methods work on weight by weight.

namespace qs {

/// The bits of int8, int4, int3 and int2.
inline int integer_bits(const FormatSpec& format) {
    return format.id.back() - '0';
}

/// Calls use(codec) for an integer format, NF4 or FP4; of double quantization it is the codec of the blocks.
template <class Use>
void with_weight_codec(const FormatSpec& format, const Use& use) {
    if (format.id == "nf4")
        use(Nf4Codec{static_cast<std::uint64_t>(format.integer("block"))});
    else if (format.id == "fp4")
        use(Fp4Codec{static_cast<std::uint64_t>(format.integer("block"))});
    else
        with_int_codec(format, integer_bits(format), use);
}

} // namespace qs
