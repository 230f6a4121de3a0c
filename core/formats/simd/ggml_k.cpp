#include "core/formats/ggml_k.h"

#include <algorithm>

#include "core/formats/simd/blocks.h"
#include "core/formats/simd/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/ggml_k.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/formats/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {

#if HWY_MAX_BYTES >= 32

/// Groups of `lanes` sub-blocks whose searches run side by side, so that one's waiting is another's work.
template <std::size_t sub, std::size_t groups>
struct Searched {
    /// The weights, transposed: x[group][i·lanes + lane].
    HWY_ALIGN float x[groups][sub * lanes];
    HWY_ALIGN float scale[groups * lanes];
    HWY_ALIGN float min[groups * lanes];
    /// Whether the lane's numbers stayed in the range where its result is the scalar codec's.
    HWY_ALIGN float safe[groups * lanes];

    void load(const float* weights) {
        for (std::size_t g = 0; g < groups; ++g)
            transpose(weights + g * lanes * sub, sub, sub, x[g]);
    }
};

/// `search_affine` of each lane. Weights are |x| where errors count by their magnitude, else √(mean x²) + |x|.
template <std::size_t sub, std::size_t groups, bool absolute>
HWY_NOINLINE void search_affine_lanes(Searched<sub, groups>& s, float nmax, const AffineTrials& trials) {
    HWY_ALIGN float weight[groups][sub * lanes];
    HWY_ALIGN float tried[groups][sub * lanes];
    VF min[groups], range[groups], sum_w[groups], sum_x[groups], best[groups], scale[groups], reach[groups];
    MF safe[groups], flat[groups];
    VF max[groups];
    const VF last = constant(nmax);

    for (std::size_t g = 0; g < groups; ++g) {
        VF average = zero();
        if constexpr (!absolute) {
            VF squares = zero();
            for (std::size_t i = 0; i < sub; ++i) {
                const VF x = load(s.x[g] + i * lanes);
                squares = hn::Add(squares, hn::Mul(x, x));
            }
            average = hn::Sqrt(hn::Div(squares, constant(static_cast<float>(sub))));
        }
        VF magnitude = zero();
        for (std::size_t i = 0; i < sub; ++i) {
            const VF x = load(s.x[g] + i * lanes), size = hn::Abs(x);
            const VF w = absolute ? size : hn::Add(average, size);
            store(w, weight[g] + i * lanes);
            magnitude = hn::Max(magnitude, size);
            min[g] = i == 0 ? x : hn::Min(min[g], x);
            max[g] = i == 0 ? x : hn::Max(max[g], x);
            sum_w[g] = i == 0 ? w : hn::Add(sum_w[g], w);
            sum_x[g] = i == 0 ? hn::Mul(w, x) : hn::Add(sum_x[g], hn::Mul(w, x));
        }
        min[g] = hn::Min(min[g], zero());
        flat[g] = hn::Le(max[g], min[g]);
        safe[g] = safe_magnitude(magnitude);
        reach[g] = magnitude;
        // What is flat is not searched; any range will do.
        range[g] = select(flat[g], constant(1), hn::Sub(max[g], min[g]));
    }

    const auto try_inverse = [&](std::size_t g, VF inverse, std::size_t i) {
        const VF x = load(s.x[g] + i * lanes);
        const VF l = clamp_to(hn::Round(hn::Mul(inverse, hn::Sub(x, min[g]))), zero(), last);
        store(l, tried[g] + i * lanes);
        return l;
    };
    // No product of `inverse` and a weight less the minimum is larger than this.
    const auto stays_exact = [&](std::size_t g, VF inverse) {
        return hn::Lt(hn::Mul(hn::Abs(inverse), hn::Sub(reach[g], min[g])), constant(largest_rounded));
    };
    const auto add_error = [&](std::size_t g, VF by, VF low, std::size_t i, VF sum) {
        const VF l = load(tried[g] + i * lanes), x = load(s.x[g] + i * lanes), w = load(weight[g] + i * lanes);
        const VF difference = hn::Sub(hn::Add(hn::Mul(by, l), low), x);
        return hn::Add(sum, hn::Mul(w, absolute ? hn::Abs(difference) : hn::Mul(difference, difference)));
    };

    for (std::size_t g = 0; g < groups; ++g) {
        const VF inverse = hn::Div(last, range[g]);
        safe[g] = hn::And(safe[g], stays_exact(g, inverse));
        scale[g] = hn::Div(constant(1), inverse);
        VF error = zero();
        for (std::size_t i = 0; i < sub; ++i) {
            try_inverse(g, inverse, i);
            error = add_error(g, scale[g], min[g], i, error);
        }
        best[g] = error;
    }

    for (int trial = 0; trial <= trials.steps; ++trial) {
        const VF numerator = constant(trials.first + trials.step * static_cast<float>(trial) + nmax);
        VF inverse[groups], sum_l[groups], sum_l2[groups], sum_xl[groups];
        for (std::size_t g = 0; g < groups; ++g) {
            inverse[g] = hn::Div(numerator, range[g]);
            safe[g] = hn::And(safe[g], stays_exact(g, inverse[g]));
            sum_l[g] = sum_l2[g] = sum_xl[g] = zero();
        }
        for (std::size_t i = 0; i < sub; ++i)
            for (std::size_t g = 0; g < groups; ++g) {
                const VF l = try_inverse(g, inverse[g], i);
                const VF wl = hn::Mul(load(weight[g] + i * lanes), l);
                sum_l[g] = hn::Add(sum_l[g], wl);
                sum_l2[g] = hn::Add(sum_l2[g], hn::Mul(wl, l));
                sum_xl[g] = hn::Add(sum_xl[g], hn::Mul(wl, load(s.x[g] + i * lanes)));
            }
        VF new_scale[groups], new_min[groups], error[groups];
        MF solvable[groups];
        for (std::size_t g = 0; g < groups; ++g) {
            const VF determinant = hn::Sub(hn::Mul(sum_w[g], sum_l2[g]), hn::Mul(sum_l[g], sum_l[g]));
            solvable[g] = hn::Gt(determinant, zero());
            const VF fitted = hn::Div(hn::Sub(hn::Mul(sum_w[g], sum_xl[g]), hn::Mul(sum_x[g], sum_l[g])), determinant);
            const VF low = hn::Div(hn::Sub(hn::Mul(sum_l2[g], sum_x[g]), hn::Mul(sum_l[g], sum_xl[g])), determinant);
            const MF above = hn::Gt(low, zero());
            new_scale[g] = select(above, hn::Div(sum_xl[g], sum_l2[g]), fitted);
            new_min[g] = select(above, zero(), low);
            error[g] = zero();
        }
        for (std::size_t i = 0; i < sub; ++i)
            for (std::size_t g = 0; g < groups; ++g)
                error[g] = add_error(g, new_scale[g], new_min[g], i, error[g]);
        for (std::size_t g = 0; g < groups; ++g) {
            const MF better = hn::And(solvable[g], hn::Lt(error[g], best[g]));
            best[g] = select(better, error[g], best[g]);
            scale[g] = select(better, new_scale[g], scale[g]);
            min[g] = select(better, new_min[g], min[g]);
            range[g] = select(flat[g], range[g], hn::Sub(max[g], min[g]));
        }
    }

    for (std::size_t g = 0; g < groups; ++g) {
        // A flat sub-block has only its first minimum.
        store(select(flat[g], zero(), scale[g]), s.scale + g * lanes);
        store(hn::Neg(select(flat[g], hn::Min(max[g], zero()), min[g])), s.min + g * lanes);
        store(select(safe[g], constant(1), zero()), s.safe + g * lanes);
    }
}

