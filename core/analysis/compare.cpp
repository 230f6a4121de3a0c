#include "core/analysis/compare.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace qs {

namespace {

/// Of the size of values that cancel, what their sum is exact to counts as at least this much.
constexpr double cancelling = 1e-4;

double relative_deviation(double a, double b, double scale) {
    if (a == b || (std::isnan(a) && std::isnan(b)))
        return 0;
    if (!std::isfinite(a) || !std::isfinite(b))
        return std::numeric_limits<double>::infinity();
    return std::abs(a - b) / std::max({std::abs(a), std::abs(b), cancelling * scale});
}

/// A number of a report and the size of the values that cancel in it.
template <class From>
struct Number {
    const char* name;
    double (*value)(const From&);
    double (*scale)(const From&);
};

template <class From>
double nothing_cancels(const From&) {
    return 0;
}

/// Skewness and kurtosis are sums of powers of values around 1, outliers far more.
double of_moments(const Statistics&) {
    return 1e3;
}

constexpr std::array<Number<Statistics>, 6> statistics_numbers = {{
    {"min", [](const Statistics& s) { return s.min; }, nothing_cancels},
    {"max", [](const Statistics& s) { return s.max; }, nothing_cancels},
    {"mean", [](const Statistics& s) { return s.mean; }, [](const Statistics& s) { return s.std; }},
    {"std", [](const Statistics& s) { return s.std; }, nothing_cancels},
    {"skewness", [](const Statistics& s) { return s.skewness; }, of_moments},
    {"excess_kurtosis", [](const Statistics& s) { return s.excess_kurtosis; }, of_moments},
}};

constexpr std::array<Number<FormatResult>, 9> result_numbers = {{
    {"bits_per_weight", [](const FormatResult& r) { return r.bits_per_weight(); }, nothing_cancels},
    {"mse", [](const FormatResult& r) { return r.mse(); }, nothing_cancels},
    {"rmse", [](const FormatResult& r) { return r.rmse(); }, nothing_cancels},
    {"relative_error", [](const FormatResult& r) { return r.relative_error(); }, nothing_cancels},
    // The logarithm of a ratio around 1 is around 0, and as exact as the ratio: one of 10⁴ dB counts as one of 1 dB.
    {"sqnr_db", [](const FormatResult& r) { return r.sqnr_db(); }, [](const FormatResult&) { return 1e4; }},
    {"cosine", [](const FormatResult& r) { return r.cosine(); }, nothing_cancels},
    {"max_abs_error", [](const FormatResult& r) { return r.sums.max_abs; }, nothing_cancels},
    {"mean_error", [](const FormatResult& r) { return r.mean_error(); },
     [](const FormatResult& r) { return r.rmse(); }},
    {"code_entropy", [](const FormatResult& r) { return r.code_entropy(); }, nothing_cancels},
}};

void take(Deviation& largest, const Deviation& other) {
    if (other.relative > largest.relative)
        largest = other;
}

/// Compares the parts of one tensor's reports.
class Pair {
public:
    Pair(Agreement& into, std::size_t tensor, std::optional<FormatSpec> format)
        : into_(into), tensor_(tensor), format_(std::move(format)) {
        ++into.tensors;
    }

    template <class A, class B>
    void count(const A& a, const B& b) {
        ++into_.counts;
        into_.differing += a != b;
    }

    void counts(std::vector<std::uint64_t> a, std::vector<std::uint64_t> b) {
        const std::size_t size = std::max(a.size(), b.size());
        a.resize(size);
        b.resize(size);
        for (std::size_t i = 0; i < size; ++i)
            count(a[i], b[i]);
    }

    template <class From, std::size_t n>
    void numbers(const std::array<Number<From>, n>& list, const From& a, const From& b) {
        for (const Number<From>& each : list) {
            const double scale = std::max(each.scale(a), each.scale(b));
            take(into_.largest, {relative_deviation(each.value(a), each.value(b), scale), each.name, tensor_, format_});
        }
    }

private:
    Agreement& into_;
    std::size_t tensor_;
    std::optional<FormatSpec> format_;
};

void add(Pair pair, const Statistics& a, const Statistics& b) {
    for (const auto member : {&Statistics::count, &Statistics::zeros, &Statistics::nan, &Statistics::inf,
                              &Statistics::beyond_3_sigma, &Statistics::beyond_6_sigma})
        pair.count(a.*member, b.*member);
    pair.numbers(statistics_numbers, a, b);
}

void add(Pair pair, const FormatResult& a, const FormatResult& b) {
    pair.count(a.used(), b.used());
    pair.count(a.stored_bits, b.stored_bits);
    pair.count(a.sums.count, b.sums.count);
    pair.count(a.sums.nonfinite, b.sums.nonfinite);
    pair.count(a.sums.max_index, b.sums.max_index);
    if (!a.entropy && !b.entropy)
        pair.counts(a.usage, b.usage);
    pair.numbers(result_numbers, a, b);
}

const FormatResult* find(const TensorReport& report, const FormatSpec& spec) {
    const auto found = std::ranges::find(report.results, spec, &FormatResult::spec);
    return found == report.results.end() ? nullptr : &*found;
}

bool covers(const TensorReport& report, const std::vector<FormatSpec>& specs) {
    return std::ranges::all_of(specs, [&](const FormatSpec& spec) { return find(report, spec) != nullptr; });
}

} // namespace

