#include "core/formats/simd/uniform.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/half.h"
#include "core/formats/ggml_basic.h"
#include "core/formats/integer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/uniform.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/formats/simd/words-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32

// A quantizer is bound to the scale of a scope: level(w) is the nearest level as a whole number, value(level) what it
// is decoded to, and `zero_code` the code of level 0.

/// q8_0: halves away from zero.
struct HalfAwayQuantizer {
    static constexpr int zero_code = 128;
    VF by, d;

    HWY_INLINE VF level(VF w) const {
        const F32 f;
        const VF x = hn::Mul(w, by);
        return hn::Trunc(hn::Add(x, hn::CopySign(hn::Set(f, 0.49999997F), x)));
    }
    HWY_INLINE VF value(VF level) const { return hn::Mul(level, d); }
};

/// q4_0 and q5_0: halves up, the largest level cut off.
template <int bits>
struct HalfUpQuantizer {
    static constexpr int zero_code = 1 << (bits - 1);
    VF by, d;

    HWY_INLINE VF level(VF w) const {
        const F32 f;
        constexpr auto half = static_cast<float>(zero_code);
        const VF code = hn::Trunc(hn::Add(hn::Mul(w, by), hn::Set(f, half + 0.5F)));
        return hn::Sub(hn::Min(code, hn::Set(f, 2 * half - 1)), hn::Set(f, half));
    }
    HWY_INLINE VF value(VF level) const { return hn::Mul(level, d); }
};

/// Symmetric integers: the quotient, halves to even.
struct HalfEvenQuantizer {
    VF scale, low, high;

    HWY_INLINE VF level(VF w) const { return hn::Round(hn::Min(hn::Max(hn::Div(w, scale), low), high)); }
    HWY_INLINE VF value(VF level) const { return hn::Mul(level, scale); }
};

/// How often each code of one byte is used. Four tables, so that equal codes in a row do not wait for each other.
class ByteCounts {
public:
    explicit ByteCounts(std::uint64_t* usage) : usage_(usage) {}

    /// The levels of a vector of weights.
    HWY_INLINE void add(VF level, int zero_code) {
        const hn::Rebind<std::uint8_t, F32> u8;
        const VI code = hn::Add(hn::ConvertTo(I32(), level), hn::Set(I32(), zero_code));
        hn::StoreU(hn::DemoteTo(u8, code), u8, codes_ + filled_);
        filled_ += hn::MaxLanes(F32());
        if (filled_ == sizeof codes_)
            count();
    }

    void finish(std::size_t code_count) {
        count();
        for (std::size_t code = 0; code < code_count; ++code)
            usage_[code] += counts_[0][code] + counts_[1][code] + counts_[2][code] + counts_[3][code];
    }

private:
    void count() {
        for (std::size_t i = 0; i < filled_; i += 4)
            for (std::size_t table = 0; table < 4; ++table)
                ++counts_[table][codes_[i + table]];
        filled_ = 0;
    }

    std::uint64_t* usage_;
    std::size_t filled_ = 0;
    alignas(64) std::uint8_t codes_[1024];
    std::array<std::array<std::uint32_t, 256>, 4> counts_{};
};

/// Stands in for ByteCounts where nobody counts.
struct NoCounts {
    HWY_INLINE void add(VF, int) {}
};

/// Pairs of vectors whose terms are added in float32 before they go to float64: the fewer, the more often the same
/// terms come again, and with them their rounding errors.
inline constexpr std::size_t widen_squares_of_uniform_after = 2, widen_rest_of_uniform_after = 4;

/// Sums of the errors of scopes, and the largest of a run of them.
class Errors {
public:
    Errors() : largest_(hn::Zero(F32())) {}

    template <class Quantizer, class Counts>
    HWY_INLINE void take(const Quantizer& quantizer, int zero_code, const std::uint16_t* words, std::size_t count,
                         Counts& counts) {
        for (std::size_t i = 0; i < count; i += 2 * hn::MaxLanes(F32())) {
            const Pair pair = load_pair(words + i);
            const VF even = quantizer.level(pair.even), odd = quantizer.level(pair.odd);
            const VF even_value = quantizer.value(even), odd_value = quantizer.value(odd);
            totals_.add(pair.even, even_value, 0);
            totals_.add(pair.odd, odd_value, 1);
            largest_ = hn::Max(largest_,
                               hn::Max(hn::Abs(hn::Sub(even_value, pair.even)), hn::Abs(hn::Sub(odd_value, pair.odd))));
            counts.add(even, zero_code);
            counts.add(odd, zero_code);
            if (++pairs_ % widen_squares_of_uniform_after == 0)
                totals_.widen_squares();
            if (pairs_ % widen_rest_of_uniform_after == 0)
                totals_.widen_rest();
        }
    }

    /// The largest error since the last call.
    HWY_INLINE float take_largest() {
        const float largest = hn::GetLane(hn::MaxOfLanes(F32(), largest_));
        largest_ = hn::Zero(F32());
        return largest;
    }

