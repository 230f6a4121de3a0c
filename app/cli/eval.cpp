#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/model/evaluation.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string checkpoint, text, ids, tokenizer, formats, split, imatrix, state;
    int context = 0, tokens = 0;
    bool all_matrices = false, no_layer_errors = false, json = false;
    DeviceOptions device;
};

/// What one run of the command has found.
struct Run {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::size_t windows = 0;
    Index context = 0;
    DeviceInfo device;
    Evaluation evaluation;
    double seconds = 0;
};

std::string read_file(const std::string& path) {
    return std::string(as_text(MappedFile::open(path)->bytes()));
}

Index context_of(const Options& options, const DecoderConfig& config, bool documents) {
    return options.context > 0 ? options.context : usual_context(config, documents);
}

/// Token ids are run as they are: whoever wrote them put the BOS token where it belongs.
std::vector<std::vector<int>> windows_of_ids(const Options& options, const DecoderConfig& config, Index& context) {
    const auto documents = parse_ids(read_file(options.ids), options.ids);
    context = context_of(options, config, documents.size() > 1);
    std::vector<std::vector<int>> windows;
    for (const auto& document : documents)
        std::ranges::move(cut_windows(document, {}, context), std::back_inserter(windows));
    keep_tokens(windows, static_cast<std::size_t>(options.tokens));
    return windows;
}

std::unique_ptr<Tokenizer> tokenizer_of(const Options& options, const Checkpoint& checkpoint) {
    return options.tokenizer.empty() ? open_tokenizer(checkpoint) : open_tokenizer(fs::path(options.tokenizer));
}

std::vector<std::vector<int>> windows_of_text(const Options& options, const Decoder& decoder, Index& context) {
    const auto tokenizer = tokenizer_of(options, decoder.weights().checkpoint());
    context = context_of(options, decoder.config(), !options.split.empty());
    return text_windows(*tokenizer, decoder.config(), read_file(options.text),
                        {options.split, context, static_cast<std::size_t>(options.tokens)});
}

std::vector<std::vector<int>> windows_of(const Options& options, const Decoder& decoder, Index& context) {
    return options.ids.empty() ? windows_of_text(options, decoder, context)
                               : windows_of_ids(options, decoder.config(), context);
}

std::string progress_text(const JobControl& job) {
    const auto total = static_cast<double>(job.total()), done = static_cast<double>(job.done());
    return total > 0 ? fmt::format("{:5.1f} %", 100 * done / total) : "reading …";
}

Run run(const Options& options) {
    Run run;
    EvaluationRequest request;
    if (!options.formats.empty())
        request.specs = parse_formats_or_recipes_option("--formats", options.formats);
    request.all_matrices = options.all_matrices;
    request.layer_errors = !options.no_layer_errors;
    request.state = options.state;
    request.threads = options.device.threads;
    const auto device = options.device.make();
    run.device = device->info();
    run.checkpoint = open_checkpoint(options.checkpoint);
    const Decoder decoder(run.checkpoint);
    std::optional<ImportanceMatrix> imatrix;
    if (!options.imatrix.empty())
        request.imatrix = &imatrix.emplace(open_imatrix(options.imatrix));
    request.windows = windows_of(options, decoder, run.context);
    run.windows = request.windows.size();

    const JobControl* watched = nullptr;
    RunningJob running([&watched] { return watched != nullptr ? progress_text(*watched) : std::string(); });
    watched = &running.job;
    const auto start = std::chrono::steady_clock::now();
    run.evaluation = evaluate(decoder, request, *device, running.job);
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return run;
}

// --- output --------------------------------------------------------------------------------------------------------

/// Matrices outside the layers have no output error.
Json linears_json(const Checkpoint& checkpoint, const FormatEvaluation& format) {
    Json linears = Json::array();
    for (const auto& [name, linear] : format.linears) {
        const TensorInfo& tensor = checkpoint.tensors[*checkpoint.find(name)];
        linears.push_back({{"name", name},
                           {"role", to_string(tensor.role)},
                           {"layer", tensor.layer ? Json(*tensor.layer) : Json()},
                           {"bits_per_weight", json_number(linear.stored_bits / linear.weights)},
                           {"output_error", linear.output2 > 0 ? json_number(linear.relative_error()) : Json()}});
    }
    return linears;
}

Json result_json(const Checkpoint& checkpoint, const FormatEvaluation& format) {
    const ScoreSummary& scores = format.scores;
    return {{"format", format.spec.text()},
            {"method", "rtn"},
            {"bits_per_weight", json_number(format.bits_per_weight)},
            {"perplexity", json_number(scores.perplexity)},
            {"perplexity_stderr", json_number(scores.perplexity_stderr)},
            {"kld_mean", json_number(scores.kld_mean)},
            {"kld_median", json_number(scores.kld_median)},
            {"kld_p99", json_number(scores.kld_p99)},
            {"kld_stderr", json_number(scores.kld_stderr)},
            {"top1_agreement", json_number(scores.top1_agreement)},
            {"top1_stderr", json_number(scores.top1_stderr)},
            {"layers", linears_json(checkpoint, format)}};
}

