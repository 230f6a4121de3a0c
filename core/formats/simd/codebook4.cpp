#include "core/formats/simd/codebook4.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/base/half.h"
#include "core/formats/bitsandbytes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/formats/simd/codebook4.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "core/formats/simd/words-inl.h"

// One definition for all targets.
#ifndef QUANTOSCOPE_CODEBOOK4_TABLES
#define QUANTOSCOPE_CODEBOOK4_TABLES
namespace qs::simd {

/// The codebook as a table over 32 cells of the axis: nearest integer of 15·x, taken modulo 32, so that negative x uses
/// the upper half. No cell holds more than one decision threshold: below or at it the code is `code`, above it
/// `code` + 1 (in the order of `level`).
struct CellTable {
    alignas(64) std::array<float, 32> threshold;
    alignas(64) std::array<std::uint32_t, 32> rank;
    alignas(64) std::array<float, 16> level; ///< by rank
    std::array<std::uint8_t, 16> code;       ///< by rank
    float largest_error;                     ///< of any |x| ≤ 1
    bool of_magnitude;                       ///< the axis is |x|; the sign is bit 3 of the code
};

/// Pairs of vectors whose terms are added in float32 before they go to float64: few for Σd², where rounding errors are
/// not small beside the sum; more for Σd and Σwd, where they are.
inline constexpr std::size_t widen_squares_after = 8, widen_rest_after = 32;
/// Both for blocks other than 64: long blocks share few scales, so that rounding errors repeat.
inline constexpr std::size_t widen_after_of_any = 2;
/// Keeps the largest error and where it is. Few blocks can hold a new one, and those are searched with the arithmetic
/// of the scalar codec.
class MaxError {
public:
    MaxError(const CellTable& table, std::uint64_t begin, ErrorSums& sums)
        : table_(table), begin_(begin), sums_(sums) {}

    /// No error in a block exceeds its scale times this, and what its decoding scale differs by.
    float of_scale() const { return table_.largest_error; }
    float bound(float absmax, float decoded_with) const {
        return absmax * of_scale() + std::abs(absmax - decoded_with);
    }
    /// Errors up to about this are not new; a little less than the largest so far.
    float least_new() const { return static_cast<float>(sums_.max_abs * (1 - 1e-6)); }

    /// The block of `count` weights that starts `offset` after begin.
    void search(const std::uint16_t* weights, std::size_t offset, std::size_t count, float absmax, float decoded_with);

private:
    const CellTable& table_;
    std::uint64_t begin_;
    ErrorSums& sums_;
};

} // namespace qs::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace qs::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32

/// A table of 32 entries of four bytes, looked up by the low five bits of each lane.
class Table32 {
public:
    explicit Table32(const float* entries) {
        const F32 f;
        for (std::size_t i = 0; i < parts; ++i)
            part_[i] = hn::Load(f, entries + i * hn::Lanes(f));
    }

    VF operator()(VI index) const {
#if HWY_TARGET <= HWY_AVX3
        return VF{_mm512_permutex2var_ps(part_[0].raw, index.raw, part_[1].raw)};
#else
        const F32 f;
        const I32 i;
        const auto low = hn::IndicesFromVec(f, hn::And(index, hn::Set(i, 7)));
        const auto bit3 = hn::RebindMask(f, hn::TestBit(index, hn::Set(i, 8)));
        const auto bit4 = hn::RebindMask(f, hn::TestBit(index, hn::Set(i, 16)));
        const VF lower = hn::IfThenElse(bit3, hn::TableLookupLanes(part_[1], low), hn::TableLookupLanes(part_[0], low));
        const VF upper = hn::IfThenElse(bit3, hn::TableLookupLanes(part_[3], low), hn::TableLookupLanes(part_[2], low));
        return hn::IfThenElse(bit4, upper, lower);
#endif
    }

private:
    static constexpr std::size_t parts = 32 / (HWY_MAX_BYTES >= 64 ? 16 : 8);
    VF part_[parts];
};

