#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/analysis/pipeline.h"
#include "core/base/json_number.h"

namespace qs {

/// Results of two devices agree where all counts are equal and no metric deviates by more than this.
inline constexpr double agreement_bound = 1e-9;

/// How far a metric or a statistic is apart, and which.
struct Deviation {
    /// |a − b| over the larger of both. What is left where values of both signs cancel (a mean, a bias) can only be as
    /// exact as those values: its deviation is relative to at least 10⁻⁴ of their size. Infinite where only one is a
    /// number.
    double relative = 0;
    std::string metric;               ///< its name in the JSON; empty where nothing deviates
    std::size_t tensor = 0;           ///< index into Checkpoint::tensors
    std::optional<FormatSpec> format; ///< none for statistics of the weights
};

/// What is compared of two analyses: integers, which must be equal, and numbers.
struct Agreement {
    std::uint64_t tensors = 0;
    std::uint64_t counts = 0;    ///< how often each code is used, weights in the sums, bits stored, …
    std::uint64_t differing = 0; ///< of them
    Deviation largest;

    bool holds() const { return differing == 0 && largest.relative <= agreement_bound; }
};

/// The results of one analysis on two devices.
struct Comparison {
    explicit Comparison(std::vector<FormatSpec> formats) : specs(std::move(formats)), formats(specs.size()) {}

    std::vector<FormatSpec> specs;
    Agreement statistics;           ///< of the weights
    std::vector<Agreement> formats; ///< one a spec

    Agreement overall() const;
};

/// Adds two reports on the same tensor. Codes are compared where both reports still have their counts.
void add(Comparison& comparison, const TensorReport& a, const TensorReport& b);

/// Reports of the same tensors in the same order.
Comparison compare(const std::vector<FormatSpec>& specs, const std::vector<TensorReport>& a,
                   const std::vector<TensorReport>& b);

/// Analyses the tensors on both devices, some at a time so that memory does not grow with the checkpoint. `known` may
/// give (any thread's) reports of `first` that need no other measurement, null for the others.
Comparison compare_devices(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors,
                           const std::vector<FormatSpec>& specs, Device& first, Device& second, JobControl& job,
                           const std::function<const TensorReport*(std::size_t tensor)>& known = {});

/// `tensors`, `counts`, `differing_counts`, `largest_deviation`, `metric`, `tensor`, `format`, `bound`, `agrees`; the
/// same of the `statistics` and of each of the `formats`.
Json comparison_json(const Checkpoint& checkpoint, const Comparison& comparison);

} // namespace qs
