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