    void finish(ErrorSums& sums) {
        totals_.widen_squares();
        totals_.widen_rest();
        totals_.finish(sums);
    }

private:
    Sums totals_;
    VF largest_;
    std::size_t pairs_ = 0;
};

/// Finds the weight with a new largest error among those of a scope; `decoded(w)` is the scalar codec's.
template <class Decoded>
void search_largest(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                    Decoded decoded) {
    for (std::size_t i = 0; i < count; ++i) {
        const float w = bf16_to_float(words[i]);
        const double error = std::abs(static_cast<double>(decoded(w)) - static_cast<double>(w));
        if (error > sums.max_abs) {
            sums.max_abs = error;
            sums.max_index = begin + i;
        }
    }
}

/// Whether the scopes of this absmax are taken. A float16 scale must not overflow.
HWY_INLINE bool takes(float absmax) {
    return absmax >= smallest_scale && absmax <= 65504;
}

/// The value of the largest magnitude of 32 words, with its sign; of equal ones the first.
HWY_INLINE float signed_largest_of(const std::uint16_t* words, float magnitude) {
    const hn::Repartition<std::uint16_t, F32> u;
    const auto bits = static_cast<std::uint16_t>(float_bits(magnitude) >> 16);
    std::uint32_t positive = 0, negative = 0;
    for (std::size_t i = 0; i < ggml_block; i += hn::Lanes(u)) {
        const auto word = hn::LoadU(u, words + i);
        const auto sign = hn::Set(u, static_cast<std::uint16_t>(bits | 0x8000U));
        hn::StoreMaskBits(u, hn::Eq(word, hn::Set(u, bits)), reinterpret_cast<std::uint8_t*>(&positive) + i / 8);
        hn::StoreMaskBits(u, hn::Eq(word, sign), reinterpret_cast<std::uint8_t*>(&negative) + i / 8);
    }
    // By bits, not by a branch: which sign it has cannot be predicted. `first` is the lowest bit of both.
    const std::uint32_t first = (positive | negative) & (0U - (positive | negative));
    return bits_float(float_bits(magnitude) | static_cast<std::uint32_t>((first & negative) != 0) << 31);
}

/// Blocks of 32 with a float16 scale. `extreme(words, absmax)` over `divisor` is the scale.
template <class Quantizer, class Codec, class Counts, class Extreme>
std::size_t evaluate_blocks(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                            Counts& counts, float divisor, Extreme extreme) {
    constexpr std::size_t group = 16;
    const F32 f;
    Errors errors;
    std::size_t done = 0;
    for (bool going = true; going && done + ggml_block <= count;) {
        HWY_ALIGN std::array<float, group> largest{}, d, by, stored;
        std::size_t blocks = 0;
        for (; blocks < group && done + (blocks + 1) * ggml_block <= count; ++blocks) {
            const std::uint16_t* block = words + done + blocks * ggml_block;
            hwy::Prefetch(block + prefetch_ahead);
            const float magnitude = absmax(block, ggml_block);
            if (!takes(magnitude)) {
                going = false;
                break;
            }
            largest[blocks] = extreme(block, magnitude);
        }
        for (std::size_t i = 0; i < group; i += hn::Lanes(f)) {
            const VF scale = hn::Div(hn::Load(f, &largest[i]), hn::Set(f, divisor));
            const hn::Rebind<hwy::float16_t, F32> half;
            hn::Store(scale, f, &d[i]);
            hn::Store(hn::Div(hn::Set(f, 1.0F), scale), f, &by[i]);
            hn::Store(hn::PromoteTo(f, hn::DemoteTo(half, scale)), f, &stored[i]);
        }
        for (std::size_t b = 0; b < blocks; ++b)
            errors.take(Quantizer{hn::Set(f, by[b]), hn::Set(f, stored[b])}, Quantizer::zero_code,
                        words + done + b * ggml_block, ggml_block, counts);
        if (errors.take_largest() > static_cast<float>(sums.max_abs * (1 - 1e-6)))
            for (std::size_t b = 0; b < blocks; ++b) {
                const Codec codec;
                const GgmlScale scale = ggml_scale(d[b]);
                const std::size_t offset = done + b * ggml_block;
                search_largest(words + offset, begin + offset, ggml_block, sums,
                               [&](float w) { return codec.decode(codec.encode(w, scale), scale); });
            }
        done += blocks * ggml_block;
    }
    errors.finish(sums);
    return done;
}

