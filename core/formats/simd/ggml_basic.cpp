#include "core/formats/ggml_basic.h"

#include "core/formats/simd/blocks.h"
#include "core/formats/simd/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/ggml_basic.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/formats/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {

#if HWY_MAX_BYTES >= 32

/// What the scales of `lanes` blocks of 32 are made from.
struct Scales {
    HWY_ALIGN float reciprocal[lanes];
    HWY_ALIGN float low[lanes];
    HWY_ALIGN std::uint16_t stored[lanes], stored_low[lanes];
    HWY_ALIGN float safe[lanes]; ///< 0: the scalar codec must see to the block
};

HWY_INLINE void store_halves(VF v, std::uint16_t* to) {
    const hn::Rebind<hwy::float16_t, F32> half;
    hn::StoreU(hn::DemoteTo(half, v), half, reinterpret_cast<hwy::float16_t*>(to));
}

/// Zeros, and what float32 loses digits of, are not safe.
HWY_INLINE MF safe_range(VF range) {
    return hn::And(hn::Ge(range, constant(smallest_safe)), hn::Le(range, constant(largest_safe)));
}

HWY_INLINE void store_scales(VF d, MF safe, Scales& scales) {
    store(hn::Div(constant(1), d), scales.reciprocal);
    store_halves(d, scales.stored);
    store(select(safe, constant(1), zero()), scales.safe);
}

/// The largest and the least weight of each block.
struct Ends {
    VF low, high;
};
HWY_INLINE Ends ends_of(const float* weights) {
    Reduction lows, highs;
    for (std::size_t block = 0; block < lanes; ++block) {
        const float* x = weights + block * ggml_block;
        prefetch_block(x);
        VF low = load_unaligned(x), high = low;
        for (std::size_t i = lanes; i < ggml_block; i += lanes) {
            const VF v = load_unaligned(x + i);
            low = hn::Min(low, v);
            high = hn::Max(high, v);
        }
        lows.put(block, low, MinOp());
        highs.put(block, high, MaxOp());
    }
    return {lows.reduce(MinOp()), highs.reduce(MaxOp())};
}

/// Stores 32 codes, made by `code(vector of weights)`, as put_codes_of_32 does.
template <int bits, class Code>
HWY_INLINE void put_codes(const float* x, std::uint8_t* bytes, Code code) {
    std::uint8_t* nibbles = bits == 5 ? bytes + 4 : bytes;
    for (std::size_t j = 0; j < 16; j += lanes) {
        VI low = code(load_unaligned(x + j)), high = code(load_unaligned(x + 16 + j));
        if constexpr (bits == 5) {
            const VI sixteen = hn::Set(I32(), 16);
            hn::StoreMaskBits(I32(), hn::TestBit(low, sixteen), bytes + j / 8);
            hn::StoreMaskBits(I32(), hn::TestBit(high, sixteen), bytes + 2 + j / 8);
            low = hn::And(low, hn::Set(I32(), 15));
            high = hn::And(high, hn::Set(I32(), 15));
        }
        hn::StoreU(hn::DemoteTo(U8(), hn::Or(low, hn::ShiftLeft<4>(high))), U8(), nibbles + j);
    }
}

/// Goes over blocks, `lanes` at once: find(weights, scales), then put(weights, bytes, scales, lane) for each block.
template <class Codec, class Find, class Put>
HWY_INLINE void encode_by_scales(const float* weights, std::size_t blocks, std::uint8_t* out, Find find, Put put) {
    Scales scales;
    std::size_t block = 0;
    for (; block + lanes <= blocks; block += lanes) {
        find(weights + block * ggml_block, scales);
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const float* x = weights + (block + lane) * ggml_block;
            std::uint8_t* bytes = out + (block + lane) * Codec::bytes;
            if (scales.safe[lane] != 0)
                put(x, bytes, scales, lane);
            else
                Codec::encode(x, BlockContext{}, bytes);
        }
    }
    for (; block < blocks; ++block)
        Codec::encode(weights + block * ggml_block, BlockContext{}, out + block * Codec::bytes);
}

template <int bits>
HWY_INLINE void encode_symmetric(const float* weights, std::size_t blocks, std::uint8_t* out) {
    using Codec = GgmlSymmetricBlock<bits>;
    constexpr float half = Codec::Element::half;
    encode_by_scales<Codec>(
        weights, blocks, out,
        [](const float* from, Scales& scales) {
            const Ends ends = ends_of(from);
            const VF below = hn::Neg(ends.low);
            // Of equal magnitudes the first decides, which the ends do not tell.
            const MF safe = hn::And(safe_range(hn::Sub(ends.high, ends.low)), hn::Ne(ends.high, below));
            const VF extreme = select(hn::Gt(ends.high, below), ends.high, ends.low);
            store_scales(hn::Div(extreme, constant(-half)), safe, scales);
        },
        [](const float* x, std::uint8_t* bytes, const Scales& scales, std::size_t lane) {
            put_half(bytes, scales.stored[lane]);
            const VF by = constant(scales.reciprocal[lane]), offset = constant(half + 0.5F);
            const VI last = hn::Set(I32(), (1 << bits) - 1);
            put_codes<bits>(x, bytes + 2,
                            [&](VF v) { return hn::Min(hn::ConvertTo(I32(), hn::Add(hn::Mul(v, by), offset)), last); });
        });
}