/// `search_symmetric` of each lane with weights x².
template <std::size_t sub, std::size_t groups>
HWY_NOINLINE void search_symmetric_lanes(Searched<sub, groups>& s, float nmax) {
    HWY_ALIGN float weight[groups][sub * lanes];
    HWY_ALIGN float cubes[groups][sub * lanes];
    VF largest[groups], scale[groups], best[groups];
    for (std::size_t g = 0; g < groups; ++g) {
        largest[g] = signed_largest_of<sub>(s.x[g]);
        for (std::size_t i = 0; i < sub; ++i) {
            const VF x = load(s.x[g] + i * lanes), w = hn::Mul(x, x);
            store(w, weight[g] + i * lanes);
            store(hn::Mul(w, x), cubes[g] + i * lanes);
        }
        store(select(safe_magnitude(largest[g]), constant(1), zero()), s.safe + g * lanes);
    }
    const VF low = constant(-nmax), high = constant(nmax - 1);
    for (int trial = 0; trial < 19; ++trial) {
        const int step = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
        const VF numerator = constant(step == 0 ? -nmax : -(nmax + 0.1F * static_cast<float>(step)));
        VF inverse[groups], sum_lx[groups], sum_l2[groups];
        for (std::size_t g = 0; g < groups; ++g) {
            inverse[g] = hn::Div(numerator, largest[g]);
            sum_lx[g] = sum_l2[g] = zero();
        }
        for (std::size_t i = 0; i < sub; ++i)
            for (std::size_t g = 0; g < groups; ++g) {
                const VF l = clamp_to(hn::Round(hn::Mul(inverse[g], load(s.x[g] + i * lanes))), low, high);
                sum_lx[g] = hn::Add(sum_lx[g], hn::Mul(load(cubes[g] + i * lanes), l));
                sum_l2[g] = hn::Add(sum_l2[g], hn::Mul(hn::Mul(load(weight[g] + i * lanes), l), l));
            }
        for (std::size_t g = 0; g < groups; ++g) {
            const VF fitted = hn::Div(sum_lx[g], sum_l2[g]);
            if (trial == 0) {
                scale[g] = select(hn::Eq(sum_l2[g], zero()), zero(), fitted);
                best[g] = hn::Mul(scale[g], sum_lx[g]);
                continue;
            }
            const MF better =
                hn::And(hn::Gt(sum_l2[g], zero()), hn::Gt(hn::Mul(sum_lx[g], sum_lx[g]), hn::Mul(best[g], sum_l2[g])));
            scale[g] = select(better, fitted, scale[g]);
            best[g] = select(better, hn::Mul(fitted, sum_lx[g]), best[g]);
        }
    }
    for (std::size_t g = 0; g < groups; ++g)
        store(select(hn::Eq(largest[g], zero()), zero(), scale[g]), s.scale + g * lanes);
}