/// A table of 16 entries, looked up by the low four bits of each lane.
class Table16 {
public:
    explicit Table16(const float* entries) {
        const F32 f;
        for (std::size_t i = 0; i < parts; ++i)
            part_[i] = hn::Load(f, entries + i * hn::Lanes(f));
    }

    Table16 times(VF factor) const {
        Table16 product = *this;
        for (VF& part : product.part_)
            part = hn::Mul(part, factor);
        return product;
    }

    VF operator()(VI index) const {
#if HWY_TARGET <= HWY_AVX3
        return VF{_mm512_permutexvar_ps(index.raw, part_[0].raw)};
#else
        const F32 f;
        const I32 i;
        const auto low = hn::IndicesFromVec(f, hn::And(index, hn::Set(i, 7)));
        const auto bit3 = hn::RebindMask(f, hn::TestBit(index, hn::Set(i, 8)));
        return hn::IfThenElse(bit3, hn::TableLookupLanes(part_[1], low), hn::TableLookupLanes(part_[0], low));
#endif
    }

private:
    static constexpr std::size_t parts = HWY_MAX_BYTES >= 64 ? 1 : 2;
    VF part_[parts];
};

/// Encoder and decoder of one codebook for a vector of weights.
template <bool of_magnitude>
class Codec {
public:
    explicit Codec(const CellTable& table)
        : threshold_(table.threshold.data()), rank_(reinterpret_cast<const float*>(table.rank.data())),
          level_(table.level.data()) {}

    /// The rank of each weight's code; `scale` is 1/absmax, `cells` fifteen times that.
    VI encode(VF w, VF scale, VF cells) const {
        const F32 f;
        const I32 i;
        const VF x = hn::Mul(w, scale);
        const VF axis = of_magnitude ? hn::Abs(x) : x;
        // Adding 1.5·2²³ leaves the nearest integer in the low bits of the float. The weight itself is multiplied, so
        // that the cell need not wait for x.
        const VI cell = hn::BitCast(i, hn::MulAdd(of_magnitude ? hn::Abs(w) : w, cells, hn::Set(f, 12582912.0F)));
        const VI below = hn::BitCast(i, rank_(cell));
        const auto above = hn::Gt(axis, threshold_(cell));
#if HWY_TARGET <= HWY_AVX3
        const VI rank{_mm512_mask_add_epi32(below.raw, above.raw, below.raw, hn::Set(i, 1).raw)};
#else
        const VI rank = hn::Sub(below, hn::VecFromMask(i, hn::RebindMask(i, above)));
#endif
        if constexpr (of_magnitude)
            return hn::IfThenElse(hn::RebindMask(i, hn::Lt(x, hn::Zero(f))), hn::Or(rank, hn::Set(i, 8)), rank);
        return rank;
    }

    /// What the ranks of a block stand for: the levels times its absmax.
    Table16 decoder(VF absmax) const {
        return level_.times(absmax);
    }

private:
    Table32 threshold_, rank_;
    Table16 level_;
};

/// About the largest |w − v| of a block.
template <bool of_magnitude>
float largest_error(const Codec<of_magnitude>& codec, const std::uint16_t* weights, std::size_t block, VF scale,
                    const Table16& decoder) {
    const F32 f;
    const VF cells = hn::Mul(scale, hn::Set(f, 15.0F));
    VF largest = hn::Zero(f);
    for (std::size_t i = 0; i < block; i += 2 * hn::Lanes(f)) {
        const Pair pair = load_pair(weights + i);
        for (const VF w : {pair.even, pair.odd})
            largest = hn::Max(largest, hn::Abs(hn::Sub(decoder(codec.encode(w, scale, cells)), w)));
    }
    return hn::GetLane(hn::MaxOfLanes(f, largest));
}

inline constexpr std::size_t group = 16;

/// Sixteen blocks, or fewer at the end and before one that is not finite.
struct Group {
    std::array<float, group> absmax, reciprocal, cells, decoded_with;
    std::size_t blocks = 0;
};

/// The absmax of a block, and a prefetch of what comes some blocks later.
float read_absmax(const std::uint16_t* weights, std::size_t block) {
    hwy::Prefetch(weights + prefetch_ahead);
    hwy::Prefetch(weights + prefetch_ahead + 32);
    return absmax(weights, block);
}

