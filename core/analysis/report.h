#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/formats/format_spec.h"
#include "core/formats/tensor_codec.h"

namespace qs {

/// Moments and counts of a tensor's weights, float64 (PRODUCT.md section 4). NaN and Inf are counted and left out of
/// the rest. Moments are of the population: std = sqrt(Σ(w − mean)²/n).
struct Statistics {
    std::uint64_t count = 0; ///< all elements
    std::uint64_t zeros = 0;
    std::uint64_t nan = 0;
    std::uint64_t inf = 0;
    double min = 0, max = 0, mean = 0, std = 0, skewness = 0, excess_kurtosis = 0;
    std::uint64_t beyond_3_sigma = 0; ///< |w − mean| > 3 std
    std::uint64_t beyond_6_sigma = 0;

    double absmax() const { return max > -min ? max : -min; }
};

/// One format on one tensor.
struct FormatResult {
    FormatSpec spec;                    ///< as asked for: a format or a recipe
    std::optional<FormatSpec> chosen;   ///< what the recipe gives this tensor
    std::string kept;                   ///< why the recipe leaves this tensor as it is, where it does
    std::optional<FormatSpec> fallback; ///< what was used instead, where the shape does not allow `spec` or `chosen`
    double stored_bits = 0;
    ErrorSums sums;
    std::vector<std::uint64_t> usage; ///< per code; empty where codes are not counted

    /// The format that the tensor was stored in.
    const FormatSpec& used() const { return fallback ? *fallback : chosen ? *chosen : spec; }
    double bits_per_weight() const; ///< over all elements of the tensor
    double mse() const;
    double rmse() const;
    double relative_error() const; ///< ‖W−V‖/‖W‖
    double sqnr_db() const;        ///< +inf when exact
    double cosine() const;
    double mean_error() const;
    double code_entropy() const; ///< bits; NaN where codes are not counted

    std::uint64_t elements = 0;    ///< all elements, finite or not
    std::optional<double> entropy; ///< of the codes, where `usage` was let go to save memory
};

/// A format that was not measured on a tensor, and why.
struct SkippedFormat {
    FormatSpec spec;
    std::string reason;
};

/// Everything measured on one tensor.
struct TensorReport {
    std::size_t tensor = 0; ///< index into Checkpoint::tensors
    Statistics statistics;
    std::vector<FormatResult> results; ///< in the order of the specs asked for, without the skipped ones
    std::vector<SkippedFormat> skipped;
    bool has_importance = false; ///< whether an importance matrix had importances for it
};

/// Results of one format over many tensors: sums over elements, so weighted by element count.
struct AggregateResult {
    FormatSpec spec;
    std::uint64_t tensors = 0;
    std::uint64_t fallbacks = 0; ///< tensors that fell back to another format
    FormatResult total;          ///< max_index is into the tensor `max_tensor`
    std::size_t max_tensor = 0;
};

struct ModelReport {
    std::vector<AggregateResult> model; ///< one a spec
    std::map<int, std::vector<AggregateResult>> layers;
    std::map<Role, std::vector<AggregateResult>> roles;
};

/// Sums tensor reports by layer, by role and overall. Reports may come in any order; the result does not depend on it.
ModelReport aggregate(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                      const std::vector<TensorReport>& reports);
ModelReport aggregate(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                      std::vector<const TensorReport*> reports);

} // namespace qs