/// `search_by_coordinate` of each lane.
template <std::size_t sub, std::size_t groups>
HWY_NOINLINE void search_by_coordinate_lanes(Searched<sub, groups>& s, float nmax) {
    HWY_ALIGN float weight[groups][sub * lanes];
    HWY_ALIGN float cubes[groups][sub * lanes];
    HWY_ALIGN float code[groups][sub * lanes];
    VF largest[groups], sum_lx[groups], sum_l2[groups], farthest[groups];
    const VF low = constant(-nmax), high = constant(nmax - 1);
    for (std::size_t g = 0; g < groups; ++g) {
        largest[g] = signed_largest_of<sub>(s.x[g]);
        const VF inverse = hn::Div(low, largest[g]);
        sum_lx[g] = sum_l2[g] = farthest[g] = zero();
        for (std::size_t i = 0; i < sub; ++i) {
            const VF x = load(s.x[g] + i * lanes), w = hn::Mul(x, x), wx = hn::Mul(w, x);
            const VF l = clamp_to(hn::Round(hn::Mul(inverse, x)), low, high);
            store(w, weight[g] + i * lanes);
            store(wx, cubes[g] + i * lanes);
            store(l, code[g] + i * lanes);
            sum_lx[g] = hn::Add(sum_lx[g], hn::Mul(wx, l));
            sum_l2[g] = hn::Add(sum_l2[g], hn::Mul(hn::Mul(w, l), l));
        }
    }
    bool changed = true;
    for (int pass = 0; pass < 5 && changed; ++pass) {
        MF changes = hn::Lt(zero(), zero());
        for (std::size_t i = 0; i < sub; ++i)
            for (std::size_t g = 0; g < groups; ++g) {
                const VF x = load(s.x[g] + i * lanes), w = load(weight[g] + i * lanes), wx = load(cubes[g] + i * lanes);
                const VF l = load(code[g] + i * lanes);
                VF lx = hn::Sub(sum_lx[g], hn::Mul(wx, l));
                VF l2 = hn::Sub(sum_l2[g], hn::Mul(hn::Mul(w, l), l));
                const MF positive = hn::Gt(lx, zero());
                const VF exact = hn::Div(hn::Mul(x, l2), lx);
                farthest[g] = hn::Max(farthest[g], hn::IfThenElseZero(positive, hn::Abs(exact)));
                const VF next = clamp_to(hn::Round(exact), low, high);
                lx = hn::Add(lx, hn::Mul(wx, next));
                l2 = hn::Add(l2, hn::Mul(hn::Mul(w, next), next));
                const MF gains =
                    hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2[g]), hn::Mul(hn::Mul(sum_lx[g], sum_lx[g]), l2));
                const MF moves = hn::And(hn::And(positive, hn::Ne(next, l)), hn::And(hn::Gt(l2, zero()), gains));
                store(select(moves, next, l), code[g] + i * lanes);
                sum_lx[g] = select(moves, lx, sum_lx[g]);
                sum_l2[g] = select(moves, l2, sum_l2[g]);
                changes = hn::Or(changes, moves);
            }
        changed = !hn::AllFalse(F32(), changes);
    }
    for (std::size_t g = 0; g < groups; ++g) {
        const MF some = hn::And(hn::Ne(largest[g], zero()), hn::Gt(sum_l2[g], zero()));
        store(hn::IfThenElseZero(some, hn::Div(sum_lx[g], sum_l2[g])), s.scale + g * lanes);
        const MF exact = hn::Lt(farthest[g], constant(largest_rounded));
        store(select(hn::And(exact, safe_magnitude(largest[g])), constant(1), zero()), s.safe + g * lanes);
    }
}

