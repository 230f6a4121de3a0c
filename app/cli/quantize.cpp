#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "app/cli/running.h"
#include "app/cli/table.h"
#include "app/cli/text_options.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/export/gguf_export.h"
#include "core/export/huggingface_export.h"
#include "core/export/layout.h"
#include "core/model/collect_imatrix.h"
#include "core/model/skills.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string checkpoint, format, recipe, method = "rtn", imatrix, layout = "auto", output;
    std::vector<std::string> tensor_types;
    TextOptions calibration;
    int calibration_tokens = usual_calibration_tokens;
    bool overwrite = false, json = false;
    DeviceOptions device;
};

/// What is to be written.
struct Plan {
    Variant variant;
    std::vector<TensorTypeRule> rules;
    std::string layout;
};

/// What one run of the command has done.
struct Run {
    Plan plan;
    std::size_t calibration_tokens = 0;
    std::string calibration_source; ///< file
    std::string read_by;            ///< programs
    ExportSummary summary;
    double seconds = 0;
};

// --- the plan ------------------------------------------------------------------------------------------------------

FormatSpec parse_format(const std::string& text) {
    const auto formats = parse_formats_or_recipes_option("--format", text);
    if (formats.size() != 1)
        throw UsageError("--format: takes one format, not " + std::to_string(formats.size()));
    return formats.front();
}

/// The format, and rules for single tensors: those of --tensor-type before those of --recipe.
Plan read_formats(const Options& options) {
    Plan plan;
    for (const std::string& rules : options.tensor_types)
        for (TensorTypeRule& rule : of_option("--tensor-type", [&] { return parse_tensor_types(rules, ""); }))
            plan.rules.push_back(std::move(rule));
    std::optional<FormatSpec> format;
    if (!options.recipe.empty()) {
        RecipeFile recipe = read_recipe_file(options.recipe);
        format = recipe.format;
        std::ranges::move(recipe.rules, std::back_inserter(plan.rules));
    }
    if (!options.format.empty())
        format = parse_format(options.format);
    if (!format)
        throw UsageError("--format is required, unless the file of --recipe names one");
    plan.variant.format = *format;
    return plan;
}

bool is_gguf(const Options& options) {
    return options.layout == "gguf" || (options.layout == "auto" && fs::path(options.output).extension() == ".gguf");
}

/// How a folder is laid out. Throws UsageError where it cannot hold what is asked for.
std::string folder_layout(const Options& options, const Plan& plan) {
    if (!plan.rules.empty())
        throw UsageError("--recipe, --tensor-type: only GGUF has formats of single tensors; name the output OUT.gguf");
    if (!options.imatrix.empty())
        throw UsageError("--imatrix: only ggml's formats use it; name the output OUT.gguf");
    if (is_cast(plan.variant) && (options.layout == "auto" || options.layout == "plain"))
        return "plain";
    if (options.layout == "plain")
        throw UsageError("--layout: plain stores fp32, fp16 and bf16, not " + plan.variant.text());
    return of_option(options.layout == "auto" ? "--format" : "--layout",
                     [&] { return layout_for(options.layout, plan.variant).id; });
}

Plan plan_of(const Options& options) {
    Plan plan = read_formats(options);
    plan.variant.method = of_option("--method", [&] { return parse_method(options.method); });
    const MethodSpec& method = plan.variant.method;
    if (is_gguf(options)) {
        if (method.id != "rtn" && method.id != "imatrix")
            throw UsageError("--method: GGUF is written by rtn or imatrix, not by " + method.id);
        plan.layout = "gguf";
        return plan;
    }
    if (!is_defined(plan.variant))
        throw UsageError(fmt::format("--method: {} is not defined for {}; it takes {}", method.id,
                                     plan.variant.format.text(), qs::method(method.id).formats));
    plan.layout = folder_layout(options, plan);
    return plan;
}

