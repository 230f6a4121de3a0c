#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/analysis/compare.h"
#include "core/analysis/report_json.h"
#include "core/analysis/throughput.h"
#include "core/base/atomic_file.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, formats, tensors, imatrix, csv, compare_with;
    DeviceOptions device;
    bool json = false;
};

/// One run on one device.
struct Run {
    DeviceInfo device;
    Json notes = Json::array();
    std::vector<TensorReport> reports;
    double seconds = 0;
    std::uint64_t bytes_read = 0;
};

/// What the command has found.
struct Analysis {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::optional<ImportanceMatrix> imatrix;
    std::vector<FormatSpec> specs;
    Selection selection;
    Run run;
    std::optional<Run> other; ///< on the device to compare with
    std::optional<Comparison> comparison;
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

Run run_on(Device& device, const Analysis& analysis) {
    Run run;
    {
        RunningJob running;
        const auto start = std::chrono::steady_clock::now();
        run.reports = analyze(*analysis.checkpoint, analysis.selection.tensors, analysis.specs, device, running.job, {},
                              analysis.imatrix ? &*analysis.imatrix : nullptr);
        run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        run.bytes_read = running.job.done();
    }
    run.device = device.info();
    run.notes = tell_notes(device);
    return run;
}

/// The device to compare with, which must be there before anything is measured.
std::unique_ptr<Device> make_other(const Options& options) {
    try {
        return make_device_option("--compare-with", options.compare_with, options.device.threads);
    } catch (const Error& error) {
        throw Error("--compare-with " + options.compare_with, error.reason(),
                    "choose another device (devices lists them)");
    }
}

Analysis run(const Options& options) {
    Analysis analysis;
    analysis.specs = parse_formats_or_recipes_option("--formats", options.formats);
    const bool compares = !options.compare_with.empty();
    // Results that the CPU made in a device's place would agree with the CPU's.
    const auto device = compares ? options.device.make_itself() : options.device.make();
    const auto other = compares ? make_other(options) : nullptr;
    analysis.checkpoint = open_checkpoint(options.checkpoint);
    analysis.selection = select_tensors(*analysis.checkpoint, options.tensors);
    refuse_nothing_to_measure(*analysis.checkpoint, analysis.selection);
    if (!options.imatrix.empty())
        analysis.imatrix = open_imatrix(options.imatrix);

    analysis.run = run_on(*device, analysis);
    if (other) {
        analysis.other = run_on(*other, analysis);
        analysis.comparison = compare(analysis.specs, analysis.run.reports, analysis.other->reports);
    }
    return analysis;
}

Json run_json(const Run& run) {
    return {{"device", run.device.id},       {"device_name", run.device.name},
            {"threads", run.device.threads}, {"seconds", json_number(run.seconds)},
            {"bytes_read", run.bytes_read},  {"notes", run.notes}};
}

/// null without --compare-with.
Json compared_json(const Analysis& analysis) {
    if (!analysis.comparison)
        return {};
    Json json = run_json(*analysis.other);
    json.update(comparison_json(*analysis.checkpoint, *analysis.comparison));
    return json;
}

Json document(const Analysis& analysis) {
    Json result{{"checkpoint", analysis.checkpoint->path.string()}};
    result.update(run_json(analysis.run));
    result["imatrix"] = imatrix_json(analysis.imatrix ? &*analysis.imatrix : nullptr, analysis.run.reports);
    result["comparison"] = compared_json(analysis);
    result["formats"] = Json::array();
    for (const FormatSpec& spec : analysis.specs)
        result["formats"].push_back(spec.text());
    result.update(
        analysis_json(*analysis.checkpoint, analysis.specs, analysis.run.reports, analysis.selection.skipped));
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
    for (const TensorReport& report : analysis.run.reports) {
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
    const ModelReport model = aggregate(*analysis.checkpoint, analysis.specs, analysis.run.reports);
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
    for (const TensorReport& report : analysis.run.reports) {
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
                       std::ranges::count(analysis.run.reports, true, &TensorReport::has_importance),
                       analysis.run.reports.size(), analysis.imatrix->entries.size(), analysis.imatrix->path.string());
}

std::string rate_text(const Run& run) {
    const auto bytes = static_cast<double>(run.bytes_read);
    return fmt::format("{} read in {:.2f} s ({}/s) on {}\n", bytes_text(bytes), run.seconds,
                       bytes_text(mean_rate(bytes, run.seconds)), run.device.name);
}

std::vector<std::string> agreement_row(const std::string& name, const Agreement& agreement,
                                       const Checkpoint& checkpoint) {
    const Deviation& largest = agreement.largest;
    const std::string where =
        largest.metric.empty() ? "" : largest.metric + " of " + checkpoint.tensors[largest.tensor].name;
    return {name, std::to_string(agreement.tensors), fmt::format("{} of {}", agreement.differing, agreement.counts),
            number(largest.relative, 3), where};
}

std::string comparison_text(const Analysis& analysis) {
    if (!analysis.comparison)
        return {};
    const Comparison& comparison = *analysis.comparison;
    const Checkpoint& checkpoint = *analysis.checkpoint;
    Table table({{""}, {"tensors", true}, {"counts that differ", true}, {"largest deviation", true}, {"where"}});
    table.add(agreement_row("weights", comparison.statistics, checkpoint));
    for (std::size_t i = 0; i < comparison.specs.size(); ++i)
        table.add(agreement_row(comparison.specs[i].text(), comparison.formats[i], checkpoint));
    return fmt::format("\n{} ({}) beside {} ({}): {}\n{}", analysis.run.device.id, analysis.run.device.name,
                       analysis.other->device.id, analysis.other->device.name,
                       comparison.overall().holds() ? "the results agree, counts exactly and numbers to a relative 10⁻⁹"
                                                    : "the results differ in counts or by more than a relative 10⁻⁹",
                       table.text());
}

std::string text(const Analysis& analysis) {
    return tensors_text(analysis) + "\n" + model_text(analysis) + remarks_text(analysis) + imatrix_text(analysis) +
           comparison_text(analysis) + "\n" + rate_text(analysis.run) +
           (analysis.other ? rate_text(*analysis.other) : "");
}

void write_results(const Options& options) {
    std::optional<AtomicFile> csv;
    if (!options.csv.empty())
        csv.emplace(options.csv);
    const Analysis analysis = run(options);
    if (csv) {
        csv->write(analysis_csv(*analysis.checkpoint, analysis.run.reports));
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
    command
        ->add_option("--compare-with", options->compare_with,
                     "Analyse on this device too (cpu, cuda or cuda:N) and tell how far the results are apart")
        ->type_name("DEVICE");
    command->add_flag("--json", options->json, "Print one JSON document");
    command->add_option("--csv", options->csv, "Also write a row for each tensor and format")->type_name("FILE");
    command->callback([options, &action] { action = [options] { write_results(*options); }; });
}

} // namespace qs::cli