/// Codes nearest to (x + m) / d, between 0 and nmax.
template <std::size_t sub>
HWY_INLINE void affine_codes_of(const float* x, float d, float m, float nmax, std::uint8_t* codes) {
    for (std::size_t i = 0; i < sub; i += lanes) {
        const VF exact = hn::Div(hn::Add(load_unaligned(x + i), constant(m)), constant(d));
        store_codes(clamp_to(exact, zero(), constant(nmax)), codes + i);
    }
}

/// Codes nearest to x / d, between −nmax and nmax − 1, counted from 0.
template <std::size_t sub>
HWY_INLINE void symmetric_codes_of(const float* x, float d, float nmax, std::uint8_t* codes) {
    for (std::size_t i = 0; i < sub; i += lanes) {
        const VF exact = hn::Div(load_unaligned(x + i), constant(d));
        const VF l = hn::Round(clamp_to(exact, constant(-nmax), constant(nmax - 1)));
        store_codes(hn::Add(l, constant(nmax)), codes + i);
    }
}

/// Whether a weight over a scale may be rounded as the scalar codec does: no scale vanishes (such a sub-block would
/// keep the codes of the search) or is so small that quotients leave the range of ggml_nearest.
HWY_INLINE bool divides(float d, float reach) {
    return std::abs(d) * (largest_rounded / 2) > reach;
}

HWY_INLINE float magnitude_of(const float* x, std::size_t count) {
    VF largest = zero();
    for (std::size_t i = 0; i < count; i += lanes)
        largest = hn::Max(largest, hn::Abs(load_unaligned(x + i)));
    return hn::GetLane(hn::MaxOfLanes(F32(), largest));
}

HWY_INLINE bool all_safe(const float* safe, std::size_t count) {
    bool all = true;
    for (std::size_t i = 0; i < count; ++i)
        all = all && safe[i] != 0;
    return all;
}

/// Goes over blocks, as many at once as `groups` groups of lanes hold; what is left over at the end, and each block
/// that a search was not safe for or that `finish` refuses, goes to the scalar codec.
template <class Codec, std::size_t groups, class Search, class Finish>
HWY_INLINE void encode_lanes(const float* weights, std::size_t blocks, std::uint8_t* out, Search search,
                             Finish finish) {
    constexpr std::size_t at_once = groups * lanes / Codec::subs;
    static_assert(at_once * Codec::subs == groups * lanes);
    Searched<Codec::sub, groups> searched;
    std::size_t block = 0;
    for (; block + at_once <= blocks; block += at_once) {
        searched.load(weights + block * Codec::block);
        search(searched);
        for (std::size_t i = 0; i < at_once; ++i) {
            const float* x = weights + (block + i) * Codec::block;
            std::uint8_t* bytes = out + (block + i) * Codec::bytes;
            const std::size_t first = i * Codec::subs;
            if (!all_safe(searched.safe + first, Codec::subs) ||
                !finish(x, searched.scale + first, searched.min + first, bytes))
                Codec::encode(x, BlockContext{}, bytes);
        }
    }
    for (; block < blocks; ++block)
        Codec::encode(weights + block * Codec::block, BlockContext{}, out + block * Codec::bytes);
}