/// From the absmax of `blocks` blocks to their scales; ends before a block that is not taken.
void finish_scales(Group& g, std::size_t blocks, const float* decode_absmax) {
    const F32 f;
    for (g.blocks = 0; g.blocks < blocks; ++g.blocks) {
        const float largest = g.absmax[g.blocks];
        const float decoded_with = decode_absmax == nullptr ? largest : decode_absmax[g.blocks];
        const bool in_range = largest == 0 || (largest >= smallest_scale && largest <= largest_scale);
        if (!in_range || !(std::abs(decoded_with) <= largest_scale))
            break;
        g.decoded_with[g.blocks] = decoded_with;
    }
    for (std::size_t i = g.blocks; i < group; ++i)
        g.absmax[i] = g.decoded_with[i] = 0;
    for (std::size_t i = 0; i < group; i += hn::Lanes(f)) {
        const VF least = hn::Max(hn::LoadU(f, &g.absmax[i]), hn::Set(f, 1e-38F));
        const VF reciprocal = hn::Div(hn::Set(f, 1.0F), least);
        hn::StoreU(reciprocal, f, &g.reciprocal[i]);
        hn::StoreU(hn::Mul(reciprocal, hn::Set(f, 15.0F)), f, &g.cells[i]);
    }
}

/// Looks for a new largest error in the blocks of a group.
template <bool of_magnitude>
void find_max_error(const Codec<of_magnitude>& codec, const std::uint16_t* weights, std::size_t offset,
                    std::size_t block, const Group& g, MaxError& max_error) {
    const F32 f;
    VF bound = hn::Zero(f);
    for (std::size_t i = 0; i < group; i += hn::Lanes(f)) {
        const VF scale = hn::LoadU(f, &g.absmax[i]), back = hn::LoadU(f, &g.decoded_with[i]);
        bound = hn::Max(bound, hn::MulAdd(scale, hn::Set(f, max_error.of_scale()), hn::Abs(hn::Sub(scale, back))));
    }
    if (hn::AllFalse(f, hn::Gt(bound, hn::Set(f, max_error.least_new()))))
        return;
    for (std::size_t b = 0; b < g.blocks; ++b) {
        const std::uint16_t* start = weights + b * block;
        const Table16 decoder = codec.decoder(hn::Set(f, g.decoded_with[b]));
        if (max_error.bound(g.absmax[b], g.decoded_with[b]) > max_error.least_new() &&
            largest_error(codec, start, block, hn::Set(f, g.reciprocal[b]), decoder) > max_error.least_new())
            max_error.search(start, offset + b * block, block, g.absmax[b], g.decoded_with[b]);
    }
}

