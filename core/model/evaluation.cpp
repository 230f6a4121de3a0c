#include "core/model/evaluation.h"

#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/stopwatch.h"
#include "core/device/with_layer_math.h"
#include "core/model/calibrated_layers.h"
#include "core/model/evaluation_state.h"
#include "core/model/layer_runner.h"
#include "core/model/quantized_weights.h"

namespace qs {

namespace {

/// Bytes of hidden states, of all models together, that a group of windows may take.
constexpr std::size_t most_hidden_bytes = std::size_t{512} << 20;
/// Bytes of layers made by methods that are kept for later groups.
constexpr std::size_t most_kept_bytes = std::size_t{2} << 30;
/// Rows of logits that are compared at a time.
constexpr Index logit_rows = 128;

/// One variant on its way through the layers.
struct Runner {
    std::size_t variant; ///< index into the request's
    ModelState* state = nullptr;
    std::vector<Batch> batches;
    LayerWeights made;                   ///< the layer, unless it is kept
    const LayerWeights* layer = nullptr; ///< the layer that is at work
    ReadyLayer ready;                    ///< the same as it is run
    Head head;
    ReadyHead ready_head;
};

/// The layers that methods made for an earlier group, by variant.
using KeptLayers = std::map<std::size_t, std::vector<LayerWeights>>;

/// Windows that go through the layers together, and the variants that have no results of them.
struct GroupPlan {
    std::vector<std::size_t> windows;
    std::vector<std::size_t> variants;
    std::size_t tokens = 0;
};

/// What all groups of an evaluation work with.
struct Work {
    const Decoder& decoder;
    const EvaluationRequest& request;
    const QuantizedWeights& formats;
    Device& device;
    EvaluationState& state;
    JobControl& job;
    KeptLayers* kept; ///< null where they do not fit
    LayerMath* math;  ///< the device's; null where the CPU runs the models
};

/// A run of windows through all layers.
class Group {
public:
    Group(const Work& work, const GroupPlan& plan)
        : work_(work), decoder_(work.decoder), request_(work.request), job_(work.job), windows_(plan.windows),
          layers_(decoder_.config(), work.math) {
        for (const std::size_t variant : plan.variants) {
            Runner& runner = runners_.emplace_back();
            runner.variant = variant;
            runner.state = &work.state.of(request_.variants[variant]);
        }
        std::vector<Variant> by_method;
        for (Runner& runner : runners_) {
            if (kept(runner) != nullptr)
                continue;
            const Variant& variant = variant_of(runner);
            (variant.rounds_to_nearest() ? rounded_ : by_method_).push_back(&runner);
            if (!variant.rounds_to_nearest())
                by_method.push_back(variant);
        }
        for (Runner* runner : rounded_)
            runner->state->seconds = 0;
        if (!by_method_.empty())
            methods_.emplace(decoder_, std::move(by_method), request_.calibration, job_, work.math);
    }

    void run() {
        start();
        for (int layer = 0; layer < decoder_.config().layers; ++layer)
            advance(layer);
        compare();
    }

private:
    const Variant& variant_of(const Runner& runner) const { return request_.variants[runner.variant]; }

    const std::vector<LayerWeights>* kept(const Runner& runner) const {
        if (work_.kept == nullptr || !work_.kept->contains(runner.variant))
            return nullptr;
        return &work_.kept->at(runner.variant);
    }

    void start() {
        std::vector<std::vector<int>> texts;
        for (const std::size_t window : windows_)
            texts.push_back(request_.windows[window]);
        reference_ = decoder_.start(texts);
        if (request_.all_matrices)
            start_from_quantized_embeddings(texts);
        else
            for (Runner& runner : runners_)
                runner.batches = reference_;
    }

    void start_from_quantized_embeddings(const std::vector<std::vector<int>>& texts) {
        const LinearTensor tensor = decoder_.weights().embedding();
        const Matrix embedding = decoder_.weights().load(tensor);
        Matrix decoded;
        for (Runner& runner : runners_) {
            round(runner, tensor, embedding, decoded);
            runner.batches = decoder_.start(texts, &decoded);
        }
    }

