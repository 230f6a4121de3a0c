#include "core/analysis/report.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qs {

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

double per(double sum, std::uint64_t count) {
    return count == 0 ? undefined : sum / static_cast<double>(count);
}

} // namespace

double FormatResult::bits_per_weight() const {
    return per(stored_bits, elements);
}
double FormatResult::mse() const {
    return per(sums.sum_d2, sums.count);
}
double FormatResult::rmse() const {
    return std::sqrt(mse());
}

double FormatResult::relative_error() const {
    if (sums.count == 0)
        return undefined;
    return sums.sum_d2 == 0 ? 0 : std::sqrt(sums.sum_d2 / sums.sum_w2);
}

double FormatResult::sqnr_db() const {
    if (sums.count == 0)
        return undefined;
    return sums.sum_d2 == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(sums.sum_w2 / sums.sum_d2);
}

double FormatResult::cosine() const {
    if (sums.count == 0)
        return undefined;
    // 2 Σwv = Σw² + Σv² − Σ(w−v)²
    const double dot = (sums.sum_w2 + sums.sum_v2 - sums.sum_d2) / 2;
    return sums.sum_d2 == 0 ? 1 : dot / std::sqrt(sums.sum_w2 * sums.sum_v2);
}

double FormatResult::mean_error() const {
    return per(sums.sum_d, sums.count);
}

double FormatResult::code_entropy() const {
    if (entropy)
        return *entropy;
    std::uint64_t total = 0;
    for (const auto count : usage)
        total += count;
    if (total == 0)
        return undefined;
    double entropy = 0;
    for (const auto count : usage) {
        if (count == 0)
            continue;
        const double p = static_cast<double>(count) / static_cast<double>(total);
        entropy -= p * std::log2(p);
    }
    return entropy;
}

namespace {

void add(AggregateResult& into, const TensorReport& report, const FormatResult& result) {
    if (result.sums.max_abs > into.total.sums.max_abs || into.tensors == 0)
        into.max_tensor = report.tensor;
    ++into.tensors;
    into.fallbacks += result.fallback.has_value();
    into.total.elements += result.elements;
    into.total.stored_bits += result.stored_bits;
    into.total.sums.merge(result.sums);
    // Codes of different formats would not add up.
    if (result.used() == result.spec) {
        into.total.usage.resize(std::max(into.total.usage.size(), result.usage.size()));
        for (std::size_t code = 0; code < result.usage.size(); ++code)
            into.total.usage[code] += result.usage[code];
    }
}

std::vector<AggregateResult> empty_aggregates(const std::vector<FormatSpec>& specs) {
    std::vector<AggregateResult> results(specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i)
        results[i].spec = results[i].total.spec = specs[i];
    return results;
}

} // namespace

ModelReport aggregate(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                      const std::vector<TensorReport>& reports) {
    std::vector<const TensorReport*> all;
    for (const auto& report : reports)
        all.push_back(&report);
    return aggregate(checkpoint, specs, std::move(all));
}

ModelReport aggregate(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                      std::vector<const TensorReport*> reports) {
    std::sort(reports.begin(), reports.end(), [](const auto* a, const auto* b) { return a->tensor < b->tensor; });

    ModelReport model{empty_aggregates(specs), {}, {}};
    for (const TensorReport* report : reports) {
        const TensorInfo& tensor = checkpoint.tensors[report->tensor];
        for (std::size_t i = 0; i < specs.size(); ++i) {
            const auto found = std::find_if(report->results.begin(), report->results.end(),
                                            [&](const FormatResult& result) { return result.spec == specs[i]; });
            if (found == report->results.end())
                continue;
            add(model.model[i], *report, *found);
            add(model.roles.try_emplace(tensor.role, empty_aggregates(specs)).first->second[i], *report, *found);
            if (tensor.layer)
                add(model.layers.try_emplace(*tensor.layer, empty_aggregates(specs)).first->second[i], *report, *found);
        }
    }
    return model;
}

} // namespace qs
