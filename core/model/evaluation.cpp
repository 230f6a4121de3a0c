#include "core/model/evaluation.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/model/evaluation_state.h"
#include "core/model/product.h"
#include "core/model/quantized_weights.h"

namespace qs {

namespace {

/// Bytes of hidden states, of all models together, that a group of windows may take.
constexpr std::size_t most_hidden_bytes = std::size_t{512} << 20;
/// Rows of logits that are compared at a time.
constexpr Index logit_rows = 128;

double sum_of_squares(const Matrix& values) {
    std::vector<double> rows(static_cast<std::size_t>(values.rows()));
    tbb::parallel_for(Index{0}, values.rows(), [&](Index row) {
        rows[static_cast<std::size_t>(row)] = values.row(row).cast<double>().squaredNorm();
    });
    return std::accumulate(rows.begin(), rows.end(), 0.0);
}

/// One format on its way through the layers.
struct Variant {
    std::size_t spec; ///< index into the request's
    ModelState* state = nullptr;
    std::vector<Batch> batches;
    LayerWeights weights;
    Head head;
};

/// Everything of a layer but the matrices, whose memory is kept for new ones.
void copy_vectors(const LayerWeights& from, LayerWeights& to) {
    to.layer = from.layer;
    for (std::size_t slot = 0; slot < slot_count; ++slot) {
        if (!from.linears[slot])
            continue;
        if (!to.linears[slot])
            to.linears[slot].emplace();
        to.linears[slot]->tensor = from.linears[slot]->tensor;
        to.linears[slot]->bias = from.linears[slot]->bias;
    }
    for (const auto norm :
         {&LayerWeights::attention_norm, &LayerWeights::attention_output_norm, &LayerWeights::mlp_norm,
          &LayerWeights::mlp_output_norm, &LayerWeights::q_norm, &LayerWeights::k_norm})
        to.*norm = from.*norm;
}

/// Windows that go through the layers together, and the formats that have no results of them.
struct GroupPlan {
    std::vector<std::size_t> windows;
    std::vector<std::size_t> specs;
    std::size_t tokens = 0;
};

/// A run of windows through all layers.
class Group {
public:
    Group(const Decoder& decoder, const EvaluationRequest& request, const QuantizedWeights& formats, Device& device,
          EvaluationState& state, JobControl& job, const GroupPlan& plan)
        : decoder_(decoder), request_(request), formats_(formats), device_(device), state_(state), job_(job),
          windows_(plan.windows) {
        for (const std::size_t spec : plan.specs)
            variants_.push_back({spec, &state.of(request.specs[spec]), {}, {}, {}});
    }

    void run() {
        start();
        for (int layer = 0; layer < decoder_.config().layers; ++layer)
            advance(layer);
        compare();
    }

private:
    void start() {
        std::vector<std::vector<int>> texts;
        for (const std::size_t window : windows_)
            texts.push_back(request_.windows[window]);
        reference_ = decoder_.start(texts);
        if (request_.all_matrices)
            start_from_quantized_embeddings(texts);
        else
            for (Variant& variant : variants_)
                variant.batches = reference_;
    }

    void start_from_quantized_embeddings(const std::vector<std::vector<int>>& texts) {
        const LinearTensor tensor = decoder_.weights().embedding();
        const Matrix embedding = decoder_.weights().load(tensor);
        Matrix decoded;
        for (Variant& variant : variants_) {
            quantize(variant, tensor, embedding, decoded);
            variant.batches = decoder_.start(texts, &decoded);
        }
    }

    /// What the variant's format makes of a matrix, noted in the results.
    void quantize(Variant& variant, const LinearTensor& tensor, const Matrix& weight, Matrix& decoded) {
        note(variant, tensor, formats_.quantize(variant.spec, tensor, weight, decoded));
    }

    static void note(Variant& variant, const LinearTensor& tensor, double stored_bits) {
        LinearResult& result = variant.state->linears[tensor.name];
        result.stored_bits = stored_bits;
        result.weights = static_cast<double>(tensor.outputs) * static_cast<double>(tensor.inputs);
    }

    /// Quantizes a layer into all formats; matrices are small, so it is they that are shared among threads.
    void quantize_layer(const LayerWeights& weights) {
        struct Task {
            Variant* variant;
            const Linear* source;
            Linear* target;
            double stored_bits;
        };
        std::vector<Task> tasks;
        for (Variant& variant : variants_) {
            copy_vectors(weights, variant.weights);
            for (std::size_t slot = 0; slot < slot_count; ++slot)
                if (const auto& source = weights.linears[slot])
                    tasks.push_back({&variant, &*source, &*variant.weights.linears[slot], 0});
        }
        device_.for_each(tasks.size(), [&](std::size_t i) {
            job_.check();
            Task& task = tasks[i];
            task.stored_bits =
                formats_.quantize(task.variant->spec, task.source->tensor, task.source->weight, task.target->weight);
        });
        for (const Task& task : tasks)
            note(*task.variant, task.source->tensor, task.stored_bits);
    }

    void advance(int layer) {
        const LayerWeights weights = decoder_.weights().layer(layer);
        quantize_layer(weights);
        LinearObserver observer;
        if (request_.layer_errors)
            observer = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs) {
                measure_outputs(tensor, inputs, outputs);
            };
        decoder_.advance(weights, reference_, activations_, observer, job_);
        count_progress();
        for (Variant& variant : variants_) {
            decoder_.advance(variant.weights, variant.batches, activations_, {}, job_);
            count_progress();
        }
    }