    /// What the variant's format makes of a matrix, noted in the results.
    void round(Runner& runner, const LinearTensor& tensor, const Matrix& weight, Matrix& decoded) {
        const double stored_bits = work_.formats.quantize(runner.variant, tensor, weight, decoded);
        note(runner, tensor, stored_bits, errors_of(weight, decoded));
    }

    static ErrorSums errors_of(const Matrix& weight, const Matrix& decoded) {
        ErrorSums errors;
        add_errors(weight.data(), decoded.data(), 0, static_cast<std::size_t>(weight.size()), errors);
        return errors;
    }

    static void note(Runner& runner, const LinearTensor& tensor, double stored_bits, const ErrorSums& errors) {
        LinearResult& result = runner.state->linears[tensor.name];
        result.stored_bits = stored_bits;
        result.weight_error2 = errors.sum_d2;
        result.weight2 = errors.sum_w2;
        result.weights = static_cast<double>(tensor.outputs) * static_cast<double>(tensor.inputs);
    }

    /// Rounds a layer to nearest for all variants that do; matrices are small, so it is they that are shared among
    /// threads.
    void round_layer(const LayerWeights& weights) {
        struct Task {
            Runner* runner;
            const Linear* source;
            Linear* target;
            double stored_bits = 0, seconds = 0;
            ErrorSums errors = {};
        };
        std::vector<Task> tasks;
        for (Runner* runner : rounded_) {
            copy_without_matrices(weights, runner->made);
            runner->layer = &runner->made;
            for (std::size_t slot = 0; slot < slot_count; ++slot)
                if (const auto& source = weights.linears[slot])
                    tasks.push_back({runner, &*source, &*runner->made.linears[slot]});
        }
        const Stopwatch whole;
        work_.device.for_each(tasks.size(), [&](std::size_t i) {
            job_.check();
            Task& task = tasks[i];
            const Stopwatch own;
            const Linear& source = *task.source;
            const Variant& variant = variant_of(*task.runner);
            if (variant.trained) {
                task.target->weight = variant.trained->weights.at(source.tensor.tensor);
                task.stored_bits = variant.trained->bits_per_weight * static_cast<double>(source.weight.size());
            } else {
                task.stored_bits =
                    work_.formats.quantize(task.runner->variant, source.tensor, source.weight, task.target->weight);
            }
            task.target->product = rounded_product(variant.activations);
            task.seconds = own.seconds();
            task.errors = errors_of(source.weight, task.target->weight);
        });
        // Of what went on at once each variant is given its share.
        const double seconds = whole.seconds();
        double sum = 0;
        for (const Task& task : tasks)
            sum += task.seconds;
        for (const Task& task : tasks) {
            note(*task.runner, task.source->tensor, task.stored_bits, task.errors);
            task.runner->state->seconds += sum > 0 ? seconds * task.seconds / sum : 0;
        }
    }

    void apply_methods(const LayerWeights& weights) {
        if (!methods_)
            return;
        methods_->begin(weights);
        for (std::size_t i = 0; i < by_method_.size(); ++i) {
            Runner& runner = *by_method_[i];
            methods_->quantize(i, runner.made, [&](const LinearTensor& tensor, const MethodResult& result) {
                note(runner, tensor, result.bits_per_weight * static_cast<double>(result.weight.size()),
                     result.weight_error);
            });
            runner.state->seconds = methods_->seconds(i);
            runner.layer = &runner.made;
            if (work_.kept != nullptr)
                newly_kept_[runner.variant].push_back(runner.made);
        }
    }

    void advance(int layer) {
        const LayerWeights weights = decoder_.weights().layer(layer);
        round_layer(weights);
        apply_methods(weights);
        for (Runner& runner : runners_)
            if (const auto* layers = kept(runner))
                runner.layer = &(*layers)[static_cast<std::size_t>(layer)];
        LayerObserver observer;
        if (request_.layer_errors) {
            for (Runner& runner : runners_)
                layers_.prepare(*runner.layer, runner.ready);
            observer = [&](Observation& observation) { measure_outputs(observation); };
        }
        layers_.prepare(weights, reference_layer_);
        layers_.advance(reference_layer_, reference_, observer, job_);
        count_progress();
        for (Runner& runner : runners_) {
            // Without measurements there need be only one layer at a time.
            ReadyLayer& ready = request_.layer_errors ? runner.ready : reference_layer_;
            if (!request_.layer_errors)
                layers_.prepare(*runner.layer, ready);
            layers_.advance(ready, runner.batches, {}, job_);
            count_progress();
        }
    }

