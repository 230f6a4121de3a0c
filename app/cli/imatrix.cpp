#include <fmt/format.h>

#include <chrono>

#include "app/cli/running.h"
#include "app/cli/text_options.h"
#include "core/model/collect_imatrix.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string checkpoint, output;
    TextOptions text;
    DeviceOptions device;
    int tokens = 0;
    bool json = false;
};

/// What one run of the command has done.
struct Run {
    std::size_t entries = 0, windows = 0, tokens = 0;
    Index context = 0;
    std::vector<std::string> left_out;
    double seconds = 0;
};

Run run(const Options& options) {
    const std::string file = options.text.file();
    const fs::path output = options.output;
    if (output.extension() != ".gguf" && output.extension() != ".dat")
        throw UsageError("--output: '" + options.output + "' ends neither in .gguf nor in .dat");
    Run run;
    const Decoder decoder(open_checkpoint(options.checkpoint));
    auto windows = options.text.windows(file, decoder, run.context);
    keep_tokens(windows, static_cast<std::size_t>(options.tokens));
    run.windows = windows.size();
    for (const auto& window : windows)
        run.tokens += window.size();
    ImatrixCollector collector(static_cast<std::uint32_t>(run.context));
    collector.add_dataset(fs::path(file).filename().string());
    const JobControl* watched = nullptr;
    RunningJob running([&watched] { return watched != nullptr ? progress_text(*watched) : std::string(); });
    watched = &running.job;
    const auto start = std::chrono::steady_clock::now();
    for (const LinearTensor& linear : collect_imatrix(decoder, windows, collector, running.job, options.device.threads))
        run.left_out.push_back(linear.name);
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    output.extension() == ".gguf" ? collector.write_gguf(output) : collector.write_binary(output);
    run.entries = collector.importance().entries.size();
    return run;
}

Json document(const Options& options, const Run& run) {
    return {{"checkpoint", options.checkpoint},
            {"output", options.output},
            {"entries", run.entries},
            {"tokens", run.tokens},
            {"windows", run.windows},
            {"context", run.context},
            {"seconds", json_number(run.seconds)},
            {"left_out", run.left_out}};
}

std::string text(const Options& options, const Run& run) {
    std::string text = fmt::format("{}: {} entries over {} tokens in {} windows of at most {}, {:.1f} s\n",
                                   options.output, run.entries, run.tokens, run.windows, run.context, run.seconds);
    for (const std::string& name : run.left_out)
        text += fmt::format("left out: {}, for which llama.cpp has no name that is known\n", name);
    return text;
}

} // namespace

void add_imatrix(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand(
        "imatrix", "Collects llama.cpp's importance matrix: how much each column of a weight counts over a text");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    options->text.add(*command, "run the model over");
    command->add_option("-o,--output", options->output, "File to write, .gguf or the older .dat")
        ->type_name("FILE")
        ->required();
    command->add_option("--tokens", options->tokens, "Run over the first N tokens only (default: all)")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
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