/// The windows of the text that the command names, or else of one that lies beside the model or is the program's own;
/// `source` becomes its file.
std::vector<std::vector<int>> calibration_windows(const Options& options, const Decoder& decoder, Index& context,
                                                  std::string& source) {
    TextOptions text = options.calibration;
    if (!text.given()) {
        text.text = usual_text(decoder.weights().checkpoint()).string();
        text.split = usual_separator(as_text(MappedFile::open(text.text)->bytes()));
    }
    source = text.file();
    auto windows = text.windows(source, decoder, context);
    keep_tokens(windows, static_cast<std::size_t>(options.calibration_tokens));
    return windows;
}

// --- the work ------------------------------------------------------------------------------------------------------

/// Runs work(job) with its progress shown.
template <class Work>
auto with_progress(const Work& work) {
    const JobControl* watched = nullptr;
    RunningJob running([&watched] { return watched != nullptr ? progress_text(*watched) : std::string(); });
    watched = &running.job;
    return work(running.job);
}

/// That of --imatrix, or with --method imatrix one collected over the calibration text.
std::optional<ImportanceMatrix> importance_of(const Options& options, const std::shared_ptr<const Checkpoint>& model,
                                              Run& run) {
    if (!options.imatrix.empty())
        return open_imatrix(options.imatrix);
    if (run.plan.variant.method.id != "imatrix")
        return std::nullopt;
    const Decoder decoder(model);
    Index context = 0;
    const auto windows = calibration_windows(options, decoder, context, run.calibration_source);
    run.calibration_tokens = scored_tokens(windows);
    ImatrixCollector collector(static_cast<std::uint32_t>(context));
    collector.add_dataset(fs::path(run.calibration_source).filename().string());
    with_progress(
        [&](JobControl& job) { return collect_imatrix(decoder, windows, collector, job, options.device.threads); });
    return collector.importance();
}

void write_gguf(const Options& options, const std::shared_ptr<const Checkpoint>& checkpoint, Run& run) {
    const fs::path output = options.output;
    if (!options.overwrite && fs::exists(output))
        throw Error(output.string(), "is there already", "name another file, or pass --overwrite");
    std::error_code absent;
    if (fs::equivalent(checkpoint->path, output, absent))
        throw Error(output.string(), "is the checkpoint itself", "name another file");
    AtomicFile file(output);
    const auto device = options.device.make();
    const auto importance = importance_of(options, checkpoint, run);
    const GgufRequest request{run.plan.variant.format, importance ? &*importance : nullptr, run.plan.rules, {}};
    run.summary = with_progress([&](JobControl& job) { return export_gguf(checkpoint, request, *device, job, file); });
    std::ranges::move(device->notes(), std::back_inserter(run.summary.notes));
}

void write_folder(const Options& options, const std::shared_ptr<const Checkpoint>& checkpoint, Run& run) {
    HuggingFaceRequest request;
    request.variant = run.plan.variant;
    request.layout = run.plan.layout;
    request.overwrite = options.overwrite;
    request.threads = options.device.threads;
    if (run.plan.layout == "plain") {
        run.summary =
            with_progress([&](JobControl& job) { return export_cast(*checkpoint, request, job, options.output); });
        return;
    }
    const Decoder decoder(checkpoint);
    const MethodSpec& method = request.variant.method;
    if (qs::method(method.id).calibrates && method.id != "llm_int8") {
        Index context = 0;
        request.calibration = calibration_windows(options, decoder, context, run.calibration_source);
    }
    run.calibration_tokens = scored_tokens(request.calibration);
    run.summary =
        with_progress([&](JobControl& job) { return export_huggingface(decoder, request, job, options.output); });
    if (options.device.device.starts_with("cuda"))
        run.summary.notes.emplace_back("folders are quantized on the CPU");
}

/// What loads the output.
std::string reader_of(const Plan& plan, const Checkpoint& checkpoint) {
    if (plan.layout == "gguf")
        return "llama.cpp";
    if (plan.layout != "plain")
        return layout_for(plan.layout, plan.variant).read_by;
    return checkpoint.config != nullptr ? "transformers" : "what reads safetensors";
}

Run run(const Options& options) {
    Run run{plan_of(options), 0, {}, {}, {}, 0};
    const auto start = std::chrono::steady_clock::now();
    const auto checkpoint = open_checkpoint(options.checkpoint);
    run.read_by = reader_of(run.plan, *checkpoint);
    run.plan.layout == "gguf" ? write_gguf(options, checkpoint, run) : write_folder(options, checkpoint, run);
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return run;
}