    /// The output error of a linear layer in each format, on the unquantized model's inputs.
    void measure_outputs(const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs) {
        const double output2 = sum_of_squares(outputs);
        for (Variant& variant : variants_) {
            job_.check();
            const auto same = [&](const auto& linear) { return linear && linear->tensor.tensor == tensor.tensor; };
            const auto linear = std::ranges::find_if(variant.weights.linears, same);
            multiply(inputs, (*linear)->weight, quantized_outputs_);
            quantized_outputs_ -= outputs;
            LinearResult& result = variant.state->linears[tensor.name];
            result.error2 += sum_of_squares(quantized_outputs_);
            result.output2 += output2;
        }
    }

    void compare() {
        const Head head = decoder_.load_head();
        for (Variant& variant : variants_)
            if (request_.all_matrices) {
                variant.head.norm = head.norm;
                quantize(variant, decoder_.weights().head(), head.weight, variant.head.weight);
            }
        std::size_t window = 0;
        for (std::size_t batch = 0; batch < reference_.size(); ++batch)
            for (const Sequence& sequence : reference_[batch].sequences)
                compare(head, batch, sequence, windows_[window++]);
    }

    void compare(const Head& head, std::size_t batch, const Sequence& sequence, std::size_t window) {
        TokenScores reference_scores;
        std::vector<TokenScores> scores(variants_.size());
        for (Index first = 0; first + 1 < sequence.length; first += logit_rows) {
            job_.check();
            const Index rows = std::min(logit_rows, sequence.length - 1 - first), begin = sequence.begin + first;
            const std::span<const int> targets(reference_[batch].tokens.data() + begin + 1,
                                               static_cast<std::size_t>(rows));
            const Distributions reference = distributions(head, reference_[batch], begin, rows);
            reference_scores.append(score(reference, reference, targets));
            for (std::size_t i = 0; i < variants_.size(); ++i) {
                const Head& own = request_.all_matrices ? variants_[i].head : head;
                const Distributions model = distributions(own, variants_[i].batches[batch], begin, rows);
                scores[i].append(score(model, reference, targets));
            }
        }
        state_.reference().windows[window] = std::move(reference_scores);
        for (std::size_t i = 0; i < variants_.size(); ++i)
            variants_[i].state->windows[window] = std::move(scores[i]);
        job_.advance(static_cast<std::uint64_t>(sequence.length) * (variants_.size() + 1));
    }

    Distributions distributions(const Head& head, const Batch& batch, Index begin, Index rows) const {
        Matrix logits;
        decoder_.logits(head, batch.hidden.middleRows(begin, rows), logits);
        return Distributions(std::move(logits));
    }

    void count_progress() {
        for (const Batch& batch : reference_)
            job_.advance(batch.tokens.size());
    }

    const Decoder& decoder_;
    const EvaluationRequest& request_;
    const QuantizedWeights& formats_;
    Device& device_;
    EvaluationState& state_;
    JobControl& job_;
    std::vector<std::size_t> windows_;
    std::vector<Variant> variants_;
    std::vector<Batch> reference_;
    LayerActivations activations_;
    Matrix quantized_outputs_;
};

std::vector<std::size_t> missing_specs(const EvaluationState& state, const EvaluationRequest& request,
                                       std::size_t window) {
    std::vector<std::size_t> missing;
    for (std::size_t spec = 0; spec < request.specs.size(); ++spec)
        if (!state.has(request.specs[spec], window))
            missing.push_back(spec);
    return missing;
}

/// The work that is left: consecutive windows that the same formats have no results of, as many as memory allows.
std::vector<GroupPlan> plan_groups(const DecoderConfig& config, const EvaluationRequest& request,
                                   const EvaluationState& state) {
    std::vector<GroupPlan> groups;
    for (std::size_t window = 0; window < request.windows.size(); ++window) {
        std::vector<std::size_t> specs = missing_specs(state, request, window);
        if (specs.empty() && state.has_reference(window))
            continue;
        const std::size_t a_token = (specs.size() + 1) * static_cast<std::size_t>(config.hidden) * sizeof(float);
        const std::size_t most = std::min(request.group_tokens, most_hidden_bytes / a_token);
        const std::size_t tokens = request.windows[window].size();
        if (groups.empty() || groups.back().specs != specs || groups.back().tokens + tokens > most)
            groups.push_back({{}, std::move(specs), 0});
        groups.back().windows.push_back(window);
        groups.back().tokens += tokens;
    }
    return groups;
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
    const QuantizedWeights formats(checkpoint, request.specs, device, job, request.imatrix);
    const std::vector<GroupPlan> groups = plan_groups(decoder.config(), request, state);
    const auto steps = static_cast<std::uint64_t>(decoder.config().layers) + 1; // the head is one
    std::uint64_t total = 0;
    for (const GroupPlan& group : groups)
        total += steps * group.tokens * (group.specs.size() + 1);
    job.set_total(total);
    for (const GroupPlan& group : groups) {
        Group(decoder, request, formats, device, state, job, group).run();
        state.save();
        if (on_progress)
            on_progress(state.result(request.specs));
    }
    return state.result(request.specs);
}

} // namespace

double LinearResult::relative_error() const {
    return output2 > 0 ? std::sqrt(error2 / output2) : 0;
}

Evaluation evaluate(const Decoder& decoder, const EvaluationRequest& request, Device& device, JobControl& job,
                    const std::function<void(const Evaluation&)>& on_progress) {
    check(decoder.config(), request);
    tbb::task_arena arena(request.threads > 0 ? request.threads : tbb::task_arena::automatic);
    return arena.execute([&] { return run_groups(decoder, request, device, job, on_progress); });
}

} // namespace qs
