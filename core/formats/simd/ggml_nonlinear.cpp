#include "core/formats/ggml_nonlinear.h"

#include <algorithm>
#include <array>

#include "core/formats/simd/blocks.h"
#include "core/formats/simd/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/ggml_nonlinear.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/formats/simd/lanes-inl.h"

// One definition for all targets.
#ifndef QUANTOSCOPE_GGML_NONLINEAR_TABLES
#define QUANTOSCOPE_GGML_NONLINEAR_TABLES
namespace qs::simd {

/// The axis of iq4 in 32 cells, of which none holds more than one decision boundary: cell = nearest integer of
/// x·iq4_cells_per_unit, modulo 32. Below the boundary the level is `below`, from it on the next one.
inline constexpr float iq4_cells_per_unit = 1 / 8.7F;
/// Beyond these the cells wrap; the outermost levels begin well inside.
inline constexpr float iq4_axis_low = -134, iq4_axis_high = 130;

struct Iq4Cells {
    alignas(64) std::array<float, 32> boundary, below, above;
    alignas(64) std::array<std::int32_t, 32> rank; ///< of `below`
    alignas(64) std::array<float, 16> boundaries;  ///< the fifteen, ascending; then a number above all
    alignas(64) std::array<float, 16> levels;
};

inline const Iq4Cells& iq4_cells() {
    static const Iq4Cells cells = [] {
        Iq4Cells c{};
        for (std::uint32_t i = 0; i < 16; ++i) {
            c.levels[i] = iq4_value(i);
            c.boundaries[i] = i < 15 ? (iq4_value(i) + iq4_value(i + 1)) / 2 : 1e9F;
        }
        for (int cell = -16; cell < 16; ++cell) {
            const auto low = static_cast<float>(cell - 0.5) / iq4_cells_per_unit;
            const auto high = static_cast<float>(cell + 0.5) / iq4_cells_per_unit;
            std::uint32_t rank = 0;
            while (rank < 15 && c.boundaries[rank] <= low)
                ++rank;
            const auto slot = static_cast<std::size_t>(cell & 31);
            const bool divided = rank < 15 && c.boundaries[rank] < high;
            c.boundary[slot] = divided ? c.boundaries[rank] : 1e9F;
            c.below[slot] = iq4_value(rank);
            c.above[slot] = iq4_value(divided ? rank + 1 : rank);
            c.rank[slot] = static_cast<std::int32_t>(rank);
        }
        return c;
    }();
    return cells;
}

} // namespace qs::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {

#if HWY_MAX_BYTES >= 32

/// The nearest levels of iq4 for a vector of values.
class Iq4Levels {
public:
#if HWY_TARGET <= HWY_AVX3
    Iq4Levels() {
        const Iq4Cells& cells = iq4_cells();
        for (std::size_t i = 0; i < 2; ++i) {
            boundary_[i] = load(cells.boundary.data() + 16 * i);
            below_[i] = load(cells.below.data() + 16 * i);
            above_[i] = load(cells.above.data() + 16 * i);
            rank_[i] = hn::Load(I32(), cells.rank.data() + 16 * i);
        }
    }

    HWY_INLINE VF value(VF x) const {
        const VI cell = cell_of(x);
        return select(hn::Ge(x, look_up(boundary_, cell)), look_up(above_, cell), look_up(below_, cell));
    }
    HWY_INLINE VI code(VF x) const {
        x = clamp_to(x, constant(iq4_axis_low), constant(iq4_axis_high));
        const VI cell = cell_of(x);
        const VI below{_mm512_permutex2var_epi32(rank_[0].raw, cell.raw, rank_[1].raw)};
        const auto above = hn::RebindMask(I32(), hn::Ge(x, look_up(boundary_, cell)));
        return hn::IfThenElse(above, hn::Add(below, hn::Set(I32(), 1)), below);
    }

private:
    /// Adding 1.5·2²³ leaves the nearest integer in the low bits; the table takes the lowest five.
    static HWY_INLINE VI cell_of(VF x) {
        return hn::BitCast(I32(), hn::MulAdd(x, constant(iq4_cells_per_unit), constant(12582912.0F)));
    }
    static HWY_INLINE VF look_up(const VF* table, VI cell) {
        return VF{_mm512_permutex2var_ps(table[0].raw, cell.raw, table[1].raw)};
    }
    VF boundary_[2], below_[2], above_[2];
    VI rank_[2];
#else
    Iq4Levels() {
        const Iq4Cells& cells = iq4_cells();
        HWY_ALIGN float third[8], fourth[8];
        // Halving takes fewer lookups than the cells where a table has eight entries; the steps count down from 0, so
        // that tables are read from their end.
        for (std::size_t i = 0; i < 8; ++i) {
            const std::size_t step = (8 - i) % 8;
            third[i] = cells.boundaries[4 * (step % 4) + 1];
            fourth[i] = cells.boundaries[2 * step];
        }
        third_ = load(third);
        fourth_ = load(fourth);
        first_ = constant(cells.boundaries[7]);
        second_low_ = constant(cells.boundaries[3]);
        second_high_ = constant(cells.boundaries[11]);
        HWY_ALIGN float low[8], high[8];
        for (std::size_t i = 0; i < 8; ++i) {
            low[i] = cells.levels[(8 - i) % 8];
            high[i] = cells.levels[8 + (8 - i) % 8];
        }
        low_ = load(low);
        high_ = load(high);
    }

