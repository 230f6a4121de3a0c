#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/table.h"
#include "core/base/error.h"
#include "core/memory/ledger.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, model, formats, mode = "inference", gpu;
    MemoryOptions memory;
    bool json = false;
};

struct Report {
    ModelCard card;
    std::vector<FormatSpec> specs;
    std::vector<Ledger> ledgers;
    std::vector<const Gpu*> gpus;
};

void check_usage(const Options& options) {
    if (options.checkpoint.empty() == options.model.empty())
        throw UsageError("give either CHECKPOINT or --model CARD");
    if (options.mode == "lora" || options.mode == "qlora" || options.mode == "full")
        throw UsageError("--mode: mode " + options.mode + " is not available in this version; use inference");
    if (options.mode != "inference")
        throw UsageError("--mode: '" + options.mode + "' is not known; use inference");
}

bool is_bare_config(const std::filesystem::path& path) {
    return path.extension() == ".json" && !path.filename().string().ends_with(".index.json");
}

ModelCard find_card(const Options& options) {
    if (!options.model.empty())
        return of_option("--model", [&]() -> const ModelCard& { return model_card(options.model); });
    if (is_bare_config(options.checkpoint))
        return card_from_config(options.checkpoint);
    return card_from_checkpoint(*open_checkpoint(options.checkpoint));
}

std::vector<const Gpu*> find_gpus(const Options& options) {
    if (!options.gpu.empty())
        return {of_option("--gpu", [&] { return &find_gpu(options.gpu); })};
    std::vector<const Gpu*> gpus;
    for (const Gpu& gpu : gpu_catalogue())
        gpus.push_back(&gpu);
    return gpus;
}

Report run(const Options& options) {
    check_usage(options);
    Report report;
    report.specs = parse_formats_or_recipes_option("--formats", options.formats);
    report.gpus = find_gpus(options);
    report.card = find_card(options);
    for (const FormatSpec& spec : report.specs)
        report.ledgers.push_back(inference_ledger(report.card, spec, options.memory));
    return report;
}

/// Bytes are whole numbers wherever a formula gives one.
Json bytes_json(double bytes) {
    constexpr double exact = 9007199254740992;
    return bytes == std::floor(bytes) && std::abs(bytes) < exact ? Json(static_cast<std::int64_t>(bytes))
                                                                 : json_number(bytes);
}

Json ledger_json(const Ledger& ledger, const Report& report, const MemoryOptions& memory) {
    Json json{{"format", ledger.spec.text()},
              {"total_bytes", bytes_json(ledger.total_bytes)},
              {"weight_bytes", bytes_json(ledger.weight_bytes)},
              {"naive_bytes", bytes_json(ledger.naive_bytes)},
              {"difference", ledger.difference},
              {"lines", Json::array()},
              {"gpus", Json::array()}};
    for (const LedgerLine& line : ledger.lines)
        json["lines"].push_back({{"name", line.name}, {"bytes", bytes_json(line.bytes)}, {"formula", line.formula}});
    for (const Gpu* gpu : report.gpus) {
        const Fit result = fit(*gpu, report.card, ledger.spec, memory);
        json["gpus"].push_back({{"name", gpu->name},
                                {"bytes", bytes_json(gpu->bytes)},
                                {"fits", result.fits},
                                {"max_context", result.max_context}});
    }
    return json;
}

Json document(const Options& options, const Report& report) {
    Json json{{"model", report.card.id},       {"title", report.card.title},
              {"source", report.card.source},  {"parameters", report.card.parameters},
              {"mode", options.mode},          {"context", options.memory.context},
              {"batch", options.memory.batch}, {"kv_cache", options.memory.kv_cache},
              {"results", Json::array()},      {"best_fitting", Json::array()}};
    for (const Ledger& ledger : report.ledgers)
        json["results"].push_back(ledger_json(ledger, report, options.memory));
    for (const Gpu* gpu : report.gpus) {
        const auto best = best_fitting(*gpu, report.card, report.specs, options.memory);
        json["best_fitting"].push_back({{"gpu", gpu->name}, {"format", best ? Json(best->text()) : Json()}});
    }
    return json;
}

