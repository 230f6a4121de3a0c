// Included once per target, inside foreach_target.
#if defined(QUANTOSCOPE_WORDS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef QUANTOSCOPE_WORDS_INL_H
#undef QUANTOSCOPE_WORDS_INL_H
#else
#define QUANTOSCOPE_WORDS_INL_H
#endif

#include <hwy/highway.h>

#include <array>

#include "core/formats/tensor_codec.h"

// One definition for all targets.
#ifndef QUANTOSCOPE_WORDS_CONSTANTS
#define QUANTOSCOPE_WORDS_CONSTANTS
namespace qs::simd {

/// Blocks of a larger or smaller absmax, and those that are not finite, are left: squares of float32 would overflow, or
/// be lost below 2⁻¹²⁶. In the blocks that are taken what is lost there is less than 2⁻⁴⁶ of the largest square.
inline constexpr float largest_scale = 0x1p40F, smallest_scale = 0x1p-40F;
/// Weights that are asked for ahead of their use.
inline constexpr std::size_t prefetch_ahead = 4096;

} // namespace qs::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32

// What the fused evaluations share that read stored bfloat16 words.

using F32 = hn::ScalableTag<float>;
using I32 = hn::RebindToSigned<F32>;
using U32 = hn::RebindToUnsigned<F32>;
using F64 = hn::ScalableTag<double>;
using VF = hn::Vec<F32>;
using VI = hn::Vec<I32>;
using VD = hn::Vec<F64>;

/// Two vectors of weights from one of bf16: the even and the odd elements.
struct Pair {
    VF even, odd;
};

HWY_INLINE Pair load_pair(const std::uint16_t* weights) {
    const U32 u;
    const F32 f;
    const auto words = hn::BitCast(u, hn::LoadU(hn::Repartition<std::uint16_t, U32>(), weights));
    return {hn::BitCast(f, hn::ShiftLeft<16>(words)), hn::BitCast(f, hn::And(words, hn::Set(u, 0xFFFF0000U)))};
}

/// The largest magnitude of a block. As integers, magnitudes are in the order of their values, with NaN above Inf: a
/// NaN is never lost, as it would be among floats.
HWY_INLINE float absmax(const std::uint16_t* weights, std::size_t count) {
    const hn::Repartition<std::uint16_t, F32> u;
    const auto magnitude = hn::Set(u, 0x7FFF);
    auto largest = hn::Zero(u);
    for (std::size_t i = 0; i < count; i += hn::Lanes(u))
        largest = hn::Max(largest, hn::And(magnitude, hn::LoadU(u, weights + i)));
    const hn::Half<decltype(u)> half;
#if HWY_MAX_BYTES >= 64
    const hn::Half<decltype(half)> quarter;
    const auto of_half = hn::Max(hn::LowerHalf(half, largest), hn::UpperHalf(half, largest));
    const auto eight = hn::Max(hn::LowerHalf(quarter, of_half), hn::UpperHalf(quarter, of_half));
#else
    const auto eight = hn::Max(hn::LowerHalf(half, largest), hn::UpperHalf(half, largest));
#endif
    // There is an instruction for the least of eight.
    const auto least = static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(hn::Not(eight).raw)));
    return bits_float((~least & 0xFFFF) << 16);
}

/// Adds the lanes of a float32 vector to a float64 one.
HWY_INLINE VD add_to(VD sum, VF part) {
    const F64 d;
    const hn::Half<F32> half;
    sum = hn::Add(sum, hn::PromoteTo(d, hn::LowerHalf(half, part)));
    return hn::Add(sum, hn::PromoteTo(d, hn::UpperHalf(half, part)));
}

/// Σd², Σd and Σwd of d = v − w, in the lanes of float64 vectors.
class Sums {
public:
    // Written out: GCC compiles implicit constructors for the base target.
    Sums()
        : d2_{hn::Zero(F32()), hn::Zero(F32())}, d_{d2_[0], d2_[0]}, wd_{d2_[0], d2_[0]}, total_d2_(hn::Zero(F64())),
          total_d_(total_d2_), total_wd_(total_d2_) {}

    /// Weights and values of two vectors, in sums of their own: neither waits for the other.
    void add(VF w, VF v, std::size_t which) {
        const VF d = hn::Sub(v, w);
        d2_[which] = hn::MulAdd(d, d, d2_[which]);
        d_[which] = hn::Add(d_[which], d);
        wd_[which] = hn::MulAdd(w, d, wd_[which]);
    }

    /// Move the float32 parts to float64.
    void widen_squares() {
        total_d2_ = add_to(total_d2_, hn::Add(d2_[0], d2_[1]));
        d2_[0] = d2_[1] = hn::Zero(F32());
    }
    void widen_rest() {
        total_d_ = add_to(total_d_, hn::Add(d_[0], d_[1]));
        total_wd_ = add_to(total_wd_, hn::Add(wd_[0], wd_[1]));
        d_[0] = d_[1] = wd_[0] = wd_[1] = hn::Zero(F32());
    }

    void finish(ErrorSums& sums) const {
        const double d2 = total(total_d2_);
        sums.sum_d2 += d2;
        sums.sum_d += total(total_d_);
        sums.sum_v2 += 2 * total(total_wd_) + d2;
    }

private:
    static double total(VD lanes) { return hn::GetLane(hn::SumOfLanes(F64(), lanes)); }

    VF d2_[2], d_[2], wd_[2];
    VD total_d2_, total_d_, total_wd_;
};

using U64 = hn::Repartition<std::uint64_t, F32>;

/// Counts ranks: in sixteen 4-bit fields of each 64-bit lane, emptied into 8-bit fields before they overflow, and
/// those into counters.
class NibbleCounts {
public:
    NibbleCounts() : fields_(hn::Zero(U64())), even_(fields_), odd_(fields_) {}

    void add(VI rank) {
        const U64 u;
        const auto bits = hn::ShiftLeft<2>(hn::BitCast(u, rank));
        const auto one = hn::Set(u, 1);
        fields_ = hn::Add(fields_, hn::Shl(one, hn::And(bits, hn::Set(u, 63))));
        fields_ = hn::Add(fields_, hn::Shl(one, hn::ShiftRight<32>(bits)));
        if (++vectors_ % 7 == 0)
            empty();
    }

    /// How often each rank was added.
    const std::array<std::uint64_t, 16>& counts() {
        empty();
        flush();
        return counts_;
    }

private:
    using Fields = hn::Vec<U64>;

    void empty() {
        const auto low = hn::Set(U64(), 0x0F0F0F0F0F0F0F0FU);
        even_ = hn::Add(even_, hn::And(fields_, low));
        odd_ = hn::Add(odd_, hn::And(hn::ShiftRight<4>(fields_), low));
        fields_ = hn::Zero(U64());
        if (++emptied_ == 18)
            flush();
    }

    void flush() {
        HWY_ALIGN std::uint64_t lanes[hn::MaxLanes(U64())];
        for (std::size_t parity = 0; parity < 2; ++parity) {
            hn::Store(parity == 0 ? even_ : odd_, U64(), lanes);
            for (const std::uint64_t lane : lanes)
                for (std::size_t byte = 0; byte < 8; ++byte)
                    counts_[2 * byte + parity] += lane >> (8 * byte) & 255;
        }
        even_ = odd_ = hn::Zero(U64());
        emptied_ = 0;
    }

    Fields fields_, even_, odd_;
    unsigned vectors_ = 0, emptied_ = 0;
    std::array<std::uint64_t, 16> counts_{};
};

#endif

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#endif