// --- output --------------------------------------------------------------------------------------------------------

Json document(const Options& options, const Run& run) {
    return {{"checkpoint", options.checkpoint},
            {"output", options.output},
            {"layout", run.plan.layout},
            {"loads_in", run.read_by},
            {"format", run.plan.variant.format.text()},
            {"method", run.plan.variant.method.text()},
            {"calibration_tokens", run.calibration_tokens},
            {"calibration_text", run.calibration_source.empty() ? Json() : Json(run.calibration_source)},
            {"tensors", run.summary.tensors},
            {"bytes", run.summary.bytes},
            {"bits_per_weight", json_number(run.summary.bits_per_weight)},
            {"seconds", json_number(run.seconds)},
            {"notes", run.summary.notes}};
}

std::string text(const Options& options, const Run& run) {
    Table table({{"written"},
                 {"layout"},
                 {"format"},
                 {"tensors", true},
                 {"bits/weight", true},
                 {"size", true},
                 {"seconds", true}});
    table.add({options.output, run.plan.layout, run.plan.variant.text(), std::to_string(run.summary.tensors),
               fixed(run.summary.bits_per_weight, 4), bytes_text(static_cast<double>(run.summary.bytes)),
               fixed(run.seconds, 1)});
    std::string text = table.text() + "loads in " + run.read_by + "\n";
    if (run.calibration_tokens > 0)
        text += fmt::format("calibrated on {} tokens of {}\n", run.calibration_tokens, run.calibration_source);
    for (const std::string& note : run.summary.notes)
        text += "note: " + note + "\n";
    return text;
}

std::string layouts_help() {
    std::string help = "How the output is laid out: gguf, plain (fp32, fp16, bf16)";
    for (const LayoutEntry& entry : layouts())
        help += fmt::format(", {} ({})", entry.id, entry.stores);
    return help + "; auto: what the output's name, the format and the method ask for";
}

void add_formats(CLI::App& command, Options& options) {
    command
        .add_option("--format", options.format,
                    "Format, or llama-quantize's mixture for GGUF. In a folder it quantizes the linear layers of the "
                    "decoder's layers; embedding, norms and head stay in 16 bits")
        ->type_name("FORMAT");
    command
        .add_option("--recipe", options.recipe,
                    "GGUF: formats of single tensors, as JSON {\"format\": FORMAT, \"tensors\": {PATTERN: FORMAT}} or "
                    "a file of llama-quantize's --tensor-type lines")
        ->type_name("FILE");
    command.add_option("--tensor-type", options.tensor_types, "GGUF: the format of the tensors that a pattern fits")
        ->type_name("PATTERN=TYPE");
    command
        .add_option("--method", options.method,
                    "How codes are chosen: rtn, gptq:act_order, awq, hqq, llm_int8, as eval takes them; GGUF: rtn, or "
                    "imatrix over the calibration text")
        ->type_name("METHOD")
        ->capture_default_str();
    command.add_option("--imatrix", options.imatrix, std::string("GGUF: ") + imatrix_help)->type_name("FILE");
    command.add_option("--layout", options.layout, layouts_help())->type_name("NAME")->capture_default_str();
}

} // namespace

void add_quantize(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand(
        "quantize", "Writes a quantized checkpoint that other programs load: GGUF for llama.cpp, or a Hugging Face "
                    "folder in the layout of bitsandbytes, GPTQ, AWQ, HQQ or compressed-tensors");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    add_formats(*command, *options);
    options->calibration.add(
        *command, "calibrate gptq, awq and imatrix on (default: one beside the model, or one of the program's own)",
        "--calibration");
    add_calibration_tokens_option(*command, options->calibration_tokens);
    command->add_option("-o,--output", options->output, "OUT.gguf, or the folder to write")
        ->type_name("PATH")
        ->required();
    command->add_flag("--overwrite", options->overwrite, "Replace what is there");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Run result = run(*options);
            options->json ? print(document(*options, result)) : print(text(*options, result));
        };
    });
}

} // namespace qs::cli