    /// The output error of a linear layer in each variant, on the unquantized model's inputs.
    void measure_outputs(Observation& observation) {
        const double output2 = observation.squared_outputs();
        for (Runner& runner : runners_) {
            job_.check();
            LinearResult& result = runner.state->linears[observation.tensor().name];
            result.error2 += observation.squared_error(runner.ready);
            result.output2 += output2;
        }
    }

    void compare() {
        const Head head = decoder_.load_head();
        layers_.prepare(head, reference_head_);
        for (Runner& runner : runners_)
            if (request_.all_matrices) {
                runner.head.norm = head.norm;
                round(runner, decoder_.weights().head(), head.weight, runner.head.weight);
                layers_.prepare(runner.head, runner.ready_head);
            }
        std::size_t window = 0;
        for (std::size_t batch = 0; batch < reference_.size(); ++batch)
            for (const Sequence& sequence : reference_[batch].sequences)
                compare(batch, sequence, windows_[window++]);
        if (work_.kept != nullptr)
            work_.kept->merge(newly_kept_);
    }

    void compare(std::size_t batch, const Sequence& sequence, std::size_t window) {
        TokenScores reference_scores;
        std::vector<TokenScores> scores(runners_.size());
        for (Index first = 0; first + 1 < sequence.length; first += logit_rows) {
            job_.check();
            const Index rows = std::min(logit_rows, sequence.length - 1 - first), begin = sequence.begin + first;
            const std::span<const int> targets(reference_[batch].tokens.data() + begin + 1,
                                               static_cast<std::size_t>(rows));
            reference_scores.append(layers_.refer(reference_head_, reference_[batch], begin, targets));
            for (std::size_t i = 0; i < runners_.size(); ++i) {
                const ReadyHead& own = request_.all_matrices ? runners_[i].ready_head : reference_head_;
                scores[i].append(layers_.score(own, runners_[i].batches[batch]));
            }
        }
        work_.state.reference().windows[window] = std::move(reference_scores);
        for (std::size_t i = 0; i < runners_.size(); ++i)
            runners_[i].state->windows[window] = std::move(scores[i]);
        job_.advance(static_cast<std::uint64_t>(sequence.length) * (runners_.size() + 1));
    }

    void count_progress() {
        for (const Batch& batch : reference_)
            job_.advance(batch.tokens.size());
    }