    HWY_INLINE VF value(VF x) const {
        MF upper;
        const auto index = hn::IndicesFromVec(F32(), hn::And(minus_code(x, upper), hn::Set(I32(), 7)));
        return select(upper, hn::TableLookupLanes(high_, index), hn::TableLookupLanes(low_, index));
    }
    HWY_INLINE VI code(VF x) const {
        MF upper;
        return hn::Neg(minus_code(x, upper));
    }

private:
    static HWY_INLINE VI as_int(MF mask) {
        return hn::VecFromMask(I32(), hn::RebindMask(I32(), mask));
    }
    static HWY_INLINE VF look_up(VF table, VI minus_index) {
        return hn::TableLookupLanes(table, hn::IndicesFromVec(F32(), hn::And(minus_index, hn::Set(I32(), 7))));
    }
    HWY_INLINE VI minus_code(VF x, MF& upper) const {
        upper = hn::Ge(x, first_);
        VI code = as_int(upper);
        code = hn::Add(hn::Add(code, code), as_int(hn::Ge(x, select(upper, second_high_, second_low_))));
        code = hn::Add(hn::Add(code, code), as_int(hn::Ge(x, look_up(third_, code))));
        return hn::Add(hn::Add(code, code), as_int(hn::Ge(x, look_up(fourth_, code))));
    }
    VF first_, second_low_, second_high_, third_, fourth_, low_, high_;
#endif
};

/// `search_iq4` of `groups` groups of `lanes` blocks of 32, which start at `weights`, one after the other.
template <std::size_t groups>
HWY_NOINLINE void search_iq4_lanes(const Iq4Levels& levels, const float* weights, float* scales, bool* safe) {
    constexpr std::size_t n = 32;
    HWY_ALIGN float x[groups][n * lanes];
    HWY_ALIGN float weight[groups][n * lanes];
    VF largest[groups], d[groups], best[groups];
    for (std::size_t g = 0; g < groups; ++g) {
        transpose(weights + g * lanes * n, n, n, x[g]);
        largest[g] = signed_largest_of<n>(x[g]);
        for (std::size_t i = 0; i < n; ++i) {
            const VF v = load(x[g] + i * lanes);
            store(hn::Mul(v, v), weight[g] + i * lanes);
        }
    }
    const float first = iq4_value(0);
    for (int trial = 0; trial < 16; ++trial) {
        VF inverse[groups], sum_qx[groups], sum_q2[groups];
        for (std::size_t g = 0; g < groups; ++g) {
            inverse[g] = trial == 0 ? hn::Div(constant(1), hn::Div(hn::Neg(largest[g]), constant(first)))
                                    : hn::Div(constant(static_cast<float>(trial - 8) + first), largest[g]);
            sum_qx[g] = sum_q2[g] = zero();
        }
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t g = 0; g < groups; ++g) {
                const VF v = load(x[g] + i * lanes);
                const VF q = levels.value(hn::Mul(inverse[g], v));
                const VF wq = hn::Mul(load(weight[g] + i * lanes), q);
                sum_qx[g] = hn::Add(sum_qx[g], hn::Mul(wq, v));
                sum_q2[g] = hn::Add(sum_q2[g], hn::Mul(wq, q));
            }
        for (std::size_t g = 0; g < groups; ++g) {
            const MF some = hn::Gt(sum_q2[g], zero());
            const VF fitted = hn::Div(sum_qx[g], sum_q2[g]);
            if (trial == 0) {
                d[g] = hn::IfThenElseZero(some, fitted);
                best[g] = hn::Mul(d[g], sum_qx[g]);
                continue;
            }
            const MF better = hn::And(some, hn::Gt(hn::Mul(sum_qx[g], sum_qx[g]), hn::Mul(best[g], sum_q2[g])));
            d[g] = select(better, fitted, d[g]);
            best[g] = select(better, hn::Mul(fitted, sum_qx[g]), best[g]);
        }
    }
    for (std::size_t g = 0; g < groups; ++g) {
        store(hn::IfThenZeroElse(hn::Eq(largest[g], zero()), d[g]), scales + g * lanes);
        HWY_ALIGN float flags[lanes];
        store(select(safe_magnitude(largest[g]), constant(1), zero()), flags);
        for (std::size_t lane = 0; lane < lanes; ++lane)
            safe[g * lanes + lane] = flags[lane] != 0;
    }
}