/// Two decimals, and for what is small its first three figures.
std::string figure(double value) {
    return value >= 1 || value == 0 ? fmt::format("{:.2f}", value) : fmt::format("{:.3g}", value);
}
std::string gb(double bytes) {
    return figure(bytes / 1e9);
}
std::string gib(double bytes) {
    return figure(bytes / 0x1p30);
}

std::string ledger_text(const Ledger& ledger) {
    Table table({{"format " + ledger.spec.text()}, {"GB", true}, {"GiB", true}, {"formula"}});
    for (const LedgerLine& line : ledger.lines)
        table.add({line.name, gb(line.bytes), gib(line.bytes), line.formula});
    table.add({"total", gb(ledger.total_bytes), gib(ledger.total_bytes), ""});
    table.add({"naive", gb(ledger.naive_bytes), gib(ledger.naive_bytes), "parameters × bits / 8, weights only"});
    return table.text() + (ledger.difference.empty() ? "" : ledger.difference + "\n") + "\n";
}

/// A row a GPU, a column a format: the largest context that fits.
std::string gpus_text(const Report& report, const MemoryOptions& memory) {
    std::vector<Table::Column> columns{{"GPU"}, {"GiB", true}};
    for (const FormatSpec& spec : report.specs)
        columns.push_back({spec.text(), true});
    Table table(columns);
    for (const Gpu* gpu : report.gpus) {
        std::vector<std::string> row{gpu->name, fmt::format("{:.0f}", gpu->bytes / 0x1p30)};
        for (const FormatSpec& spec : report.specs) {
            const Fit result = fit(*gpu, report.card, spec, memory);
            row.push_back(result.max_context == 0
                              ? "no"
                              : fmt::format("{}{}", result.fits ? "fits, " : "≤ ", result.max_context));
        }
        table.add(std::move(row));
    }
    return fmt::format("What fits at {} tokens and batch {}, and the largest context in tokens\n{}", memory.context,
                       memory.batch, table.text());
}

std::string count_text(std::uint64_t count) {
    const auto number = static_cast<double>(count);
    if (count >= 1'000'000'000)
        return fmt::format("{:.2f} billion", number / 1e9);
    return count >= 1'000'000 ? fmt::format("{:.2f} million", number / 1e6) : std::to_string(count);
}

std::string text(const Options& options, const Report& report) {
    std::string text =
        fmt::format("{}: {} parameters\n\n", report.card.title.empty() ? report.card.id : report.card.title,
                    count_text(report.card.parameters));
    for (const Ledger& ledger : report.ledgers)
        text += ledger_text(ledger);
    return text + gpus_text(report, options.memory);
}

} // namespace

void add_memory(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("memory", "The memory a model takes, line by line, and what fits where");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model, or a config.json");
    command->add_option("--model", options->model, "A built-in model card: llama-2-7b, 7B")->type_name("CARD");
    command->add_option("--formats", options->formats, formats_or_recipes_help)->type_name("LIST")->required();
    constexpr std::uint64_t most = std::uint64_t{1} << 24;
    command->add_option("--context", options->memory.context, "Tokens a sequence")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{1}, most))
        ->capture_default_str();
    command->add_option("--batch", options->memory.batch, "Sequences at once")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{1}, most))
        ->capture_default_str();
    command->add_option("--kv-cache", options->memory.kv_cache, "Type of the KV cache")
        ->type_name("F")
        ->check(CLI::IsMember({"fp32", "fp16", "bf16", "fp8_e4m3", "q8_0", "q4_0"}))
        ->capture_default_str();
    command->add_option("--mode", options->mode, "What the model is for")->type_name("MODE")->capture_default_str();
    command->add_option("--gpu", options->gpu, "Only this GPU of the catalogue")->type_name("NAME");
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Report report = run(*options);
            options->json ? print(document(*options, report)) : print(text(*options, report));
        };
    });
}

} // namespace qs::cli