Json document(const Run& run) {
    const ScoreSummary& reference = run.evaluation.reference;
    Json result{{"checkpoint", run.checkpoint->path.string()},
                {"tokens", reference.tokens},
                {"context", run.context},
                {"windows", run.windows},
                {"device", run.device.id},
                {"threads", run.device.threads},
                {"seconds", json_number(run.seconds)},
                {"reference",
                 {{"perplexity", json_number(reference.perplexity)},
                  {"perplexity_stderr", json_number(reference.perplexity_stderr)}}},
                {"results", Json::array()}};
    for (const FormatEvaluation& format : run.evaluation.formats)
        result["results"].push_back(result_json(*run.checkpoint, format));
    return result;
}

std::string with_error(double value, double error, int digits = 4) {
    return fmt::format("{} ± {}", fixed(value, digits), fixed(error, digits));
}

std::string text(const Run& run) {
    const ScoreSummary& reference = run.evaluation.reference;
    Table table({{"format"},
                 {"bits/weight", true},
                 {"perplexity", true},
                 {"KLD mean", true},
                 {"KLD median", true},
                 {"KLD 99 %", true},
                 {"same top token", true},
                 {"worst layer's output error"}});
    table.add({"(unquantized)", "", with_error(reference.perplexity, reference.perplexity_stderr), "", "", "", "", ""});
    for (const FormatEvaluation& format : run.evaluation.formats) {
        const ScoreSummary& scores = format.scores;
        const auto error = [](const auto& linear) { return linear.second.relative_error(); };
        const auto worst = std::ranges::max_element(format.linears, {}, error);
        table.add({format.spec.text(), fixed(format.bits_per_weight, 4),
                   with_error(scores.perplexity, scores.perplexity_stderr),
                   with_error(scores.kld_mean, scores.kld_stderr, 6), fixed(scores.kld_median, 6),
                   fixed(scores.kld_p99, 6),
                   with_error(100 * scores.top1_agreement, 100 * scores.top1_stderr, 2) + " %",
                   worst == format.linears.end() || error(*worst) == 0
                       ? ""
                       : fmt::format("{} {}", number(error(*worst), 3), worst->first)});
    }
    return fmt::format("{}\n{} tokens in {} windows of at most {}, {:.1f} s on {}\n", table.text(), reference.tokens,
                       run.windows, run.context, run.seconds, run.device.name);
}

} // namespace

void add_eval(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand(
        "eval", "Measures what formats do to a model's predictions: perplexity, KL divergence, same top token");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    auto* text_option = command->add_option("--text", options->text, "Text to predict")->type_name("FILE");
    command->add_option("--ids", options->ids, "Token ids to predict instead of a text: numbers, or JSON lists of them")
        ->type_name("FILE")
        ->excludes(text_option);
    command
        ->add_option("--formats", options->formats,
                     std::string(formats_or_recipes_help) +
                         ". They quantize the linear layers of the decoder's layers; embedding, norms and head stay "
                         "as they are")
        ->type_name("LIST")
        ->required();
    command->add_flag("--all-matrices", options->all_matrices,
                      "Quantize the token embedding and the head too, as llama-quantize does; each format then keeps "
                      "a head of its own in memory");
    command
        ->add_option("--context", options->context,
                     "Tokens of a window, BOS included (default: 512; with --split what the model takes)")
        ->type_name("N")
        ->check(CLI::Range(2, 1 << 20));
    command
        ->add_option("--split", options->split,
                     "Cut the text into documents at this string; each is stripped of white space and run on its own")
        ->type_name("STRING")
        ->needs(text_option);
    command->add_option("--tokens", options->tokens, "Score only the first N tokens (default: all)")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
    command
        ->add_option("--tokenizer", options->tokenizer,
                     "Folder or file of the tokenizer, where it is neither in the checkpoint nor beside it")
        ->type_name("PATH")
        ->needs(text_option);
    command->add_option("--imatrix", options->imatrix, imatrix_help)->type_name("FILE");
    command->add_option("--resume", options->state, "Keep results in this file, and go on from what is in it")
        ->type_name("FILE");
    command->add_flag("--no-layer-errors", options->no_layer_errors,
                      "Do not measure the output error of every linear layer, which takes about half of the time");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            if (options->text.empty() && options->ids.empty())
                throw UsageError("--text or --ids is required");
            const Run result = run(*options);
            options->json ? print(document(result)) : print(text(result));
        };
    });
}

} // namespace qs::cli
