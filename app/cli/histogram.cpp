#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/analysis/importance.h"
#include "core/analysis/report_json.h"
#include "core/base/nearest.h"
#include "core/formats/registry.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, tensor, format, imatrix;
    std::size_t bins = 64;
    DeviceOptions device;
    bool json = false;
};

struct TensorHistogram {
    TensorInfo tensor;
    Statistics statistics;
    std::vector<FormatSpec> specs; ///< none or one
    HistogramSet set;
    Json notes; ///< of the device
};

std::size_t find_tensor(const Checkpoint& checkpoint, const std::string& name) {
    if (const auto found = checkpoint.find(name))
        return *found;
    std::vector<std::string> names;
    for (const TensorInfo& tensor : checkpoint.tensors)
        names.push_back(tensor.name);
    throw Error(checkpoint.path.string(), "there is no tensor '" + name + "'",
                names.empty() ? "" : "did you mean " + nearest_word(name, names) + "?");
}

/// The range of the finite weights, widened where they are all the same.
std::pair<double, double> range_of(const TensorReport& report, const TensorInfo& tensor) {
    const Statistics& statistics = report.statistics;
    if (statistics.count == statistics.nan + statistics.inf)
        throw Error("tensor " + tensor.name, "has no finite weights to count");
    if (statistics.min < statistics.max)
        return {statistics.min, statistics.max};
    const double around = statistics.min == 0 ? 1 : std::abs(statistics.min);
    return {statistics.min - around / 2, statistics.min + around / 2};
}

/// Gives the view the importances that the format can use. Throws Error where it needs them and there are none.
void give_importance(const ImportanceMatrix& imatrix, const Checkpoint& checkpoint, const TensorHistogram& result,
                     TensorView& view) {
    const TensorImportance importance = importance_of(imatrix, checkpoint, result.tensor);
    importance.give_to(view);
    for (const FormatSpec& spec : result.specs)
        if (!importance.missing.empty() && needs_importance(spec, view.shape))
            throw Error("tensor " + result.tensor.name, spec.text() + " needs importances: " + importance.missing);
}

TensorHistogram run(const Options& options) {
    TensorHistogram result;
    if (!options.format.empty())
        result.specs.push_back(parse_format_option("--format", options.format));
    const auto device = options.device.make();
    const auto checkpoint = open_checkpoint(options.checkpoint);
    result.tensor = checkpoint->tensors[find_tensor(*checkpoint, options.tensor)];
    if (!is_weight_type(result.tensor.dtype))
        throw Error(checkpoint->path.string() + ": tensor " + result.tensor.name,
                    result.tensor.dtype_name + " does not hold weights that can be read");
    TensorView view = view_of(*checkpoint, result.tensor);
    std::optional<ImportanceMatrix> imatrix;
    if (!options.imatrix.empty()) {
        imatrix = open_imatrix(options.imatrix);
        give_importance(*imatrix, *checkpoint, result, view);
    }
    {
        RunningJob running;
        running.job.set_total(result.tensor.bytes);
        const TensorReport report = device->analyze(view, {}, running.job);
        result.statistics = report.statistics;
        const auto [low, high] = range_of(report, result.tensor);
        result.set = device->histogram(view, result.specs, low, high, options.bins, running.job);
    }
    result.notes = tell_notes(*device);
    return result;
}

/// The format that the tensor's shape really takes.
FormatSpec used_spec(const TensorHistogram& result) {
    return effective_spec(result.specs[0], {result.tensor.rows(), result.tensor.columns()});
}

void add_counts(Json& document, const Histogram& histogram) {
    document["counts"] = histogram.counts;
    document["below"] = histogram.below;
    document["above"] = histogram.above;
    document["nonfinite"] = histogram.nonfinite;
}

Json document(const TensorHistogram& result) {
    const Histogram& weights = result.set.weights;
    Json json{{"tensor", result.tensor.name},  {"dtype", result.tensor.dtype_name}, {"shape", result.tensor.shape},
              {"bins", weights.counts.size()}, {"low", json_number(weights.low)},   {"high", json_number(weights.high)},
              {"edges", Json::array()}};
    for (std::size_t i = 0; i <= weights.counts.size(); ++i)
        json["edges"].push_back(json_number(weights.edge(i)));
    add_counts(json, weights);
    json["statistics"] = statistics_json(result.statistics);
    json["notes"] = result.notes;
    json["reconstruction"] = Json();
    if (!result.specs.empty()) {
        const FormatSpec used = used_spec(result);
        Json reconstruction{{"format", result.specs[0].text()},
                            {"fallback", used == result.specs[0] ? Json() : Json(used.text())}};
        add_counts(reconstruction, result.set.reconstructions[0]);
        json["reconstruction"] = std::move(reconstruction);
    }
    return json;
}

std::string bar(std::uint64_t count, std::uint64_t most) {
    constexpr double width = 48;
    const auto length = most == 0 ? 0.0 : std::ceil(width * static_cast<double>(count) / static_cast<double>(most));
    std::string text;
    for (int i = 0; i < static_cast<int>(length); ++i)
        text += "█";
    return text;
}

std::string text(const TensorHistogram& result) {
    const Histogram& weights = result.set.weights;
    const Statistics& statistics = result.statistics;
    std::vector<Table::Column> columns{{"from", true}, {"weights", true}};
    if (!result.specs.empty())
        columns.push_back({used_spec(result).text(), true});
    columns.push_back({""});
    Table table(columns);
    const std::uint64_t most = *std::max_element(weights.counts.begin(), weights.counts.end());
    for (std::size_t i = 0; i < weights.counts.size(); ++i) {
        std::vector<std::string> row{number(weights.edge(i)), std::to_string(weights.counts[i])};
        if (!result.specs.empty())
            row.push_back(std::to_string(result.set.reconstructions[0].counts[i]));
        row.push_back(bar(weights.counts[i], most));
        table.add(std::move(row));
    }
    std::string text =
        fmt::format("{}  {}  {}\nmean {}, std {}, from {} to {}, skewness {}, excess kurtosis {}\n\n",
                    result.tensor.name, result.tensor.dtype_name, shape_text(result.tensor.shape),
                    number(statistics.mean), number(statistics.std), number(statistics.min), number(statistics.max),
                    number(statistics.skewness, 3), number(statistics.excess_kurtosis, 3)) +
        table.text();
    if (statistics.nan + statistics.inf > 0)
        text += fmt::format("\n! {} NaN and {} infinite weights are not counted\n", statistics.nan, statistics.inf);
    if (!result.specs.empty() && used_spec(result) != result.specs[0])
        text += fmt::format("\n* {} instead of {}, whose blocks do not divide the rows\n", used_spec(result).text(),
                            result.specs[0].text());
    return text;
}

} // namespace

void add_histogram(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("histogram", "Counts a tensor's weights, and their reconstruction, in bins");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    command->add_option("--tensor", options->tensor, "The tensor's name")->type_name("NAME")->required();
    command->add_option("--format", options->format, "Also count the reconstruction in this format")->type_name("F");
    command->add_option("--imatrix", options->imatrix, imatrix_help)->type_name("FILE");
    command->add_option("--bins", options->bins, "Bins from the smallest to the largest weight")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const TensorHistogram result = run(*options);
            options->json ? print(document(result)) : print(text(result));
        };
    });
}

} // namespace qs::cli