/// Works on groups of blocks: first the absmax of each, then the blocks, so that no block waits for its own maximum.
/// `fixed` is the block where the compiler shall know it, else 0.
template <bool of_magnitude, bool count_usage, std::size_t fixed>
std::size_t evaluate(const CellTable& table, const std::uint16_t* weights, std::size_t count, std::size_t any_block,
                     const float* decode_absmax, ErrorSums& sums, std::uint64_t* usage, MaxError& max_error) {
    const F32 f;
    const std::size_t block = fixed != 0 ? fixed : any_block;
    const Codec<of_magnitude> codec(table);
    Sums totals;
    NibbleCounts counted;
    // Three groups at a time: one is quantized, the scales of the next are ready before, the absmax of the one after it
    // is found among the codes: nothing waits for what it needs.
    Group groups[3];
    std::size_t blocks[3] = {std::min(group, count / block), 0, 0};
    blocks[1] = std::min(group, count / block - blocks[0]);
    for (std::size_t b = 0; b < blocks[0] + blocks[1]; ++b)
        groups[b / group].absmax[b % group] = read_absmax(weights + b * block, block);
    finish_scales(groups[0], blocks[0], decode_absmax);
    std::size_t done = 0, since_widen = 0;
    for (std::size_t turn = 0; done + block <= count; ++turn) {
        const std::size_t now = turn % 3, soon = (turn + 1) % 3, later = (turn + 2) % 3;
        const Group& g = groups[now];
        finish_scales(groups[soon], blocks[soon],
                      decode_absmax == nullptr ? nullptr : decode_absmax + done / block + blocks[now]);
        blocks[later] = std::min(group, (count - done) / block - blocks[now] - blocks[soon]);
        for (std::size_t b = 0; b < g.blocks; ++b) {
            const std::uint16_t* start = weights + done + b * block;
            if (b < blocks[later])
                groups[later].absmax[b] = read_absmax(start + 2 * group * block, block);
            const VF scale = hn::Set(f, g.reciprocal[b]), cells = hn::Set(f, g.cells[b]);
            const Table16 decoder = codec.decoder(hn::Set(f, g.decoded_with[b]));
            const auto take = [&](std::size_t i) HWY_ATTR {
                const Pair pair = load_pair(start + i);
                const VI even = codec.encode(pair.even, scale, cells), odd = codec.encode(pair.odd, scale, cells);
                totals.add(pair.even, decoder(even), 0);
                totals.add(pair.odd, decoder(odd), 1);
                if constexpr (count_usage) {
                    counted.add(even);
                    counted.add(odd);
                }
            };
            constexpr std::size_t at_once = 2 * hn::MaxLanes(F32());
            if constexpr (fixed != 0) {
#pragma GCC unroll 4
                for (std::size_t i = 0; i < fixed; i += at_once)
                    take(i);
                since_widen += fixed / at_once;
                if (since_widen % widen_squares_after == 0)
                    totals.widen_squares();
                if (since_widen % widen_rest_after == 0)
                    totals.widen_rest();
            } else {
                for (std::size_t i = 0; i < block; i += at_once) {
                    take(i);
                    if (++since_widen % widen_after_of_any == 0)
                        totals.widen_squares(), totals.widen_rest();
                }
            }
        }
        find_max_error(codec, weights + done, done, block, g, max_error);
        done += g.blocks * block;
        if (g.blocks < blocks[now])
            break;
    }
    totals.widen_squares();
    totals.widen_rest();
    totals.finish(sums);
    if constexpr (count_usage)
        for (std::size_t rank = 0; rank < 16; ++rank)
            usage[table.code[rank]] += counted.counts()[rank];
    return done;
}

template <bool of_magnitude>
std::size_t evaluate(const CellTable& table, const std::uint16_t* weights, std::size_t count, std::size_t block,
                     const float* decode_absmax, ErrorSums& sums, std::uint64_t* usage, MaxError& max_error) {
    const auto chosen = block == 64
                            ? (usage == nullptr ? evaluate<of_magnitude, false, 64> : evaluate<of_magnitude, true, 64>)
                            : (usage == nullptr ? evaluate<of_magnitude, false, 0> : evaluate<of_magnitude, true, 0>);
    return chosen(table, weights, count, block, decode_absmax, sums, usage, max_error);
}

#endif

/// See evaluate_codebook4.
std::size_t run(const CellTable& table, const std::uint16_t* weights, std::size_t count, std::size_t block,
                const float* decode_absmax, ErrorSums& sums, std::uint64_t* usage, MaxError& max_error) {
#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32
    const auto chosen = table.of_magnitude ? evaluate<true> : evaluate<false>;
    return chosen(table, weights, count, block, decode_absmax, sums, usage, max_error);
#else
    (void)table, (void)weights, (void)count, (void)block, (void)decode_absmax, (void)sums, (void)usage, (void)max_error;
    return 0;
#endif
}

} // namespace HWY_NAMESPACE
} // namespace qs::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs::simd {

HWY_EXPORT(run);

