#include <fmt/format.h>

#include <cmath>
#include <mutex>
#include <optional>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/skill_scores.h"
#include "app/cli/table.h"
#include "app/cli/text_options.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/export/write_trained.h"
#include "core/methods/qat.h"
#include "core/model/quantized_weights.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint, text, eval_text, skills, tokenizer, format, split, loss = "teacher", step_size = "fitted",
                                                                               output;
    int context = 0;
    bool write_master = false, json = false;
    QatRequest request;
    DeviceOptions device;
};

/// A model with some of its weights, measured.
struct Measured {
    std::string name;
    ScoreSummary scores;
    std::vector<SkillScore> skills;
};

struct Run {
    std::shared_ptr<const Checkpoint> checkpoint;
    FormatSpec format;
    std::size_t training_tokens = 0, validation_tokens = 0;
    DeviceInfo device;
    Json notes = Json::array(); ///< the device's
    QatResult result;
    std::vector<Measured> measured; ///< unquantized, rounded, trained
};

std::string read_file(const std::string& path) {
    return std::string(as_text(MappedFile::open(path)->bytes()));
}

std::string curve_line(const QatPoint& point) {
    const bool validated = !std::isnan(point.validation_perplexity);
    return fmt::format("{:5}  loss {:>7}  validation loss {:>7}  perplexity {:>8}  learning rate {:.2e}  {:6.1f} s",
                       point.step, fixed(point.loss, 4), validated ? fixed(point.validation_loss, 4) : "",
                       validated ? fixed(point.validation_perplexity, 4) : "", point.learning_rate, point.seconds);
}

/// The last point of the curve, as the line that tells how far the job is.
class Status {
public:
    void set(const QatPoint& point) {
        const std::lock_guard lock(mutex_);
        text_ = curve_line(point);
    }
    std::string text() {
        const std::lock_guard lock(mutex_);
        return text_;
    }

private:
    std::mutex mutex_;
    std::string text_ = "quantizing …";
};

/// Measures the model on another text, or on the windows it was validated with, and on skills if there are any.
class Measuring {
public:
    Measuring(const Options& options, const Decoder& decoder, const Tokenizer& tokenizer,
              std::vector<std::vector<int>> windows, Device& device)
        : options_(options), decoder_(decoder), tokenizer_(tokenizer), windows_(std::move(windows)), device_(device) {
        if (!options.skills.empty())
            skills_ = read_skills(options.skills);
    }

    Measured of(const std::string& name, const WeightHook& hook) const {
        JobControl job;
        Measured measured{name, score_weights(decoder_, hook, windows_, device_, job, options_.request.threads), {}};
        if (!skills_.empty())
            measured.skills = score_skills(decoder_, tokenizer_, skills_, hook, job, &device_);
        return measured;
    }

private:
    const Options& options_;
    const Decoder& decoder_;
    const Tokenizer& tokenizer_;
    std::vector<std::vector<int>> windows_;
    Device& device_;
    std::vector<Skill> skills_;
};

Run run(const Options& options) {
    Run run;
    QatRequest request = options.request;
    request.format = run.format = parse_formats_or_recipes_option("--format", options.format).at(0);
    request.learned_steps = options.step_size == "learned";
    request.loss = options.loss == "text" ? QatLoss::text : QatLoss::teacher;
    request.threads = options.device.threads;
    const auto device = options.device.make();
    run.device = device->info();
    run.checkpoint = open_checkpoint(options.checkpoint);
    const Decoder decoder(run.checkpoint);
    // What cannot be written is found out before the work begins.
    std::optional<AtomicFile> output;
    if (!options.output.empty()) {
        check_writable(decoder, options.output);
        output.emplace(options.output);
    }
    const auto tokenizer = open_chosen_tokenizer(options.tokenizer, *run.checkpoint);
    const auto windows = [&](const std::string& file) {
        return text_windows(*tokenizer, decoder.config(), read_file(file), {options.split, options.context, 0});
    };
    split_windows(windows(options.text), validate_every_window, most_validation_tokens, request);
    run.training_tokens = scored_tokens(request.training);
    run.validation_tokens = scored_tokens(request.validation);

    const Measuring measuring(options, decoder, *tokenizer,
                              options.eval_text.empty() ? request.validation : windows(options.eval_text), *device);
    Status status;
    {
        RunningJob running([&status] { return status.text(); });
        run.result = train_qat(decoder, request, *device, running.job, [&](const QatPoint& point) {
            status.set(point);
            if (!options.json && !std::isnan(point.validation_perplexity))
                print(curve_line(point) + "\n");
        });
    }
    JobControl job;
    const std::vector<FormatSpec> specs{run.format};
    const QuantizedWeights rounded(*run.checkpoint, specs, *device, job);
    run.measured = {measuring.of("unquantized", {}), measuring.of("rtn", rounded.hook(0)),
                    measuring.of("qat", run.result.hook())};
    run.notes = tell_notes(*device);
    if (output)
        write_trained(decoder, options.write_master ? run.result.master_hook() : run.result.hook(), *output,
                      options.output, *device, job);
    return run;
}

// --- output --------------------------------------------------------------------------------------------------------

Json point_json(const QatPoint& point) {
    return {{"step", point.step},
            {"loss", std::isnan(point.loss) ? Json() : json_number(point.loss)},
            {"validation_loss", std::isnan(point.validation_loss) ? Json() : json_number(point.validation_loss)},
            {"validation_perplexity",
             std::isnan(point.validation_perplexity) ? Json() : json_number(point.validation_perplexity)},
            {"learning_rate", json_number(point.learning_rate)},
            {"seconds", json_number(point.seconds)}};
}