template <class Counts>
std::size_t evaluate_with(const Q8_0Codec&, const std::uint16_t* words, std::uint64_t begin, std::size_t count,
                          ErrorSums& sums, Counts& counts) {
    return evaluate_blocks<HalfAwayQuantizer, Q8_0Codec>(
        words, begin, count, sums, counts, 127, [](const std::uint16_t*, float magnitude) { return magnitude; });
}
template <int bits, class Counts>
std::size_t evaluate_with(const GgmlSymmetricCodec<bits>& codec, const std::uint16_t* words, std::uint64_t begin,
                          std::size_t count, ErrorSums& sums, Counts& counts) {
    return evaluate_blocks<HalfUpQuantizer<bits>, GgmlSymmetricCodec<bits>>(
        words, begin, count, sums, counts, -codec.half,
        [](const std::uint16_t* block, float magnitude) HWY_ATTR { return signed_largest_of(block, magnitude); });
}

template <class Counts>
std::size_t evaluate_with(const SymmetricIntCodec& codec, const std::uint16_t* words, std::uint64_t begin,
                          std::size_t count, ErrorSums& sums, Counts& counts) {
    // What is looked over for a new largest error at once: some scopes, or a part of one.
    constexpr std::size_t at_once = 1024;
    const F32 f;
    const auto scope = static_cast<std::size_t>(codec.scope().size);
    const float half_range = codec.half_range();
    Errors errors;
    std::size_t done = 0, searched = 0;
    const auto search = [&](std::size_t end) {
        if (errors.take_largest() > static_cast<float>(sums.max_abs * (1 - 1e-6)))
            for (std::size_t at = searched; at < end;) {
                const std::size_t first = at / scope * scope, last = std::min(end, first + scope);
                const SymmetricIntCodec::Scale scale = codec.fit({absmax(words + first, scope)});
                search_largest(words + at, begin + at, last - at, sums,
                               [&](float w) { return codec.decode(codec.encode(w, scale), scale); });
                at = last;
            }
        searched = end;
    };
    for (; done + scope <= count; done += scope) {
        const float magnitude = absmax(words + done, scope);
        if (!takes(magnitude))
            break;
        const SymmetricIntCodec::Scale scale = codec.fit({magnitude});
        const HalfEvenQuantizer quantizer{hn::Set(f, scale.scale), hn::Set(f, -half_range), hn::Set(f, half_range - 1)};
        for (std::size_t i = 0; i < scope; i += at_once) {
            const std::size_t length = std::min(at_once, scope - i);
            hwy::Prefetch(words + done + i + prefetch_ahead);
            errors.take(quantizer, static_cast<int>(half_range), words + done + i, length, counts);
            if (done + i + length - searched >= at_once)
                search(done + i + length);
        }
    }
    search(done);
    errors.finish(sums);
    return done;
}

#endif

/// Whole scopes of a codec from the start of `words`.
template <class Codec>
std::size_t evaluate(const Codec& codec, const std::uint16_t* words, std::uint64_t begin, std::size_t count,
                     ErrorSums& sums, std::uint64_t* usage) {
#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32
    std::size_t done = 0;
    if (usage == nullptr) {
        NoCounts none;
        done = evaluate_with(codec, words, begin, count, sums, none);
    } else {
        ByteCounts counts(usage);
        done = evaluate_with(codec, words, begin, count, sums, counts);
        counts.finish(codec.code_count);
    }
    sums.count += done;
    return done;
#else
    (void)codec, (void)words, (void)begin, (void)count, (void)sums, (void)usage;
    return 0;
#endif
}

std::size_t evaluate_q4_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return evaluate(Q4_0Codec{}, words, begin, count, sums, usage);
}
std::size_t evaluate_q5_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return evaluate(Q5_0Codec{}, words, begin, count, sums, usage);
}
std::size_t evaluate_q8_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return evaluate(Q8_0Codec{}, words, begin, count, sums, usage);
}
std::size_t evaluate_symmetric(const SymmetricIntCodec& codec, const std::uint16_t* words, std::uint64_t begin,
                               std::size_t count, ErrorSums& sums, std::uint64_t* usage) {
    return evaluate(codec, words, begin, count, sums, usage);
}

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

HWY_EXPORT(evaluate_q4_0);
HWY_EXPORT(evaluate_q5_0);
HWY_EXPORT(evaluate_q8_0);
HWY_EXPORT(evaluate_symmetric);

std::size_t evaluate_q4_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return HWY_DYNAMIC_DISPATCH(evaluate_q4_0)(words, begin, count, sums, usage);
}
std::size_t evaluate_q5_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return HWY_DYNAMIC_DISPATCH(evaluate_q5_0)(words, begin, count, sums, usage);
}
std::size_t evaluate_q8_0(const std::uint16_t* words, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) {
    return HWY_DYNAMIC_DISPATCH(evaluate_q8_0)(words, begin, count, sums, usage);
}
std::size_t evaluate_symmetric(const SymmetricIntCodec& codec, const std::uint16_t* words, std::uint64_t begin,
                               std::size_t count, ErrorSums& sums, std::uint64_t* usage) {
    return HWY_DYNAMIC_DISPATCH(evaluate_symmetric)(codec, words, begin, count, sums, usage);
}

} // namespace qs::simd
#endif