template <int bits>
HWY_INLINE bool finish_q45(const float* x, const float* scales, const float* mins, std::uint8_t* out) {
    using Codec = Q45_K<bits>;
    Codec::put_scales(scales, mins, out);
    std::uint8_t codes[super_block];
    for (std::uint32_t j = 0; j < Codec::subs; ++j) {
        const float* from = x + Codec::sub * j;
        const float d = Codec::scale(out, j), m = Codec::min(out, j);
        if (!divides(d, magnitude_of(from, Codec::sub) + m))
            return false;
        affine_codes_of<Codec::sub>(from, d, m, Codec::nmax, codes + Codec::sub * j);
    }
    Codec::put_codes(codes, out);
    return true;
}

void encode_q4_K(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_lanes<Q4_K, 2>(
        weights, blocks, out, [](auto& s) { search_affine_lanes<32, 2, false>(s, 15, Q4_K::trials()); }, finish_q45<4>);
}
void encode_q5_K(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_lanes<Q5_K, 2>(
        weights, blocks, out, [](auto& s) { search_affine_lanes<32, 2, false>(s, 31, Q5_K::trials()); }, finish_q45<5>);
}

void encode_q2_K(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_lanes<Q2_K, 2>(
        weights, blocks, out, [](auto& s) { search_affine_lanes<16, 2, true>(s, 3, Q2_K::trials()); },
        [](const float* x, const float* scales, const float* mins, std::uint8_t* bytes) {
            Q2_K::put_scales(scales, mins, bytes);
            std::uint8_t codes[super_block];
            for (std::uint32_t j = 0; j < Q2_K::subs; ++j) {
                const float* from = x + Q2_K::sub * j;
                const float d = Q2_K::scale(bytes, j), m = Q2_K::min(bytes, j);
                if (!divides(d, magnitude_of(from, Q2_K::sub) + m))
                    return false;
                affine_codes_of<Q2_K::sub>(from, d, m, 3, codes + Q2_K::sub * j);
            }
            Q2_K::put_codes(codes, bytes);
            return true;
        });
}

/// q3_K and q6_K: symmetric codes.
template <class Codec>
HWY_INLINE bool finish_symmetric(const float* x, float nmax, std::uint8_t* bytes) {
    std::uint8_t codes[super_block];
    for (std::uint32_t j = 0; j < Codec::subs; ++j) {
        const float* from = x + Codec::sub * j;
        const float d = Codec::scale(bytes, j);
        if (!divides(d, magnitude_of(from, Codec::sub)))
            return false;
        symmetric_codes_of<Codec::sub>(from, d, nmax, codes + Codec::sub * j);
    }
    Codec::put_codes(codes, bytes);
    return true;
}

void encode_q3_K(const float* weights, std::size_t blocks, std::uint8_t* out) {
    constexpr std::size_t groups = 4;
    encode_lanes<Q3_K, groups>(
        weights, blocks, out, [](auto& s) { search_by_coordinate_lanes<16, groups>(s, 4); },
        [](const float* x, const float* scales, const float*, std::uint8_t* bytes) {
            Q3_K::put_scales(scales, bytes);
            return finish_symmetric<Q3_K>(x, 4, bytes);
        });
}

void encode_q6_K(const float* weights, std::size_t blocks, std::uint8_t* out) {
    encode_lanes<Q6_K, 2>(
        weights, blocks, out, [](auto& s) { search_symmetric_lanes<16, 2>(s, 32); },
        [](const float* x, const float* scales, const float*, std::uint8_t* bytes) {
            return !Q6_K::put_scales(scales, bytes) || finish_symmetric<Q6_K>(x, 32, bytes);
        });
}

#else

QUANTOSCOPE_SCALAR_ENCODER(encode_q2_K, Q2_K)
QUANTOSCOPE_SCALAR_ENCODER(encode_q3_K, Q3_K)
QUANTOSCOPE_SCALAR_ENCODER(encode_q4_K, Q4_K)
QUANTOSCOPE_SCALAR_ENCODER(encode_q5_K, Q5_K)
QUANTOSCOPE_SCALAR_ENCODER(encode_q6_K, Q6_K)

#endif

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

QUANTOSCOPE_DISPATCH_ENCODER(encode_q2_K)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q3_K)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q4_K)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q5_K)
QUANTOSCOPE_DISPATCH_ENCODER(encode_q6_K)

} // namespace qs::simd
#endif
