#pragma once

#include <optional>
#include <vector>

#include "core/base/job.h"
#include "core/device/device.h"

namespace qs {

/// The codebook of a format on the real weights of a tensor: what the Bins view draws.
struct BinsReport {
    FormatSpec spec;                  ///< the effective one
    Codebook codebook;                ///< levels at unit scale, sorted by value
    std::vector<std::uint64_t> usage; ///< per level, in the order of codebook.levels
    std::vector<double> error;        ///< Σ(w−v)² per level, same order
    Histogram positions;              ///< density of w / scale over the codebook's axis
    double entropy = 0;               ///< bits
    double bits_per_weight = 0;
    std::size_t levels_used = 0;
};

/// Measures the bins of one tensor; nullopt where the format has no codebook of at most 256 levels.
std::optional<BinsReport> measure_bins(const TensorView& tensor, const FormatSpec& spec, JobControl& job);

/// One weight of a block and the level it took.
struct BlockWeight {
    float weight;
    std::size_t level; ///< index into the levels
};

/// The levels of one block, or of a sub-block with a scale of its own, and its weights on them.
struct BlockBins {
    LevelBlock block;
    std::uint64_t blocks = 0; ///< how many such the tensor has
    /// Of these weights alone: levels, boundaries (halfway between the levels) and positions in the unit of the
    /// weights.
    BinsReport bins;
    std::vector<BlockWeight> weights; ///< in their order; empty where they are more than most_listed_weights
    /// The distance of the levels where it is the same between all: the scale. NaN where it is not, and where all
    /// levels are one.
    double step = 0;

    double lowest() const { return bins.codebook.levels.front().value; }
    double highest() const { return bins.codebook.levels.back().value; }
    /// Its share of all that is stored for the tensor: codes, scales, and what larger blocks share.
    double bits() const { return bins.bits_per_weight * static_cast<double>(block.count()); }
};
inline constexpr std::uint64_t most_listed_weights = 4096;

/// Measures the block of a format that holds `element` of the tensor; nullopt where the format has no codebook of at
/// most 256 levels.
std::optional<BlockBins> measure_block_bins(const TensorView& tensor, const FormatSpec& spec, std::uint64_t element,
                                            JobControl& job);

/// The blocks that measure_block_bins() tells apart, by number.
class BlockNumbers {
public:
    BlockNumbers(const FormatSpec& spec, const TensorShape& shape);

    std::uint64_t count() const;
    LevelBlock at(std::uint64_t element) const { return codec_->level_block(element); }
    /// The first element of block `index` < count().
    std::uint64_t first(std::uint64_t index) const;

private:
    std::unique_ptr<TensorCodec> codec_;
    std::uint64_t elements_;
};

/// What a codebook makes of a value on its axis.
struct Probe {
    std::size_t level; ///< index into codebook.levels
    std::uint32_t code;
    double value; ///< of the level
    double error; ///< value − position
};
Probe probe(const Codebook& codebook, double position);

/// The largest |w| of each scale block (`block` weights of the flattened tensor, or a row if 0), at most `limit`
/// values: neighbours are merged by maximum when there are more.
std::vector<float> block_absmax(const TensorView& tensor, std::size_t block, std::size_t limit, JobControl& job);

/// Quantiles of the weights against those of a normal distribution with their mean and std: `points` pairs
/// (normal quantile in σ, weight). Exact order statistics up to 1 Mi weights, an evenly strided sample beyond.
struct QuantilePoint {
    double normal;
    double weight;
};
std::vector<QuantilePoint> quantile_quantile(const TensorView& tensor, std::size_t points, JobControl& job);

} // namespace qs
