#include "gpu/tensor_work.h"

#include "core/device/tiles.h"

namespace qs::cuda {

namespace {

std::vector<unsigned> code_counts(const Runs& runs) {
    std::vector<unsigned> counts;
    for (const auto& run : runs)
        counts.push_back(static_cast<unsigned>(run->code_count()));
    return counts;
}

} // namespace

TensorWork::TensorWork(Workspace& work, const TensorView& tensor, std::span<const FormatSpec> specs, bool exact)
    : stream_(work.compute), runs_(work.make_runs(tensor.shape, tensor.importance, specs)),
      results_(work.results, units_in(tensor.shape.count()), code_counts(runs_)) {
    todo_.moments = results_.unit_moments();
    todo_.exact = exact;
    for (std::size_t i = 0; i < runs_.size(); ++i)
        todo_.sinks.push_back(results_.sink(i));
}

int TensorWork::passes() const {
    return passes_for(runs_, 2);
}

bool TensorWork::repeats() const {
    return std::all_of(runs_.begin(), runs_.end(), [](const auto& run) { return run->repeats(); });
}

std::optional<TensorReport> TensorWork::report(const TensorShape& shape, std::span<const FormatSpec> specs) const {
    TensorReport report = to_report(results_, shape, specs, stored_bits());
    const std::uint64_t nonfinite = report.statistics.nan + report.statistics.inf;
    for (std::size_t i = 0; i < runs_.size(); ++i) {
        const bool lacks_w2 = !todo_.exact && runs_[i]->fused();
        if (lacks_w2 && !report.results[i].sums.complete(results_.sum_w2(), nonfinite))
            return std::nullopt;
    }
    return report;
}

std::vector<double> TensorWork::stored_bits() const {
    std::vector<double> bits;
    for (const auto& run : runs_)
        bits.push_back(run->stored_bits());
    return bits;
}

TensorReport to_report(const Results& results, const TensorShape& shape, std::span<const FormatSpec> specs,
                       std::span<const double> stored_bits) {
    TensorReport report;
    report.statistics = results.statistics();
    for (std::size_t i = 0; i < specs.size(); ++i) {
        FormatResult result = unmeasured(specs[i], shape, stored_bits[i]);
        result.sums = results.errors(i);
        result.usage = results.usage(i);
        report.results.push_back(std::move(result));
    }
    return report;
}

} // namespace qs::cuda
