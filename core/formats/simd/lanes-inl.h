// Included once per target, inside foreach_target.
#if defined(QUANTOSCOPE_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef QUANTOSCOPE_LANES_INL_H
#undef QUANTOSCOPE_LANES_INL_H
#else
#define QUANTOSCOPE_LANES_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_MAX_BYTES >= 32

// What the searches share that treat many blocks at once, a block to a lane: each lane does the operations of the
// scalar codec in its order, so that its bytes are the same. Blocks whose numbers could leave the range in which this
// holds are left to the scalar codec.

using F32 = hn::ScalableTag<float>;
using I32 = hn::RebindToSigned<F32>;
using U8 = hn::Rebind<std::uint8_t, F32>;
using VF = hn::Vec<F32>;
using VI = hn::Vec<I32>;
using MF = hn::Mask<F32>;

inline constexpr std::size_t lanes = HWY_MAX_BYTES / sizeof(float);

/// Magnitudes that a block may have: squares and cubes of them, and quotients, stay normal float32 numbers.
inline constexpr float largest_safe = 0x1p30F, smallest_safe = 0x1p-30F;
/// Below this float32 numbers still have the fraction that rounding looks at (ggml_nearest wraps from 2²² on).
inline constexpr float largest_rounded = 0x1p22F;

HWY_INLINE VF constant(float value) {
    return hn::Set(F32(), value);
}
HWY_INLINE VF zero() {
    return hn::Zero(F32());
}
HWY_INLINE VF load(const float* from) {
    return hn::Load(F32(), from);
}
HWY_INLINE VF load_unaligned(const float* from) {
    return hn::LoadU(F32(), from);
}
HWY_INLINE void store(VF v, float* to) {
    hn::Store(v, F32(), to);
}
HWY_INLINE VF select(MF mask, VF yes, VF no) {
    return hn::IfThenElse(mask, yes, no);
}
HWY_INLINE VF clamp_to(VF v, VF low, VF high) {
    return hn::Min(hn::Max(v, low), high);
}

/// Asks for 32 weights ahead of their use.
HWY_INLINE void prefetch_block(const float* x) {
    constexpr std::size_t ahead = 4096;
    hwy::Prefetch(x + ahead);
    hwy::Prefetch(x + ahead + 16);
}

/// Four floats of each of `lanes` rows, `stride` floats apart, as blocks of 128 bits: block b holds row 4·b + k.
HWY_INLINE VF load_rows(const float* from, std::size_t stride, std::size_t k) {
    const hn::Half<F32> half;
    const float* row = from + k * stride;
#if HWY_MAX_BYTES >= 64
    const hn::Half<decltype(half)> quarter;
    const auto low = hn::Combine(half, hn::LoadU(quarter, row + 4 * stride), hn::LoadU(quarter, row));
    const auto high = hn::Combine(half, hn::LoadU(quarter, row + 12 * stride), hn::LoadU(quarter, row + 8 * stride));
    return hn::Combine(F32(), high, low);
#else
    return hn::Combine(F32(), hn::LoadU(half, row + 4 * stride), hn::LoadU(half, row));
#endif
}

/// to[i·lanes + lane] = from[lane·stride + i] for i < count, a multiple of 4.
HWY_INLINE void transpose(const float* from, std::size_t stride, std::size_t count, float* to) {
    const F32 f;
    const hn::Repartition<double, F32> d;
    for (std::size_t i = 0; i < count; i += 4) {
        const VF a = load_rows(from + i, stride, 0), b = load_rows(from + i, stride, 1);
        const VF c = load_rows(from + i, stride, 2), e = load_rows(from + i, stride, 3);
        const auto ab_low = hn::BitCast(d, hn::InterleaveLower(f, a, b));
        const auto ab_high = hn::BitCast(d, hn::InterleaveUpper(f, a, b));
        const auto ce_low = hn::BitCast(d, hn::InterleaveLower(f, c, e));
        const auto ce_high = hn::BitCast(d, hn::InterleaveUpper(f, c, e));
        store(hn::BitCast(f, hn::InterleaveLower(d, ab_low, ce_low)), to + i * lanes);
        store(hn::BitCast(f, hn::InterleaveUpper(d, ab_low, ce_low)), to + (i + 1) * lanes);
        store(hn::BitCast(f, hn::InterleaveLower(d, ab_high, ce_high)), to + (i + 2) * lanes);
        store(hn::BitCast(f, hn::InterleaveUpper(d, ab_high, ce_high)), to + (i + 3) * lanes);
    }
}

/// One number for each of `lanes` blocks from a vector of candidates each: put() takes the vectors one after the other,
/// reduce() gives the numbers, a block to a lane. `op` is Min or Max.
class Reduction {
public:
    template <class Op>
    HWY_INLINE void put(std::size_t block, VF candidates, Op op) {
        const hn::Half<F32> half;
        const auto eight = op(half, hn::LowerHalf(half, candidates), hn::UpperHalf(half, candidates));
#if HWY_MAX_BYTES >= 64
        const hn::Half<decltype(half)> quarter;
        hn::Store(op(quarter, hn::LowerHalf(quarter, eight), hn::UpperHalf(quarter, eight)), quarter,
                  four_ + 4 * block);
#else
        hn::Store(eight, half, four_ + 4 * block);
#endif
    }
    template <class Op>
    HWY_INLINE VF reduce(Op op) const {
        HWY_ALIGN float columns[4 * lanes];
        transpose(four_, 4, 4, columns);
        const F32 f;
        return op(f, op(f, load(columns), load(columns + lanes)),
                  op(f, load(columns + 2 * lanes), load(columns + 3 * lanes)));
    }

private:
    HWY_ALIGN float four_[4 * lanes];
};
struct MaxOp {
    template <class D, class V>
    HWY_INLINE V operator()(D, V a, V b) const {
        return hn::Max(a, b);
    }
};
struct MinOp {
    template <class D, class V>
    HWY_INLINE V operator()(D, V a, V b) const {
        return hn::Min(a, b);
    }
};

/// The value of the largest magnitude of each lane, with its sign; of equal ones the first.
template <std::size_t count>
HWY_INLINE VF signed_largest_of(const float* x) {
    VF largest = zero(), magnitude = zero();
    for (std::size_t i = 0; i < count; ++i) {
        const VF v = load(x + i * lanes);
        const VF size = hn::Abs(v);
        largest = select(hn::Gt(size, magnitude), v, largest);
        magnitude = hn::Max(magnitude, size);
    }
    return largest;
}

/// Whether every lane's magnitudes are zero or safe to search with: `largest` is of each lane.
HWY_INLINE MF safe_magnitude(VF largest) {
    const VF size = hn::Abs(largest);
    const MF in_range = hn::And(hn::Ge(size, constant(smallest_safe)), hn::Le(size, constant(largest_safe)));
    return hn::Or(in_range, hn::Eq(size, zero()));
}

/// Rounds to nearest and stores as bytes.
HWY_INLINE void store_codes(VF l, std::uint8_t* to) {
    hn::StoreU(hn::DemoteTo(U8(), hn::NearestInt(l)), U8(), to);
}

#endif // HWY_MAX_BYTES >= 32

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#endif