/// The nibbles of 32 weights.
HWY_INLINE void put_iq4_codes(const Iq4Levels& levels, const float* x, float inverse, std::uint8_t* bytes) {
    const F32 f;
    for (std::size_t j = 0; j < 16; j += lanes) {
        const VI low = levels.code(hn::Mul(constant(inverse), hn::LoadU(f, x + j)));
        const VI high = levels.code(hn::Mul(constant(inverse), hn::LoadU(f, x + j + 16)));
        hn::StoreU(hn::DemoteTo(U8(), hn::Or(low, hn::ShiftLeft<4>(high))), U8(), bytes + j);
    }
}

inline constexpr std::size_t iq4_groups = 2, iq4_at_once = iq4_groups * lanes;

void encode_iq4_nl(const float* weights, std::size_t blocks, std::uint8_t* out) {
    const Iq4Levels levels;
    HWY_ALIGN float scales[iq4_at_once];
    bool safe[iq4_at_once];
    std::size_t block = 0;
    for (; block + iq4_at_once <= blocks; block += iq4_at_once) {
        search_iq4_lanes<iq4_groups>(levels, weights + block * 32, scales, safe);
        for (std::size_t i = 0; i < iq4_at_once; ++i) {
            const float* x = weights + (block + i) * 32;
            std::uint8_t* bytes = out + (block + i) * Iq4Nl::bytes;
            if (!safe[i]) {
                Iq4Nl::encode(x, BlockContext{}, bytes);
                continue;
            }
            put_half(bytes, float_to_fp16(scales[i]));
            put_iq4_codes(levels, x, scales[i] != 0 ? 1 / scales[i] : 0.0F, bytes + 2);
        }
    }
    for (; block < blocks; ++block)
        Iq4Nl::encode(weights + block * 32, BlockContext{}, out + block * Iq4Nl::bytes);
}

void encode_iq4_xs(const float* weights, std::size_t blocks, std::uint8_t* out) {
    const Iq4Levels levels;
    constexpr std::size_t at_once = iq4_at_once / Iq4Xs::subs;
    HWY_ALIGN float scales[iq4_at_once];
    bool safe[iq4_at_once];
    std::size_t block = 0;
    for (; block + at_once <= blocks; block += at_once) {
        search_iq4_lanes<iq4_groups>(levels, weights + block * super_block, scales, safe);
        for (std::size_t i = 0; i < at_once; ++i) {
            const float* x = weights + (block + i) * super_block;
            std::uint8_t* bytes = out + (block + i) * Iq4Xs::bytes;
            const std::size_t first = i * Iq4Xs::subs;
            if (!std::all_of(safe + first, safe + first + Iq4Xs::subs, [](bool s) { return s; })) {
                Iq4Xs::encode(x, BlockContext{}, bytes);
                continue;
            }
            Iq4Xs::put_scales(scales + first, bytes, [&](std::uint32_t j, float inverse) {
                put_iq4_codes(levels, x + Iq4Xs::sub * j, inverse, bytes + Iq4Xs::nibbles + 16 * j);
            });
        }
    }
    for (; block < blocks; ++block)
        Iq4Xs::encode(weights + block * super_block, BlockContext{}, out + block * Iq4Xs::bytes);
}

// --- E2M1 ------------------------------------------------------------------------------------------------------

/// Sixteen codes of E2M1 as bytes in the lanes of two or one vectors: how many of the halfway values |x| exceeds, and
/// the sign where that is not 0. `d` is half the scale; the halfway values are exact.
HWY_INLINE VI e2m1_codes(VF x, VF d) {
    constexpr float halfway[7] = {0.5F, 1.5F, 2.5F, 3.5F, 5, 7, 10};
    const VF size = hn::Abs(x);
    VI code = hn::Zero(I32());
    for (const float middle : halfway) {
        const auto above = hn::RebindMask(I32(), hn::Gt(size, hn::Mul(constant(middle), d)));
        code = hn::IfThenElse(above, hn::Add(code, hn::Set(I32(), 1)), code);
    }
    const auto negative = hn::RebindMask(I32(), hn::Lt(x, zero()));
    const auto signed_code = hn::And(negative, hn::Gt(code, hn::Zero(I32())));
    return hn::IfThenElse(signed_code, hn::Or(code, hn::Set(I32(), 8)), code);
}

HWY_INLINE float largest_of(const float* x, std::size_t count) {
    VF largest = zero();
    for (std::size_t i = 0; i < count; i += lanes)
        largest = hn::Max(largest, hn::Abs(load_unaligned(x + i)));
    return hn::GetLane(hn::MaxOfLanes(F32(), largest));
}