template <int bits>
HWY_INLINE void encode_affine(const float* weights, std::size_t blocks, std::uint8_t* out) {
    using Codec = GgmlAffineBlock<bits>;
    encode_by_scales<Codec>(
        weights, blocks, out,
        [](const float* from, Scales& scales) {
            const Ends ends = ends_of(from);
            const VF range = hn::Sub(ends.high, ends.low);
            // The sign of a minimum of zero is that of the first one.
            const MF safe = hn::And(safe_range(range), hn::Ne(ends.low, zero()));
            store_scales(hn::Div(range, constant(Codec::Element::last)), safe, scales);
            store(ends.low, scales.low);
            store_halves(ends.low, scales.stored_low);
        },
        [](const float* x, std::uint8_t* bytes, const Scales& scales, std::size_t lane) {
            put_half(bytes, scales.stored[lane]);
            put_half(bytes + 2, scales.stored_low[lane]);
            const VF by = constant(scales.reciprocal[lane]), low = constant(scales.low[lane]);
            const VI last = hn::Set(I32(), (1 << bits) - 1);
            put_codes<bits>(x, bytes + 4, [&](VF v) {
                const VF exact = hn::Add(hn::Mul(hn::Sub(v, low), by), constant(0.5F));
                return hn::Min(hn::ConvertTo(I32(), exact), last);
            });
        });
}

void encode_q4_0(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_symmetric<4>(weights, blocks, out);
}
void encode_q5_0(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_symmetric<5>(weights, blocks, out);
}
void encode_q4_1(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_affine<4>(weights, blocks, out);
}
void encode_q5_1(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_affine<5>(weights, blocks, out);
}

void encode_q8_0(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_by_scales<Q8_0>(
        weights, blocks, out,
        [](const float* from, Scales& scales) {
            Reduction magnitudes;
            for (std::size_t block = 0; block < lanes; ++block) {
                const float* x = from + block * ggml_block;
                prefetch_block(x);
                VF largest = zero();
                for (std::size_t i = 0; i < ggml_block; i += lanes)
                    largest = hn::Max(largest, hn::Abs(load_unaligned(x + i)));
                magnitudes.put(block, largest, MaxOp());
            }
            const VF magnitude = magnitudes.reduce(MaxOp());
            store_scales(hn::Div(magnitude, constant(127)), safe_range(magnitude), scales);
        },
        [](const float* x, std::uint8_t* bytes, const Scales& scales, std::size_t lane) {
            const hn::Rebind<std::int8_t, F32> i8;
            put_half(bytes, scales.stored[lane]);
            const VF by = constant(scales.reciprocal[lane]), almost_half = constant(0.49999997F);
            for (std::size_t i = 0; i < ggml_block; i += lanes) {
                const VF v = hn::Mul(load_unaligned(x + i), by);
                const VI code = hn::ConvertTo(I32(), hn::Add(v, hn::CopySign(almost_half, v)));
                hn::StoreU(hn::DemoteTo(i8, code), i8, reinterpret_cast<std::int8_t*>(bytes) + 2 + i);
            }
        });
}

/// The bfloat16 of each float in the upper half of its bits.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<F32>> bf16_above(const float* from) {
    const hn::RebindToUnsigned<F32> u32;
    const auto bits = hn::LoadU(u32, reinterpret_cast<const std::uint32_t*>(from));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u32, 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(u32, 0x7FFF)), odd);
    const auto nan = hn::Gt(hn::And(bits, hn::Set(u32, 0x7FFFFFFF)), hn::Set(u32, 0x7F800000));
    return hn::IfThenElse(nan, hn::Or(bits, hn::Set(u32, 64U << 16)), rounded);
}

void to_bf16(const float* weights, std::size_t count, std::uint16_t* out) {
    const hn::Repartition<std::uint16_t, F32> u16;
    std::size_t i = 0;
    // Whole vectors are stored where no line of the cache is crossed: measured, more than twice as fast.
    for (; i < count && reinterpret_cast<std::uintptr_t>(out + i) % HWY_MAX_BYTES != 0; ++i)
        out[i] = float_to_bf16(weights[i]);
    for (; i + 2 * lanes <= count; i += 2 * lanes) {
        prefetch_block(weights + i);
        const auto low = hn::BitCast(u16, bf16_above(weights + i));
        const auto high = hn::BitCast(u16, bf16_above(weights + i + lanes));
        hn::StoreU(hn::ConcatOdd(u16, high, low), u16, out + i);
    }
    for (; i < count; ++i)
        out[i] = float_to_bf16(weights[i]);
}

void to_fp16(const float* weights, std::size_t count, std::uint16_t* out) {
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        store_halves(load_unaligned(weights + i), out + i);
    for (; i < count; ++i)
        out[i] = float_to_fp16(weights[i]);
}

#else

QUANTOSCOPE_SCALAR_ENCODER(encode_q4_0, Q4_0)
QUANTOSCOPE_SCALAR_ENCODER(encode_q5_0, Q5_0)
QUANTOSCOPE_SCALAR_ENCODER(encode_q4_1, Q4_1)
QUANTOSCOPE_SCALAR_ENCODER(encode_q5_1, Q5_1)
QUANTOSCOPE_SCALAR_ENCODER(encode_q8_0, Q8_0)
void to_fp16(const float* weights, std::size_t count, std::uint16_t* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = float_to_fp16(weights[i]);
}
void to_bf16(const float* weights, std::size_t count, std::uint16_t* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = float_to_bf16(weights[i]);
}

#endif

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

HWY_EXPORT(to_fp16);
HWY_EXPORT(to_bf16);

QUANTOSCOPE_DISPATCH_ENCODER(encode_q4_0)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q4_1)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q5_0)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q5_1)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q8_0)
void to_fp16(const float* weights, std::size_t count, std::uint16_t* out) {
    HWY_DYNAMIC_DISPATCH(to_fp16)(weights, count, out);
}
void to_bf16(const float* weights, std::size_t count, std::uint16_t* out) {
    HWY_DYNAMIC_DISPATCH(to_bf16)(weights, count, out);
}

} // namespace qs::simd
#endif
