#include <fmt/format.h>

#include <chrono>

#include "app/cli/running.h"
#include "app/cli/table.h"
#include "app/cli/text_options.h"
#include "core/export/huggingface_export.h"
#include "core/export/layout.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, format, method = "rtn", layout = "auto", output;
    TextOptions calibration;
    int calibration_tokens = 8192;
    bool overwrite = false, json = false;
    DeviceOptions device;
};

/// What one run of the command has done.
struct Run {
    Variant variant;
    std::string layout;
    std::size_t calibration_tokens = 0;
    ExportSummary summary;
    double seconds = 0;
};

Variant variant_of(const Options& options) {
    Variant variant;
    variant.format = parse_format_option("--format", options.format);
    variant.method = of_option("--method", [&] { return parse_method(options.method); });
    if (!is_defined(variant))
        throw UsageError("--method: " + variant.method.id + " is not defined for " + variant.format.text() +
                         "; it takes " + method(variant.method.id).formats);
    return variant;
}

std::string layout_of(const Options& options, const Variant& variant) {
    if (is_cast(variant) && (options.layout == "auto" || options.layout == "plain"))
        return "plain";
    return of_option("--layout", [&] { return layout_for(options.layout, variant).id; });
}

std::vector<std::vector<int>> calibration_windows(const Options& options, const Decoder& decoder,
                                                  const Variant& variant) {
    if (!method(variant.method.id).calibrates || variant.method.id == "llm_int8")
        return {};
    if (!options.calibration.given())
        throw UsageError("--method: " + variant.method.id +
                         " is calibrated on a text; --calibration or --ids is required");
    Index context = 0;
    auto windows = options.calibration.windows(options.calibration.file(), decoder, context);
    keep_tokens(windows, static_cast<std::size_t>(options.calibration_tokens));
    return windows;
}

Run run(const Options& options) {
    Run run;
    HuggingFaceRequest request;
    request.variant = run.variant = variant_of(options);
    request.layout = run.layout = layout_of(options, run.variant);
    request.overwrite = options.overwrite;
    request.threads = options.device.threads;
    const auto checkpoint = open_checkpoint(options.checkpoint);

    const JobControl* watched = nullptr;
    RunningJob running([&watched] { return watched != nullptr ? progress_text(*watched) : std::string(); });
    watched = &running.job;
    const auto start = std::chrono::steady_clock::now();
    if (is_cast(run.variant)) {
        run.summary = export_cast(*checkpoint, request, running.job, options.output);
    } else {
        const Decoder decoder(checkpoint);
        request.calibration = calibration_windows(options, decoder, run.variant);
        run.calibration_tokens = scored_tokens(request.calibration);
        run.summary = export_huggingface(decoder, request, running.job, options.output);
    }
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return run;
}

Json document(const Options& options, const Run& run) {
    return {{"checkpoint", options.checkpoint},
            {"output", options.output},
            {"layout", run.layout},
            {"format", run.variant.format.text()},
            {"method", run.variant.method.text()},
            {"calibration_tokens", run.calibration_tokens},
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
    table.add({options.output, run.layout, run.variant.text(), std::to_string(run.summary.tensors),
               fixed(run.summary.bits_per_weight, 4), bytes_text(static_cast<double>(run.summary.bytes)),
               fixed(run.seconds, 1)});
    std::string text = table.text();
    if (run.calibration_tokens > 0)
        text += fmt::format("calibrated on {} tokens\n", run.calibration_tokens);
    for (const std::string& note : run.summary.notes)
        text += "note: " + note + "\n";
    return text;
}

} // namespace

void add_quantize(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command =
        app.add_subcommand("quantize", "Writes a quantized checkpoint that other programs load: a Hugging Face folder");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    command->add_option("--format", options->format, "Format of the linear layers of the decoder's layers")
        ->type_name("FORMAT")
        ->required();
    command->add_option("--method", options->method, "How codes are chosen: rtn, gptq:act_order, awq, hqq, llm_int8")
        ->type_name("METHOD")
        ->capture_default_str();
    command
        ->add_option("--layout", options->layout,
                     "Layout of the safetensors: auto, bitsandbytes, gptq, awq, hqq, compressed-tensors, plain")
        ->type_name("NAME")
        ->capture_default_str();
    options->calibration.add(*command, "calibrate gptq and awq on", "--calibration");
    command->add_option("--calibration-tokens", options->calibration_tokens, "Calibrate on the first N tokens at most")
        ->type_name("N")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("-o,--output", options->output, "Folder to write")->type_name("PATH")->required();
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
