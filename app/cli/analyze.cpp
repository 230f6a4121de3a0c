#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/analysis/report_json.h"
#include "core/base/atomic_file.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, formats, tensors, imatrix, csv;
    DeviceOptions device;
    bool json = false;
};

/// What one run of the command has found.
struct Analysis {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::optional<ImportanceMatrix> imatrix;
    std::vector<FormatSpec> specs;
    Selection selection;
    std::vector<TensorReport> reports;
    DeviceInfo device;
    double seconds = 0;
    std::uint64_t bytes_read = 0;
};

void refuse_nothing_to_measure(const Checkpoint& checkpoint, const Selection& selection) {
    if (!selection.tensors.empty())
        return;
    if (selection.skipped.empty())
        throw Error(checkpoint.path.string(), "holds no tensors");
    const SkippedTensor& first = selection.skipped.front();
    throw Error(checkpoint.path.string(),
                fmt::format("none of {} tensors can be measured: {} {}", selection.skipped.size(),
                            checkpoint.tensors[first.tensor].name, first.reason),
                "choose tensors with --tensors");
}

Analysis run(const Options& options) {
    Analysis analysis;
    analysis.specs = parse_formats_or_recipes_option("--formats", options.formats);
    const auto device = options.device.make();
    analysis.checkpoint = open_checkpoint(options.checkpoint);
    analysis.selection = select_tensors(*analysis.checkpoint, options.tensors);
    refuse_nothing_to_measure(*analysis.checkpoint, analysis.selection);
    analysis.device = device->info();
    if (!options.imatrix.empty())
        analysis.imatrix = open_imatrix(options.imatrix);

    RunningJob running;
    const auto start = std::chrono::steady_clock::now();
    analysis.reports = analyze(*analysis.checkpoint, analysis.selection.tensors, analysis.specs, *device, running.job,
                               {}, analysis.imatrix ? &*analysis.imatrix : nullptr);
    analysis.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    analysis.bytes_read = running.job.done();
    return analysis;
}

Json document(const Analysis& analysis) {
    Json result{{"checkpoint", analysis.checkpoint->path.string()},
                {"device", analysis.device.id},
                {"device_name", analysis.device.name},
                {"threads", analysis.device.threads},
                {"seconds", json_number(analysis.seconds)},
                {"bytes_read", analysis.bytes_read},
                {"imatrix", imatrix_json(analysis.imatrix ? &*analysis.imatrix : nullptr, analysis.reports)},
                {"formats", Json::array()}};
    for (const FormatSpec& spec : analysis.specs)
        result["formats"].push_back(spec.text());
    result.update(analysis_json(*analysis.checkpoint, analysis.specs, analysis.reports, analysis.selection.skipped));
    return result;
}

/// SQNR, of a recipe with the format used, and a mark where the shape asked for another (*) or weights were not
/// finite (!).
std::string sqnr_cell(const FormatResult& result) {
    return (result.chosen ? result.used().text() + " " : "") + (result.fallback ? "*" : "") +
           (result.sums.nonfinite > 0 ? "!" : "") + fixed(result.sqnr_db(), 2);
}

std::string tensors_text(const Analysis& analysis) {
    std::vector<Table::Column> columns{{"tensor"}, {"shape"}};
    for (const FormatSpec& spec : analysis.specs)
        columns.push_back({spec.text(), true});
    Table table(columns);
    for (const TensorReport& report : analysis.reports) {
        const TensorInfo& tensor = analysis.checkpoint->tensors[report.tensor];
        std::vector<std::string> row{tensor.name, shape_text(tensor.shape)};
        for (const FormatSpec& spec : analysis.specs) {
            const auto result = std::ranges::find(report.results, spec, &FormatResult::spec);
            row.push_back(result == report.results.end() ? "–" : sqnr_cell(*result));
        }
        table.add(std::move(row));
    }
    return "SQNR in dB\n" + table.text();
}