void add(Comparison& comparison, const TensorReport& a, const TensorReport& b) {
    add(Pair(comparison.statistics, a.tensor, {}), a.statistics, b.statistics);
    for (std::size_t i = 0; i < comparison.specs.size(); ++i) {
        const FormatSpec& spec = comparison.specs[i];
        const FormatResult *of_a = find(a, spec), *of_b = find(b, spec);
        if (of_a == nullptr && of_b == nullptr)
            continue; // skipped on both
        Pair pair(comparison.formats[i], a.tensor, spec);
        if (of_a != nullptr && of_b != nullptr)
            add(std::move(pair), *of_a, *of_b);
        else
            pair.count(of_a != nullptr, of_b != nullptr);
    }
}

Agreement Comparison::overall() const {
    Agreement all = statistics;
    for (const Agreement& each : formats) {
        all.counts += each.counts;
        all.differing += each.differing;
        take(all.largest, each.largest);
    }
    return all;
}

Comparison compare(const std::vector<FormatSpec>& specs, const std::vector<TensorReport>& a,
                   const std::vector<TensorReport>& b) {
    Comparison comparison(specs);
    for (std::size_t i = 0; i < a.size(); ++i)
        add(comparison, a[i], b[i]);
    return comparison;
}

Comparison compare_devices(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors,
                           const std::vector<FormatSpec>& specs, Device& first, Device& second, JobControl& job,
                           const std::function<const TensorReport*(std::size_t tensor)>& known) {
    // Enough small tensors for all threads, few enough for their reports to be little.
    constexpr std::size_t at_once = 64;
    const auto known_report = [&](std::size_t tensor) -> const TensorReport* {
        const TensorReport* report = known ? known(tensor) : nullptr;
        return report != nullptr && covers(*report, specs) ? report : nullptr;
    };
    std::uint64_t bytes = 0;
    for (const std::size_t tensor : tensors)
        bytes += checkpoint.tensors[tensor].bytes * (known_report(tensor) == nullptr ? 2 : 1);
    job.set_total(bytes);

    const auto measure = [&](const std::vector<std::size_t>& some, Device& device) {
        JobControl part(&job);
        std::vector<TensorReport> reports =
            analyze(checkpoint, some, specs, device, part,
                    [&](const TensorReport& report) { job.advance(checkpoint.tensors[report.tensor].bytes); });
        return reports;
    };
    Comparison comparison(specs);
    for (std::size_t begin = 0; begin < tensors.size(); begin += at_once) {
        const std::size_t end = std::min(begin + at_once, tensors.size());
        const std::vector<std::size_t> some(tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                            tensors.begin() + static_cast<std::ptrdiff_t>(end));
        std::vector<std::size_t> unknown;
        std::ranges::copy_if(some, std::back_inserter(unknown),
                             [&](std::size_t tensor) { return known_report(tensor) == nullptr; });
        const std::vector<TensorReport> of_first = measure(unknown, first), of_second = measure(some, second);
        for (const TensorReport& report : of_second) {
            const TensorReport* other = known_report(report.tensor);
            add(comparison,
                other != nullptr ? *other : *std::ranges::find(of_first, report.tensor, &TensorReport::tensor), report);
        }
    }
    return comparison;
}

namespace {

Json agreement_json(const Checkpoint& checkpoint, const Agreement& agreement) {
    const bool exact = agreement.largest.metric.empty();
    return {{"tensors", agreement.tensors},
            {"counts", agreement.counts},
            {"differing_counts", agreement.differing},
            {"largest_deviation", json_number(agreement.largest.relative)},
            {"metric", exact ? Json() : Json(agreement.largest.metric)},
            {"tensor", exact ? Json() : Json(checkpoint.tensors[agreement.largest.tensor].name)},
            {"agrees", agreement.holds()}};
}

} // namespace

Json comparison_json(const Checkpoint& checkpoint, const Comparison& comparison) {
    const Agreement overall = comparison.overall();
    Json json = agreement_json(checkpoint, overall);
    json["format"] = overall.largest.format ? Json(overall.largest.format->text()) : Json();
    json["bound"] = agreement_bound;
    json["statistics"] = agreement_json(checkpoint, comparison.statistics);
    json["formats"] = Json::array();
    for (std::size_t i = 0; i < comparison.specs.size(); ++i) {
        json["formats"].push_back({{"format", comparison.specs[i].text()}});
        json["formats"].back().update(agreement_json(checkpoint, comparison.formats[i]));
    }
    return json;
}

} // namespace qs
