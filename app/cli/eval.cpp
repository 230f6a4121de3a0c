#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>

#include "app/cli/running.h"
#include "app/cli/skill_scores.h"
#include "app/cli/table.h"
#include "app/cli/text_options.h"
#include "core/model/evaluation.h"
#include "core/model/text_windows.h"
#include "core/model/variants.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, formats, methods = "rtn", activations = "none", imatrix, state;
    std::string calibration, skills;
    int tokens = 0, calibration_tokens = usual_calibration_tokens;
    TextOptions text;
    bool all_matrices = false, no_layer_errors = false, json = false;
    DeviceOptions device;
};

/// What one run of the command has found.
struct Run {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::size_t windows = 0;
    Index context = 0;
    DeviceInfo device;
    Json notes;                  ///< the device's
    CalibrationText calibration; ///< empty where no method calibrates
    std::vector<Variant> left_out;
    Evaluation evaluation;
    double seconds = 0;
    std::vector<SkillScore> reference_skills;    ///< empty where none are measured
    std::vector<std::vector<SkillScore>> skills; ///< by variant; empty for those that were not asked
};

/// The text of --calibration, or the rest of the evaluated one.
/// `all` are the windows of the whole text, of which the first `evaluated` are evaluated.
CalibrationText calibration_text(const Options& options, const Decoder& decoder,
                                 const std::vector<std::vector<int>>& all, std::size_t evaluated) {
    const auto most = static_cast<std::size_t>(options.calibration_tokens);
    if (options.calibration.empty())
        return rest_of_text(all, evaluated, most);
    Index context = 0;
    return own_text(options.text.windows(options.calibration, decoder, context), options.calibration,
                    options.text.file(), most);
}

/// Every format with every method that is defined for it; what is not goes to `left_out`.
std::vector<Variant> variants_of(const Options& options, std::vector<Variant>& left_out) {
    std::vector<FormatSpec> formats;
    if (!options.formats.empty())
        formats = parse_formats_or_recipes_option("--formats", options.formats);
    const auto methods = of_option("--method", [&] { return parse_methods(options.methods); });
    const auto activations = of_option("--activations", [&] { return parse_activations(options.activations); });
    std::vector<Variant> variants;
    for (const FormatSpec& format : formats)
        for (const MethodSpec& method : methods) {
            Variant variant{format, method, activations};
            (is_defined(variant) ? variants : left_out).push_back(std::move(variant));
        }
    if (variants.empty() && !left_out.empty())
        throw UsageError("--method: none is defined for a format of --formats; " + left_out.front().method.id +
                         " takes " + method(left_out.front().method.id).formats);
    return variants;
}

/// Asks the unquantized model and every variant that can be made without an importance matrix.
void measure_skills(const Options& options, const Decoder& decoder, const EvaluationRequest& request, Device& device,
                    JobControl& job, Run& run) {
    const std::vector<Skill> skills = read_skills(options.skills);
    const auto tokenizer = options.text.open(*run.checkpoint);
    const auto scores = [&](const WeightHook& hook) {
        return score_skills(decoder, *tokenizer, skills, hook, job, &device);
    };
    run.reference_skills = scores({});
    for (const Variant& variant : request.variants) {
        auto& own = run.skills.emplace_back();
        if (!why_not(variant, true).empty())
            continue;
        const VariantWeights weights(decoder, {variant}, device, job, request.calibration);
        own = scores(weights.hook(0));
    }
}

Run run(const Options& options) {
    const std::string& file = options.text.file();
    Run run;
    EvaluationRequest request;
    request.variants = variants_of(options, run.left_out);
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
    const auto windows = options.text.windows(file, decoder, run.context);
    request.windows = windows;
    keep_tokens(request.windows, static_cast<std::size_t>(options.tokens));
    run.windows = request.windows.size();
    if (std::ranges::any_of(request.variants, [](const Variant& v) { return method(v.method.id).calibrates; }))
        run.calibration = calibration_text(options, decoder, windows, run.windows);
    request.calibration = run.calibration.windows;

    const JobControl* watched = nullptr;
    RunningJob running([&watched] { return watched != nullptr ? progress_text(*watched) : std::string(); });
    watched = &running.job;
    const auto start = std::chrono::steady_clock::now();
    run.evaluation = evaluate(decoder, request, *device, running.job);
    if (!options.skills.empty())
        measure_skills(options, decoder, request, *device, running.job, run);
    run.notes = tell_notes(*device);
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return run;
}

