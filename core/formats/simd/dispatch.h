#pragma once

/// A function of blocks.h that runs the form of the best instruction set, for the HWY_ONCE part of a file.
#define QUANTOSCOPE_DISPATCH_ENCODER(name)                                                                             \
    HWY_EXPORT(name);                                                                                                  \
    void name(const float* weights, std::size_t blocks, std::uint8_t* out) {                                           \
        HWY_DYNAMIC_DISPATCH(name)(weights, blocks, out);                                                              \
    }

/// The form for instruction sets that have no fast one.
#define QUANTOSCOPE_SCALAR_ENCODER(name, Codec)                                                                        \
    void name(const float* weights, std::size_t blocks, std::uint8_t* out) {                                           \
        encode_blocks<Codec>(weights, blocks, out);                                                                    \
    }