Json measured_json(const Measured& measured) {
    return {{"method", measured.name},
            {"perplexity", json_number(measured.scores.perplexity)},
            {"perplexity_stderr", json_number(measured.scores.perplexity_stderr)},
            {"kld_mean", json_number(measured.scores.kld_mean)},
            {"kld_stderr", json_number(measured.scores.kld_stderr)},
            {"top1_agreement", json_number(measured.scores.top1_agreement)},
            {"skills", skills_json(measured.skills)}};
}

Json document(const Run& run) {
    Json result{{"checkpoint", run.checkpoint->path.string()},
                {"format", run.format.text()},
                {"bits_per_weight", json_number(run.result.bits_per_weight)},
                {"training_tokens", run.training_tokens},
                {"validation_tokens", run.validation_tokens},
                {"tokens", run.measured[0].scores.tokens},
                {"device", run.device.id},
                {"notes", run.notes},
                {"threads", run.device.threads},
                {"learning_rate", json_number(run.result.learning_rate)},
                {"best_step", run.result.best_step},
                {"stopped", run.result.stopped},
                {"curve", Json::array()},
                {"results", Json::array()}};
    for (const QatPoint& point : run.result.curve)
        result["curve"].push_back(point_json(point));
    for (const Measured& measured : run.measured)
        result["results"].push_back(measured_json(measured));
    return result;
}

std::string text(const Run& run) {
    std::vector<Table::Column> columns{{"weights"}, {"perplexity", true}, {"KLD mean", true}, {"same top token", true}};
    for (const SkillScore& skill : run.measured[0].skills)
        columns.push_back({skill.name, true});
    Table table(columns);
    for (const Measured& measured : run.measured) {
        const ScoreSummary& scores = measured.scores;
        std::vector<std::string> row{
            measured.name == "unquantized" ? measured.name : run.format.text() + " · " + measured.name,
            fmt::format("{} ± {}", fixed(scores.perplexity, 4), fixed(scores.perplexity_stderr, 4)),
            fmt::format("{} ± {}", fixed(scores.kld_mean, 6), fixed(scores.kld_stderr, 6)),
            fixed(100 * scores.top1_agreement, 2) + " %"};
        for (const SkillScore& skill : measured.skills)
            row.push_back(share_text(skill));
        table.add(std::move(row));
    }
    const QatResult& result = run.result;
    return fmt::format(
        "\n{}\n{:.4f} bits/weight; learning rate {}; best at step {}{}; {} tokens trained on, {} validated with, {} "
        "measured; {:.1f} s of training on {}\n",
        table.text(), result.bits_per_weight, number(result.learning_rate, 3), result.best_step,
        result.stopped ? " (stopped)" : "", run.training_tokens, run.validation_tokens, run.measured[0].scores.tokens,
        result.curve.back().seconds, run.device.name);
}

void add_training_options(CLI::App& command, QatRequest& request) {
    command.add_option("--steps", request.steps, "Updates of the weights")
        ->capture_default_str()
        ->type_name("N")
        ->check(CLI::PositiveNumber);
    command.add_option("--batch", request.batch, "Windows of a step")
        ->capture_default_str()
        ->type_name("N")
        ->check(CLI::PositiveNumber);
    command
        .add_option("--learning-rate", request.learning_rate,
                    "The highest: it climbs there over a tenth of the steps and falls along a cosine (default: a 64th "
                    "of the root mean square of what rounding does to the weights)")
        ->type_name("RATE")
        ->check(CLI::PositiveNumber);
    command.add_option("--weight-decay", request.adamw.decay, "Decay of the weights, times the learning rate a step")
        ->capture_default_str()
        ->type_name("DECAY")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--seed", request.seed, "Seed of the order of the windows")
        ->capture_default_str()
        ->type_name("N");
}

} // namespace

void add_qat(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand(
        "qat", "Trains a model's weights for a format (quantization-aware training) on a text; Ctrl-C stops the "
               "training and keeps the best weights so far");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    command->add_option("--text", options->text, "Text to train on; every tenth window is held back to choose by")
        ->type_name("FILE")
        ->required();
    command
        ->add_option("--format", options->format,
                     "Format or recipe to train for, as eval takes them. It quantizes the linear layers of the "
                     "decoder's layers; the rest stays as it is")
        ->type_name("FORMAT")
        ->required();
    add_training_options(*command, options->request);
    command
        ->add_option("--loss", options->loss,
                     "teacher: learn to predict what the unquantized model predicts; text: learn to predict the text")
        ->capture_default_str()
        ->check(CLI::IsMember({"teacher", "text"}));
    command
        ->add_option("--step-size", options->step_size,
                     "fitted: scales follow the weights, as in quantizing them; learned: they are trained too (LSQ; "
                     "symmetric integers)")
        ->capture_default_str()
        ->check(CLI::IsMember({"fitted", "learned"}));
    add_context_option(*command, options->context);
    command
        ->add_option("--split", options->split,
                     "Cut the texts into documents at this string; each is stripped of white space and run on its own")
        ->type_name("STRING");
    command
        ->add_option("--eval-text", options->eval_text,
                     "Text to measure the result on (default: the windows that were held back)")
        ->type_name("FILE");
    add_skills_option(*command, options->skills);
    add_tokenizer_option(*command, options->tokenizer);
    command
        ->add_option("-o,--output", options->output,
                     "Write the trained weights, as the format made them, to this safetensors or .gguf file")
        ->type_name("FILE");
    command->add_flag("--master", options->write_master,
                      "Write the weights before the format instead, to be quantized by other programs");
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