namespace {

constexpr std::size_t cells = 32;

/// The decision thresholds and levels of a codebook along its axis, ascending; fp4's axis is the magnitude.
struct Axis {
    std::vector<float> thresholds, levels;
    std::vector<std::uint8_t> codes;
    bool of_magnitude;
};

CellTable make_table(const Axis& axis) {
    CellTable table{};
    table.of_magnitude = axis.of_magnitude;
    for (int cell = axis.of_magnitude ? 0 : -15; cell <= 15; ++cell) {
        // A little wider than the cell, because the scale and its product are rounded before it is made an integer.
        const double low = (cell - 0.5) / 15 - 1e-6, high = (cell + 0.5) / 15 + 1e-6;
        const auto first = std::lower_bound(axis.thresholds.begin(), axis.thresholds.end(), low);
        const auto at = static_cast<std::size_t>(cell) % cells;
        table.rank[at] = static_cast<std::uint32_t>(first - axis.thresholds.begin());
        const bool inside = first != axis.thresholds.end() && *first <= high;
        table.threshold[at] = inside ? *first : std::numeric_limits<float>::infinity();
    }
    for (std::size_t i = 0; i < axis.levels.size(); ++i) {
        table.level[i] = axis.levels[i];
        table.code[i] = axis.codes[i];
        if (i > 0)
            table.largest_error = std::max({table.largest_error, axis.thresholds[i - 1] - axis.levels[i - 1],
                                            axis.levels[i] - axis.thresholds[i - 1]});
    }
    if (axis.of_magnitude)
        for (std::size_t i = 0; i < 8; ++i) {
            table.level[i + 8] = -table.level[i];
            table.code[i + 8] = table.code[i] | 8;
        }
    return table;
}

Axis nf4_axis() {
    Axis axis{{}, {}, {}, false};
    for (std::uint32_t code = 0; code < Nf4Codec::code_count; ++code) {
        axis.levels.push_back(Nf4Codec::level(code));
        axis.codes.push_back(static_cast<std::uint8_t>(code));
        if (code > 0)
            axis.thresholds.push_back(Nf4Codec::threshold(code - 1));
    }
    return axis;
}

Axis fp4_axis() {
    Axis axis{{}, {}, {}, true};
    for (std::uint32_t rank = 0; rank < Fp4Codec::code_count / 2; ++rank) {
        axis.levels.push_back(Fp4Codec::magnitude(rank));
        axis.codes.push_back(static_cast<std::uint8_t>(Fp4Codec::code_of_rank(rank)));
        if (rank > 0)
            axis.thresholds.push_back(Fp4Codec::threshold(rank - 1));
    }
    return axis;
}

const CellTable& table_of(Codebook4 codebook) {
    static const CellTable nf4 = make_table(nf4_axis()), fp4 = make_table(fp4_axis());
    return codebook == Codebook4::nf4 ? nf4 : fp4;
}

} // namespace

void MaxError::search(const std::uint16_t* weights, std::size_t offset, std::size_t count, float absmax,
                      float decoded_with) {
    const float scale = 1.0F / std::max(absmax, 1e-38F);
    for (std::size_t i = 0; i < count; ++i) {
        const float w = bf16_to_float(weights[i]), x = w * scale;
        const float axis = table_.of_magnitude ? std::abs(x) : x;
        const auto cell = static_cast<std::size_t>(static_cast<long>(std::nearbyint(axis * 15.0F))) % cells;
        std::size_t rank = table_.rank[cell] + (axis > table_.threshold[cell]);
        rank |= table_.of_magnitude && x < 0 ? 8 : 0;
        const float v = table_.level[rank] * decoded_with;
        const double error = std::abs(static_cast<double>(w) - static_cast<double>(v));
        if (error > sums_.max_abs) {
            sums_.max_abs = error;
            sums_.max_index = begin_ + offset + i;
        }
    }
}

std::size_t evaluate_codebook4(Codebook4 codebook, const std::uint16_t* weights, std::uint64_t begin, std::size_t count,
                               std::size_t block, const float* decode_absmax, ErrorSums& sums, std::uint64_t* usage) {
    const CellTable& table = table_of(codebook);
    MaxError max_error(table, begin, sums);
    const std::size_t done =
        HWY_DYNAMIC_DISPATCH(run)(table, weights, count, block, decode_absmax, sums, usage, max_error);
    sums.count += done;
    return done;
}

} // namespace qs::simd
#endif
