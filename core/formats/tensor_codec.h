#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/hd.h"

namespace qs {

/// A weight matrix's extent: `rows` output features of `columns` input features, row-major.
struct TensorShape {
    std::uint64_t rows = 0;
    std::uint64_t columns = 0;
    std::uint64_t matrices = 1; ///< that the rows are divided among, each with importances of its own: stacked experts
    std::uint64_t count() const { return rows * columns; }
    bool operator==(const TensorShape&) const = default;
};

/// One entry of a codebook: the code and the value it stands for at unit scale.
struct Level {
    std::uint32_t code;
    double value;
};

/// A format's levels at unit scale, sorted by value, with the decision boundaries between neighbours
/// (`boundaries[i]` separates levels i and i + 1; size levels − 1).
struct Codebook {
    std::vector<Level> levels;
    std::vector<double> boundaries;
};

/// A codebook of these levels in the order of their values (−0, which has the larger code, before +0), decided halfway.
Codebook halfway_codebook(std::vector<Level> levels);

/// What a format does with an importance matrix: one weight a column, by which squared errors count.
enum class Importance : std::uint8_t { unused, optional, required };

/// Weights [begin, end) of the flattened tensor that can take the same values: a block, or a sub-block of a block whose
/// parts have scales of their own. `index` counts them through the tensor.
struct LevelBlock {
    std::uint64_t index, begin, end;
    std::uint64_t count() const { return end - begin; }
    auto operator<=>(const LevelBlock&) const = default;
};

/// One array a format stores, named and typed as its reference names it ("weight.u8", "absmax.f32").
struct StoredArray {
    std::string name;
    std::vector<std::byte> bytes;
};

/// Sums over one tensor and one format, in float64, of w (weight) and v (reconstruction). A monoid: parts merge in
/// the order of the tensor. Pairs where w or v is not finite are left out and counted.
struct ErrorSums {
    std::uint64_t count = 0;     ///< pairs in the sums
    std::uint64_t nonfinite = 0; ///< pairs left out: NaN or Inf in w, or v overflowed
    double sum_w2 = 0;           ///< Σ w²
    double sum_v2 = 0;           ///< Σ v²
    double sum_d2 = 0;           ///< Σ (w − v)²
    double sum_d = 0;            ///< Σ (v − w), the bias times count
    double max_abs = 0;          ///< max |w − v|
    std::uint64_t max_index = 0; ///< flat element index of the first maximum

    QS_HD void merge(const ErrorSums& later) {
        count += later.count;
        nonfinite += later.nonfinite;
        sum_w2 += later.sum_w2;
        sum_v2 += later.sum_v2;
        sum_d2 += later.sum_d2;
        sum_d += later.sum_d;
        if (later.max_abs > max_abs) {
            max_abs = later.max_abs;
            max_index = later.max_index;
        }
    }
    /// Adds what a codec that leaves_w2() left out, given Σw² of all finite weights and the number of the others. False
    /// where that cannot be done: a reconstruction overflowed, so that not all weights are in the sums, or Σv² is so
    /// small beside Σw² that it is lost in its rounding. The tensor must then be measured without evaluate_bf16().
    bool complete(double all_w2, std::uint64_t nonfinite_weights);
};

/// Adds the errors of reconstructed weights; element i of the arrays is element `begin` + i of the tensor.
void add_errors(const float* weights, const float* decoded, std::uint64_t begin, std::size_t count, ErrorSums& sums);

/// Weights from which on a tensor is evaluated by its stored words (TensorCodec::evaluate_bf16): so many that rounding
/// errors of float32 parts cancel.
inline constexpr std::uint64_t word_forms_from = std::uint64_t{1} << 20;

/// How one format treats one tensor: the block codecs of the format bound to its parameters and the tensor's shape.
///
/// Work goes over ranges [begin, end) of the flattened tensor that start and end at cuts (see next_cut). Where
/// needs_scan() is true every range must first go through scan(), then finish_scan() once, before quantize().
/// All range functions are safe to call at the same time on disjoint ranges, and their results do not depend on how
/// the tensor was divided.
class TensorCodec {
public:
    virtual ~TensorCodec() = default;