void encode_mxfp4_ggml(const float* weights, std::size_t blocks, std::uint8_t* out) {
    HWY_ALIGN float largest[lanes];
    for (std::size_t block = 0; block < blocks; block += lanes) {
        const std::size_t count = std::min(lanes, blocks - block);
        Reduction magnitudes;
        for (std::size_t i = 0; i < lanes; ++i) {
            const float* x = weights + (block + std::min(i, count - 1)) * 32;
            prefetch_block(x);
            VF most = zero();
            for (std::size_t j = 0; j < 32; j += lanes)
                most = hn::Max(most, hn::Abs(load_unaligned(x + j)));
            magnitudes.put(i, most, MaxOp());
        }
        store(magnitudes.reduce(MaxOp()), largest);
        for (std::size_t i = 0; i < count; ++i) {
            const float* x = weights + (block + i) * 32;
            std::uint8_t* bytes = out + (block + i) * Mxfp4Ggml::bytes;
            if (largest[i] < smallest_safe || largest[i] > largest_safe) {
                Mxfp4Ggml::encode(x, BlockContext{}, bytes);
                continue;
            }
            bytes[0] = Mxfp4Ggml::exponent(largest[i]);
            const VF d = constant(Mxfp4Ggml::half_scale(bytes[0]));
            for (std::size_t j = 0; j < 16; j += lanes) {
                const VI low = e2m1_codes(load_unaligned(x + j), d), high = e2m1_codes(load_unaligned(x + 16 + j), d);
                hn::StoreU(hn::DemoteTo(U8(), hn::Or(low, hn::ShiftLeft<4>(high))), U8(), bytes + 1 + j);
            }
        }
    }
}

/// The eight bytes of sixteen codes: 0 to 7 low, 8 to 15 high.
HWY_INLINE void put_sixteen(const float* x, VF d, std::uint8_t* bytes) {
#if HWY_MAX_BYTES >= 64
    const VI codes = e2m1_codes(load_unaligned(x), d);
    const hn::Half<I32> half;
    const auto packed = hn::Or(hn::LowerHalf(half, codes), hn::ShiftLeft<4>(hn::UpperHalf(half, codes)));
    const hn::Rebind<std::uint8_t, decltype(half)> u8;
    hn::StoreU(hn::DemoteTo(u8, packed), u8, bytes);
#else
    const VI low = e2m1_codes(load_unaligned(x), d), high = e2m1_codes(load_unaligned(x + 8), d);
    hn::StoreU(hn::DemoteTo(U8(), hn::Or(low, hn::ShiftLeft<4>(high))), U8(), bytes);
#endif
}

void encode_nvfp4_ggml(const float* weights, std::size_t blocks, std::uint8_t* out) {
    // From here on the distances to all levels round to the same float, and the first of them is the nearest.
    constexpr float largest_exact = 0x1p14F;
    for (std::size_t block = 0; block < blocks; ++block) {
        const float* x = weights + block * Nvfp4Ggml::block;
        std::uint8_t* bytes = out + block * Nvfp4Ggml::bytes;
        prefetch_block(x);
        prefetch_block(x + 32);
        if (largest_of(x, Nvfp4Ggml::block) > largest_exact) {
            Nvfp4Ggml::encode(x, BlockContext{}, bytes);
            continue;
        }
        for (std::uint32_t s = 0; s < Nvfp4Ggml::subs; ++s) {
            const float* from = x + Nvfp4Ggml::sub * s;
            bytes[s] = float_to_ue4m3(largest_of(from, Nvfp4Ggml::sub) / 6.0F);
            std::uint8_t* codes = bytes + 4 + 8 * s;
            if (bytes[s] == 0)
                std::fill_n(codes, 8, std::uint8_t{0});
            else
                put_sixteen(from, constant(half_ue4m3(bytes[s])), codes);
        }
    }
}

#else

QUANTOSCOPE_SCALAR_ENCODER(encode_iq4_nl, Iq4Nl)
QUANTOSCOPE_SCALAR_ENCODER(encode_iq4_xs, Iq4Xs)
QUANTOSCOPE_SCALAR_ENCODER(encode_mxfp4_ggml, Mxfp4Ggml)
QUANTOSCOPE_SCALAR_ENCODER(encode_nvfp4_ggml, Nvfp4Ggml)

#endif

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

QUANTOSCOPE_DISPATCH_ENCODER(encode_iq4_nl)
QUANTOSCOPE_DISPATCH_ENCODER(encode_iq4_xs)
QUANTOSCOPE_DISPATCH_ENCODER(encode_mxfp4_ggml)
QUANTOSCOPE_DISPATCH_ENCODER(encode_nvfp4_ggml)

} // namespace qs::simd
#endif