// --- output --------------------------------------------------------------------------------------------------------

/// Matrices outside the layers have no output error.
Json linears_json(const Checkpoint& checkpoint, const VariantResult& result) {
    Json linears = Json::array();
    for (const auto& [name, linear] : result.linears) {
        const TensorInfo& tensor = checkpoint.tensors[*checkpoint.find(name)];
        linears.push_back({{"name", name},
                           {"role", to_string(tensor.role)},
                           {"layer", tensor.layer ? Json(*tensor.layer) : Json()},
                           {"bits_per_weight", json_number(linear.stored_bits / linear.weights)},
                           {"output_error", linear.output2 > 0 ? json_number(linear.relative_error()) : Json()}});
    }
    return linears;
}

/// What the method itself does to the inputs stands in its text.
std::string activations_text(const Variant& variant) {
    return to_string(variant.rounds_inputs() ? Activations::none : variant.activations);
}

Json result_json(const Checkpoint& checkpoint, const VariantResult& result) {
    const ScoreSummary& scores = result.scores;
    return {{"format", result.variant.format.text()},
            {"method", result.variant.method.text()},
            {"activations", activations_text(result.variant)},
            {"seconds", json_number(result.seconds)},
            {"bits_per_weight", json_number(result.bits_per_weight)},
            {"perplexity", json_number(scores.perplexity)},
            {"perplexity_stderr", json_number(scores.perplexity_stderr)},
            {"kld_mean", json_number(scores.kld_mean)},
            {"kld_median", json_number(scores.kld_median)},
            {"kld_p99", json_number(scores.kld_p99)},
            {"kld_stderr", json_number(scores.kld_stderr)},
            {"top1_agreement", json_number(scores.top1_agreement)},
            {"top1_stderr", json_number(scores.top1_stderr)},
            {"layers", linears_json(checkpoint, result)}};
}

Json calibration_json(const CalibrationText& text) {
    if (text.windows.empty())
        return nullptr;
    return {{"source", text.source}, {"tokens", scored_tokens(text.windows)}, {"overlaps", text.overlaps}};
}

Json left_out_json(const std::vector<Variant>& left_out) {
    Json pairs = Json::array();
    for (const Variant& variant : left_out)
        pairs.push_back({{"format", variant.format.text()}, {"method", variant.method.text()}});
    return pairs;
}

Json document(const Run& run) {
    const ScoreSummary& reference = run.evaluation.reference;
    Json result{{"checkpoint", run.checkpoint->path.string()},
                {"tokens", reference.tokens},
                {"context", run.context},
                {"windows", run.windows},
                {"device", run.device.id},
                {"notes", run.notes},
                {"threads", run.device.threads},
                {"seconds", json_number(run.seconds)},
                {"calibration", calibration_json(run.calibration)},
                {"left_out", left_out_json(run.left_out)},
                {"reference",
                 {{"perplexity", json_number(reference.perplexity)},
                  {"perplexity_stderr", json_number(reference.perplexity_stderr)}}},
                {"results", Json::array()}};
    for (std::size_t i = 0; i < run.evaluation.variants.size(); ++i) {
        Json& variant = result["results"].emplace_back(result_json(*run.checkpoint, run.evaluation.variants[i]));
        if (!run.skills.empty())
            variant["skills"] = run.skills[i].empty() ? Json() : skills_json(run.skills[i]);
    }
    if (!run.reference_skills.empty())
        result["reference"]["skills"] = skills_json(run.reference_skills);
    return result;
}

std::string with_error(double value, double error, int digits = 4) {
    return fmt::format("{} ± {}", fixed(value, digits), fixed(error, digits));
}

std::vector<std::string> variant_row(const VariantResult& result) {
    const ScoreSummary& scores = result.scores;
    const auto error = [](const auto& linear) { return linear.second.relative_error(); };
    const auto worst = std::ranges::max_element(result.linears, {}, error);
    return {result.variant.text(),
            fixed(result.bits_per_weight, 4),
            with_error(scores.perplexity, scores.perplexity_stderr),
            with_error(scores.kld_mean, scores.kld_stderr, 6),
            fixed(scores.kld_median, 6),
            fixed(scores.kld_p99, 6),
            with_error(100 * scores.top1_agreement, 100 * scores.top1_stderr, 2) + " %",
            fixed(result.seconds, 1),
            worst == result.linears.end() || error(*worst) == 0
                ? ""
                : fmt::format("{} {}", number(error(*worst), 3), worst->first)};
}