    /// The smallest cut ≥ `element`: a place where no block, group or row scale is divided (count at the end).
    virtual std::uint64_t next_cut(std::uint64_t element) const = 0;

    virtual bool needs_scan() const { return false; }
    /// `weights` are the elements [begin, begin + count).
    virtual void scan(const float* weights, std::uint64_t begin, std::size_t count);
    virtual void finish_scan() {}

    /// Encodes and decodes a range; `codes` (one a weight) and `decoded` may each be null.
    virtual void quantize(const float* weights, std::uint64_t begin, std::size_t count, std::uint16_t* codes,
                          float* decoded) const = 0;

    /// Bytes that encode() writes for a range.
    virtual std::size_t encoded_bytes(std::uint64_t begin, std::size_t count) const = 0;
    /// What is stored of a range: the blocks of formats made of blocks; the scales and then the codes of the others, a
    /// code to one or two bytes.
    virtual void encode(const float* weights, std::uint64_t begin, std::size_t count, std::byte* out) const = 0;
    /// The reconstruction from what encode() wrote for the same range.
    virtual void decode(const std::byte* encoded, std::uint64_t begin, std::size_t count, float* out) const = 0;

    /// quantize() fused with the error sums and code usage (`usage[code]`, code_count() entries; may be null).
    /// The base version goes through quantize(); fast formats have their own, with the same results.
    virtual void evaluate(const float* weights, std::uint64_t begin, std::size_t count, ErrorSums& sums,
                          std::uint64_t* usage) const;

    /// A fast evaluate() over stored bfloat16 words, for the whole blocks from `begin` on: takes as many as it can and
    /// returns how many weights those are, 0 where the format has no such form for this tensor; what it leaves goes
    /// through evaluate(). The sums may be rounded otherwise than evaluate()'s, by less than 1e-9 of themselves.
    virtual std::size_t evaluate_bf16(const std::uint16_t* words, std::uint64_t begin, std::size_t count,
                                      ErrorSums& sums, std::uint64_t* usage) const;
    /// Whether evaluate_bf16() takes blocks of this tensor.
    virtual bool has_bf16_form() const { return false; }
    /// Whether evaluate_bf16() does not add Σw², which is the same in every format: nothing to sum_w2, and to sum_v2
    /// only what Σv² has more than Σw². Whoever knows Σw² of the tensor then calls ErrorSums::complete.
    virtual bool leaves_w2() const { return false; }

    /// Distinct codes, each below this number; 0 where codes are not counted (fp32, tf32).
    virtual std::size_t code_count() const = 0;

    /// All bits stored for the tensor: codes, scales, zero points, nested scales, padding. After the scan, if any.
    virtual double stored_bits() const = 0;

    /// The levels at unit scale, if the format has a codebook of at most 256.
    virtual std::optional<Codebook> codebook() const { return std::nullopt; }
    /// Where each weight of a range falls on the axis of codebook(): w divided by its block's scale.
    virtual void normalise(const float* weights, std::uint64_t begin, std::size_t count, float* position) const;

    /// The weights that share the levels of the one at `element`; all of them where there is no scale.
    virtual LevelBlock level_block(std::uint64_t element) const = 0;
    /// The values that a weight at `element` can be decoded to, in the order of codebook(): its levels with the scales
    /// of its block, all of whose weights must lie in the range. Empty without a codebook.
    virtual std::vector<Level> levels_at(const float* weights, std::uint64_t begin, std::size_t count,
                                         std::uint64_t element) const = 0;

    /// Everything the format stores for the tensor (all of it in `weights`), after the scan.
    virtual std::vector<StoredArray> store(const float* weights) const = 0;
};

} // namespace qs
