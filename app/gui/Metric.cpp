#include "app/gui/Metric.h"

#include <algorithm>
#include <array>

namespace qs::gui {

std::span<const Metric> metrics() {
    static const std::array<Metric, 9> table = {{
        {"sqnr_db", "SQNR", "dB",
         "Signal to quantization noise ratio: 10·log₁₀ of the weights' energy over the error's; 6 dB more halve the "
         "error.",
         true, false, 1, [](const FormatResult& result) { return result.sqnr_db(); }},
        {"relative_error",
         "Relative error",
         {},
         "Length of the error over the length of the weights, ‖W−V‖/‖W‖.",
         false,
         true,
         0.12,
         [](const FormatResult& result) { return result.relative_error(); }},
        {"mse",
         "MSE",
         {},
         "Mean of the squared errors of all weights.",
         false,
         true,
         0.24,
         [](const FormatResult& result) { return result.mse(); }},
        {"rmse",
         "RMSE",
         {},
         "Square root of the MSE: the error of a typical weight.",
         false,
         true,
         0.12,
         [](const FormatResult& result) { return result.rmse(); }},
        {"cosine",
         "Cosine",
         {},
         "Cosine of the angle between the weights and their reconstruction: 1 means the same direction.",
         true,
         false,
         0.001,
         [](const FormatResult& result) { return result.cosine(); }},
        {"max_abs_error",
         "max |e|",
         {},
         "The largest error of a single weight.",
         false,
         true,
         0.3,
         [](const FormatResult& result) { return result.sums.max_abs; }},
        {"mean_error",
         "Mean error",
         {},
         "Mean of reconstruction minus weight, the bias that rounding adds.",
         false,
         false,
         0,
         [](const FormatResult& result) { return result.mean_error(); }},
        {"code_entropy", "Entropy", "bits",
         "How many bits a code carries on average: less than its width where some codes are rare.", true, false, 0.1,
         [](const FormatResult& result) { return result.code_entropy(); }},
        {"bits_per_weight",
         "Bits/weight",
         {},
         "All bits that are stored for a weight: codes, scales, zero points and padding.",
         false,
         false,
         0.1,
         [](const FormatResult& result) { return result.bits_per_weight(); }},
    }};
    return table;
}

const Metric& metric(const QString& id) {
    const auto all = metrics();
    const auto found = std::ranges::find(all, id, &Metric::id);
    return found == all.end() ? all.front() : *found;
}

} // namespace qs::gui