std::string model_text(const Analysis& analysis) {
    const ModelReport model = aggregate(*analysis.checkpoint, analysis.specs, analysis.reports);
    Table table({{"format"},
                 {"bits/weight", true},
                 {"MSE", true},
                 {"relative error", true},
                 {"SQNR dB", true},
                 {"cosine", true},
                 {"max |error|", true},
                 {"bias", true},
                 {"code entropy", true}});
    for (const AggregateResult& aggregate : model.model) {
        if (aggregate.tensors == 0)
            continue;
        const FormatResult& total = aggregate.total;
        table.add({aggregate.spec.text(), fixed(total.bits_per_weight(), 4), number(total.mse()),
                   number(total.relative_error()), fixed(total.sqnr_db(), 2), number(total.cosine(), 7),
                   number(total.sums.max_abs), number(total.mean_error(), 3), fixed(total.code_entropy(), 3)});
    }
    return "All tensors together, weighted by their number of weights\n" + table.text();
}

/// The format that the shape did not allow, and whose it is: "q4_K", "the q4_K of Q4_K_M".
std::string asked_text(const FormatResult& result) {
    return result.chosen ? "the " + result.chosen->text() + " of " + result.spec.text() : result.spec.text();
}

std::string remarks_text(const Analysis& analysis) {
    std::string text;
    for (const TensorReport& report : analysis.reports) {
        const std::string& name = analysis.checkpoint->tensors[report.tensor].name;
        const Statistics& statistics = report.statistics;
        for (const SkippedFormat& skipped : report.skipped)
            text += fmt::format("– {}: {} is skipped: {}\n", name, skipped.spec.text(), skipped.reason);
        if (statistics.nan + statistics.inf > 0)
            text += fmt::format("! {}: {} NaN and {} infinite weights are left out of the sums\n", name, statistics.nan,
                                statistics.inf);
        for (const FormatResult& result : report.results) {
            if (result.fallback)
                text += fmt::format("* {}: {} instead of {}, whose blocks do not divide its rows\n", name,
                                    result.fallback->text(), asked_text(result));
            if (!result.kept.empty())
                text += fmt::format("kept {} in {} by {}: {}\n", name, result.used().text(), result.spec.text(),
                                    result.kept);
            if (const auto lost =
                    result.sums.nonfinite - std::min(result.sums.nonfinite, statistics.nan + statistics.inf))
                text += fmt::format("! {}: {} weights overflow in {} and are left out of its sums\n", name, lost,
                                    result.spec.text());
        }
    }
    for (const SkippedTensor& skipped : analysis.selection.skipped)
        text += fmt::format("skipped {}: {}\n", analysis.checkpoint->tensors[skipped.tensor].name, skipped.reason);
    return text.empty() ? text : "\n" + text;
}

/// How many of the tensors had importances.
std::string imatrix_text(const Analysis& analysis) {
    if (!analysis.imatrix)
        return {};
    return fmt::format("\n{} of {} tensors have importances, from {} entries of {}\n",
                       std::ranges::count(analysis.reports, true, &TensorReport::has_importance),
                       analysis.reports.size(), analysis.imatrix->entries.size(), analysis.imatrix->path.string());
}

std::string text(const Analysis& analysis) {
    const auto bytes = static_cast<double>(analysis.bytes_read);
    return tensors_text(analysis) + "\n" + model_text(analysis) + remarks_text(analysis) + imatrix_text(analysis) +
           fmt::format("\n{} read in {:.2f} s ({}/s) on {}\n", bytes_text(bytes), analysis.seconds,
                       bytes_text(bytes / analysis.seconds), analysis.device.name);
}

void write_results(const Options& options) {
    std::optional<AtomicFile> csv;
    if (!options.csv.empty())
        csv.emplace(options.csv);
    const Analysis analysis = run(options);
    if (csv) {
        csv->write(analysis_csv(*analysis.checkpoint, analysis.reports));
        csv->commit();
    }
    options.json ? print(document(analysis)) : print(text(analysis));
}

} // namespace

void add_analyze(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("analyze", "Measures what formats do to each tensor, in one pass");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    command->add_option("--formats", options->formats, formats_or_recipes_help)->type_name("LIST")->required();
    command->add_option("--tensors", options->tensors, "Only tensors whose name matches (*, ?, […]), of any rank")
        ->type_name("GLOB");
    command->add_option("--imatrix", options->imatrix, imatrix_help)->type_name("FILE");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->add_option("--csv", options->csv, "Also write a row for each tensor and format")->type_name("FILE");
    command->callback([options, &action] { action = [options] { write_results(*options); }; });
}

} // namespace qs::cli