    const Work work_;
    const Decoder& decoder_;
    const EvaluationRequest& request_;
    JobControl& job_;
    std::vector<std::size_t> windows_;
    std::vector<Runner> runners_;
    std::vector<Runner*> rounded_, by_method_; ///< those of the runners whose layers are still to be made, by how
    std::optional<CalibratedLayers> methods_;  ///< of by_method_
    KeptLayers newly_kept_;
    LayerRunner layers_;
    std::vector<Batch> reference_;
    ReadyLayer reference_layer_;
    ReadyHead reference_head_;
};

std::vector<std::size_t> missing_variants(const EvaluationState& state, const EvaluationRequest& request,
                                          std::size_t window) {
    std::vector<std::size_t> missing;
    for (std::size_t variant = 0; variant < request.variants.size(); ++variant)
        if (!state.has(request.variants[variant], window))
            missing.push_back(variant);
    return missing;
}

/// Whether the layers that methods make can be kept from group to group.
bool layers_fit(const WeightReader& weights, const EvaluationRequest& request) {
    double bytes = 0;
    for (const LinearTensor& linear : weights.linears())
        bytes += static_cast<double>(linear.outputs) * static_cast<double>(linear.inputs) * sizeof(float);
    const auto made = std::ranges::count_if(request.variants, [](const auto& v) { return !v.rounds_to_nearest(); });
    return bytes * static_cast<double>(made) <= static_cast<double>(most_kept_bytes);
}

/// The work that is left: consecutive windows that the same variants have no results of, as many as memory allows.
std::vector<GroupPlan> plan_groups(const DecoderConfig& config, const EvaluationRequest& request,
                                   const EvaluationState& state, std::size_t group_tokens) {
    std::vector<GroupPlan> groups;
    for (std::size_t window = 0; window < request.windows.size(); ++window) {
        std::vector<std::size_t> variants = missing_variants(state, request, window);
        if (variants.empty() && state.has_reference(window))
            continue;
        const std::size_t a_token = (variants.size() + 1) * static_cast<std::size_t>(config.hidden) * sizeof(float);
        const std::size_t most = std::min(group_tokens, most_hidden_bytes / a_token);
        const std::size_t tokens = request.windows[window].size();
        if (groups.empty() || groups.back().variants != variants || groups.back().tokens + tokens > most)
            groups.push_back({{}, std::move(variants), 0});
        groups.back().windows.push_back(window);
        groups.back().tokens += tokens;
    }
    return groups;
}

/// Tokens times layers of all groups.
std::uint64_t steps_of(const Decoder& decoder, const EvaluationRequest& request, const std::vector<GroupPlan>& groups,
                       bool keep) {
    const auto steps = static_cast<std::uint64_t>(decoder.config().layers) + 1; // the head is one
    std::uint64_t total = 0;
    std::set<std::size_t> kept;
    for (const GroupPlan& group : groups) {
        total += steps * group.tokens * (group.variants.size() + 1);
        std::vector<Variant> made;
        for (const std::size_t variant : group.variants)
            if (!request.variants[variant].rounds_to_nearest() && (!keep || kept.insert(variant).second))
                made.push_back(request.variants[variant]);
        total += CalibratedLayers::work(decoder, made, request.calibration);
    }
    return total;
}

void check(const DecoderConfig& config, const EvaluationRequest& request) {
    if (request.windows.empty())
        throw Error("the text", "has no token to score", "give a longer text");
    for (const auto& window : request.windows)
        if (config.learned_positions && config.max_context > 0 && std::cmp_greater(window.size(), config.max_context))
            throw Error("the context", "is longer than the model's positions", "choose a smaller one");
}

Evaluation run_groups(const Decoder& decoder, const EvaluationRequest& request, Device& device, JobControl& job,
                      const std::function<void(const Evaluation&)>& on_progress) {
    const Checkpoint& checkpoint = decoder.weights().checkpoint();
    EvaluationState state(checkpoint, request);
    std::vector<FormatSpec> specs;
    for (const Variant& variant : request.variants)
        specs.push_back(variant.format);
    const QuantizedWeights formats(checkpoint, specs, device, job, request.imatrix);
    const bool keep = layers_fit(decoder.weights(), request);
    const auto any_size = std::numeric_limits<std::size_t>::max();
    const std::vector<GroupPlan> groups =
        plan_groups(decoder.config(), request, state, keep ? request.group_tokens : any_size);
    job.set_total(steps_of(decoder, request, groups, keep));
    KeptLayers kept;
    const bool again = keep && groups.size() > 1;
    for (const GroupPlan& group : groups) {
        const EvaluationState before = state;
        const std::uint64_t done = job.done();
        with_layer_math(device, [&](LayerMath* math) {
            state = before;
            job.advance(done - job.done());
            Group({decoder, request, formats, device, state, job, again ? &kept : nullptr, math}, group).run();
        });
        state.save();
        if (on_progress)
            on_progress(state.result(request.variants));
    }
    return state.result(request.variants);
}

} // namespace

double LinearResult::relative_error() const {
    return output2 > 0 ? std::sqrt(error2 / output2) : 0;
}

double LinearResult::relative_weight_error() const {
    return weight2 > 0 ? std::sqrt(weight_error2 / weight2) : 0;
}

Evaluation evaluate(const Decoder& decoder, const EvaluationRequest& request, Device& device, JobControl& job,
                    const std::function<void(const Evaluation&)>& on_progress) {
    check(decoder.config(), request);
    tbb::task_arena arena(request.threads > 0 ? request.threads : tbb::task_arena::automatic);
    return arena.execute([&] { return run_groups(decoder, request, device, job, on_progress); });
}

} // namespace qs