Table results_table(const Run& run) {
    std::vector<Table::Column> columns{{"format"},
                                       {"bits/weight", true},
                                       {"perplexity", true},
                                       {"KLD mean", true},
                                       {"KLD median", true},
                                       {"KLD 99 %", true},
                                       {"same top token", true},
                                       {"seconds", true},
                                       {"worst layer's output error"}};
    for (const SkillScore& skill : run.reference_skills)
        columns.push_back({skill.name, true});
    Table table(columns);
    const auto add = [&](std::vector<std::string> row, const std::vector<SkillScore>& skills) {
        std::ranges::transform(skills, std::back_inserter(row), share_text);
        row.resize(columns.size());
        table.add(std::move(row));
    };
    const ScoreSummary& reference = run.evaluation.reference;
    add({"(unquantized)", "", with_error(reference.perplexity, reference.perplexity_stderr), "", "", "", "", "", ""},
        run.reference_skills);
    for (std::size_t i = 0; i < run.evaluation.variants.size(); ++i)
        add(variant_row(run.evaluation.variants[i]), run.skills.empty() ? std::vector<SkillScore>() : run.skills[i]);
    return table;
}

std::string text(const Run& run) {
    const ScoreSummary& reference = run.evaluation.reference;
    std::string text =
        fmt::format("{}\n{} tokens in {} windows of at most {}, {:.1f} s on {}\n", results_table(run).text(),
                    reference.tokens, run.windows, run.context, run.seconds, run.device.name);
    if (!run.calibration.windows.empty())
        text += fmt::format("calibrated on {} tokens of {}{}\n", scored_tokens(run.calibration.windows),
                            run.calibration.source,
                            run.calibration.overlaps ? ": what is measured is what was calibrated on" : "");
    for (const Variant& variant : run.left_out)
        text += fmt::format("left out: {} in {}, which takes {}\n", variant.format.text(), variant.method.id,
                            method(variant.method.id).formats);
    return text;
}

} // namespace

void add_eval(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand(
        "eval",
        "Measures what formats and methods do to a model's predictions: perplexity, KL divergence, same top token");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    options->text.add(*command, "predict");
    command
        ->add_option("--formats", options->formats,
                     std::string(formats_or_recipes_help) +
                         ". They quantize the linear layers of the decoder's layers; embedding, norms and head stay "
                         "as they are")
        ->type_name("LIST")
        ->required();
    command
        ->add_option("--method", options->methods,
                     "How codes are chosen: rtn,gptq:act_order,awq,hqq,smoothquant,llm_int8,imatrix, each with every "
                     "format that it is defined for")
        ->type_name("LIST")
        ->capture_default_str();
    command
        ->add_option("--activations", options->activations,
                     "How the inputs of the quantized layers are rounded, where the method does not say: none, int8, "
                     "fp8, mxfp8, int8_tensor")
        ->type_name("NAME")
        ->capture_default_str();
    command
        ->add_option("--calibration", options->calibration,
                     "Text (with --ids token ids) that methods are calibrated on (default: what follows the evaluated "
                     "part of the text, or else the evaluated text)")
        ->type_name("FILE");
    add_calibration_tokens_option(*command, options->calibration_tokens);
    command->add_flag("--all-matrices", options->all_matrices,
                      "Quantize the token embedding and the head too, as llama-quantize does, whatever the method to "
                      "nearest; each variant then keeps a head of its own in memory");
    command->add_option("--tokens", options->tokens, "Score only the first N tokens (default: all)")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
    command->add_option("--imatrix", options->imatrix, imatrix_help)->type_name("FILE");
    command->add_option("--resume", options->state, "Keep results in this file, and go on from what is in it")
        ->type_name("FILE");
    command->add_flag("--no-layer-errors", options->no_layer_errors,
                      "Do not measure the output error of every linear layer, which takes about half of the time");
    add_skills_option(*command, options->skills);
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Run result = run(*options);
            options->json ? print(document(result)) : print(text(result));
        };
    });
}

} // namespace qs::cli
