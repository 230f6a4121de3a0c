#include "core/methods/qat.h"

#include <tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <random>

#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/device/with_layer_math.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"
#include "core/methods/fake_quantizer.h"
#include "core/model/layer_runner.h"

namespace qs {

namespace {

constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

/// One linear layer that is trained.
struct Trained {
    Linear* master;
    Linear* quantized;
    Linear* gradient;
    std::unique_ptr<FakeQuantizer> quantizer;
    Matrix mean, square;                       ///< moments of the gradient
    std::vector<float> step_mean, step_square; ///< and of that of the steps
};

template <class M>
std::span<float> values_of(M& values) {
    return {values.data(), static_cast<std::size_t>(values.size())};
}

/// Windows in an order that the seed decides, all once before any comes again.
class Shuffled {
public:
    Shuffled(const std::vector<std::vector<int>>& windows, std::uint64_t seed) : windows_(windows), random_(seed) {}

    std::vector<std::vector<int>> next(int count) {
        std::vector<std::vector<int>> batch;
        for (int i = 0; i < count; ++i) {
            if (order_.empty())
                shuffle();
            batch.push_back(windows_[order_.back()]);
            order_.pop_back();
        }
        return batch;
    }

private:
    /// Fisher and Yates; the standard's shuffle is not the same everywhere.
    void shuffle() {
        order_.resize(windows_.size());
        for (std::size_t i = 0; i < order_.size(); ++i) {
            const std::size_t j = random_() % (i + 1);
            order_[i] = order_[j];
            order_[j] = i;
        }
    }

    const std::vector<std::vector<int>>& windows_;
    std::mt19937_64 random_;
    std::vector<std::size_t> order_;
};

class Training {
public:
    Training(const Decoder& decoder, const QatRequest& request, Device& device, JobControl& job)
        : decoder_(decoder), request_(request), device_(device), job_(job), head_(decoder.load_head()),
          windows_(request.training, request.seed) {
        for (int layer = 0; layer < decoder.config().layers; ++layer)
            master_.push_back(decoder.weights().layer(layer));
        if (request.loss == QatLoss::teacher)
            teacher_ = master_;
        quantized_ = master_;
        gradients_.layers = zeros_like(master_);
        collect();
        validation_ = decoder.start(request.validation);
        with_runners([&] {
            validation_teacher_.clear();
            for (const Batch& batch : validation_)
                validation_teacher_.push_back(teacher_states(batch));
        });
    }

    QatResult run(const std::function<void(const QatPoint&)>& on_progress) {
        job_.set_total(static_cast<std::uint64_t>(request_.steps));
        try {
            for (int step = 0; step <= request_.steps; ++step) {
                const QatPoint point = advance(step);
                result_.curve.push_back(point);
                if (on_progress)
                    on_progress(point);
            }
        } catch (const Cancelled&) {
            if (result_.curve.empty())
                throw; // nothing to keep
            result_.stopped = true;
        }
        return std::move(result_);
    }

private:
    void collect() {
        const std::vector<FormatSpec> specs{request_.format};
        const RecipePlan plan(decoder_.weights().checkpoint(), specs);
        for (std::size_t layer = 0; layer < master_.size(); ++layer)
            for (std::size_t slot = 0; slot < slot_count; ++slot)
                if (auto& master = master_[layer].linears[slot])
                    trained_.push_back({&*master,
                                        &*quantized_[layer].linears[slot],
                                        &*gradients_.layers[layer].linears[slot],
                                        make_quantizer(plan.formats(master->tensor.tensor)[0], *master),
                                        {},
                                        {},
                                        {},
                                        {}});
        for (Trained& linear : trained_) {
            linear.mean = linear.square = Matrix::Zero(linear.master->weight.rows(), linear.master->weight.cols());
            linear.step_mean.resize(linear.quantizer->steps().size());
            linear.step_square = linear.step_mean;
        }
    }

    std::unique_ptr<FakeQuantizer> make_quantizer(const FormatSpec& format, const Linear& linear) {
        const TensorShape shape{static_cast<std::uint64_t>(linear.weight.rows()),
                                static_cast<std::uint64_t>(linear.weight.cols())};
        const FormatSpec used = effective_spec(format, shape);
        return request_.learned_steps ? make_learned_quantizer(used, linear.weight)
                                      : make_fitting_quantizer(used, shape, device_);
    }

    QatPoint advance(int step) {
        QatPoint point{step, not_measured, not_measured, not_measured, 0, 0};
        if (step > 0) {
            point.learning_rate = rate_at(step);
            point.loss = train(step, point.learning_rate);
            job_.advance(1);
        }
        quantize();
        if (step == 0)
            result_.learning_rate = request_.learning_rate > 0 ? request_.learning_rate : rounding_error() / 64;
        if (step % request_.validate_every == 0 || step == request_.steps) {
            validate(point);
            if (step == 0 || point.validation_loss < result_.best_loss)
                keep(point);
        }
        point.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
        return point;
    }

    /// Calls body() with the runners on the device, and again from its beginning on the CPU where that fails.
    template <class Body>
    void with_runners(Body body) {
        with_layer_math(device_, [&](LayerMath* math) {
            if (!student_ || math != math_) {
                math_ = math;
                student_.emplace(decoder_.config(), head_, math);
                student_->set_weights(quantized_);
                if (!teacher_.empty())
                    teacher_runner_.emplace(decoder_.config(), head_, math).set_weights(teacher_);
            }
            body();
        });
    }

    /// The teacher's hidden states behind the last layer, if it is to be learned from.
    std::optional<Matrix> teacher_states(const Batch& batch) {
        return teacher_.empty() ? std::nullopt : std::optional(teacher_runner_->run_layers(batch, job_));
    }

    double rate_at(int step) const {
        return cosine_rate(step, request_.steps, static_cast<int>(request_.warm_up * request_.steps),
                           result_.learning_rate, request_.last_rate);
    }

    /// Root mean square of what the format does to the weights.
    double rounding_error() const {
        double sum = 0, count = 0;
        for (const Trained& linear : trained_) {
            sum += (linear.master->weight - linear.quantized->weight).cast<double>().squaredNorm();
            count += static_cast<double>(linear.master->weight.size());
        }
        return std::sqrt(sum / count);
    }

    void quantize() {
        device_.for_each(trained_.size(), [&](std::size_t i) {
            Trained& linear = trained_[i];
            JobControl part(&job_); // devices count bytes, the job steps
            linear.quantizer->quantize(linear.master->weight, linear.quantized->weight, part);
        });
        with_runners([&] { student_->set_weights(quantized_); });
    }

    /// One update; returns the mean loss that led to it.
    double train(int step, double rate) {
        const std::vector<Batch> batches = decoder_.start(windows_.next(request_.batch));
        std::size_t tokens = 0;
        for (const Batch& batch : batches)
            tokens += scored_tokens(batch);
        double loss = 0;
        with_runners([&] {
            loss = 0;
            student_->begin_gradients(gradients_);
            for (const Batch& batch : batches) {
                const std::optional<Matrix> teacher = teacher_states(batch);
                loss += student_->add_gradients(batch, 1 / static_cast<double>(tokens), gradients_, job_,
                                                teacher ? &*teacher : nullptr);
            }
            student_->finish_gradients(gradients_);
        });
        update(step, rate);
        return loss / static_cast<double>(tokens);
    }

    void update(int step, double rate) {
        for (Trained& linear : trained_)
            linear.quantizer->backward(linear.master->weight, linear.gradient->weight, job_);
        shorten_gradients();
        AdamW of_steps = request_.adamw;
        of_steps.decay = 0;
        for (Trained& linear : trained_) {
            adamw_step(request_.adamw, step, rate, values_of(linear.master->weight), values_of(linear.gradient->weight),
                       values_of(linear.mean), values_of(linear.square));
            adamw_step(of_steps, step, rate, linear.quantizer->steps(), linear.quantizer->step_gradients(),
                       linear.step_mean, linear.step_square);
        }
    }

    /// The weights' gradients together have at most the norm that was asked for.
    void shorten_gradients() {
        double square = 0;
        for (const Trained& linear : trained_)
            square += linear.gradient->weight.cast<double>().squaredNorm();
        const double norm = std::sqrt(square);
        if (!std::isfinite(norm))
            throw Error("the training", "has left the numbers that float32 holds", "choose a lower learning rate");
        if (norm > request_.longest_gradient)
            for (Trained& linear : trained_)
                linear.gradient->weight *= static_cast<float>(request_.longest_gradient / norm);
    }

    void validate(QatPoint& point) {
        double loss = 0, nll = 0, tokens = 0;
        with_runners([&] {
            loss = nll = tokens = 0;
            for (std::size_t i = 0; i < validation_.size(); ++i) {
                const Batch& batch = validation_[i];
                const Matrix hidden = student_->run_layers(batch, job_);
                const double own = student_->loss_of(batch, hidden);
                nll += own;
                loss += validation_teacher_[i] ? student_->loss_of(batch, hidden, &*validation_teacher_[i]) : own;
                tokens += static_cast<double>(scored_tokens(batch));
            }
        });
        point.validation_loss = loss / tokens;
        point.validation_perplexity = std::exp(nll / tokens);
    }

    void keep(const QatPoint& point) {
        result_.best_step = point.step;
        result_.best_loss = point.validation_loss;
        double bits = 0, weights = 0;
        for (const Trained& linear : trained_) {
            result_.master[linear.master->tensor.tensor] = linear.master->weight;
            result_.quantized[linear.master->tensor.tensor] = linear.quantized->weight;
            bits += linear.quantizer->stored_bits();
            weights += static_cast<double>(linear.master->weight.size());
        }
        result_.bits_per_weight = bits / weights;
    }

    const Decoder& decoder_;
    const QatRequest& request_;
    Device& device_;
    JobControl& job_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::vector<LayerWeights> master_, quantized_;
    std::vector<LayerWeights> teacher_; ///< the unquantized weights; empty where the text is learned
    DecoderGradients gradients_;        ///< of the layers alone
    Head head_;
    LayerMath* math_ = nullptr; ///< of the runners; null for the CPU's
    std::optional<ModelRunner> student_, teacher_runner_;
    std::vector<Trained> trained_;
    Shuffled windows_;
    std::vector<Batch> validation_;
    std::vector<std::optional<Matrix>> validation_teacher_; ///< teacher_states() of each
    QatResult result_;
};

void check(const QatRequest& request) {
    if (request.training.empty() || request.validation.empty())
        throw Error("the text", "has no windows to train on and to validate with", "give a longer text");
    if (request.steps < 1 || request.batch < 1 || request.validate_every < 1)
        throw Error("the training", "needs at least one step, one window a step, and a validation");
    if (!(request.learning_rate >= 0))
        throw Error("the learning rate", "is below 0");
}

WeightHook replace_by(const std::map<std::size_t, Matrix>& weights) {
    return [&weights](const LinearTensor& tensor, Matrix& weight) {
        if (const auto found = weights.find(tensor.tensor); found != weights.end())
            weight = found->second;
    };
}

} // namespace

WeightHook QatResult::hook() const {
    return replace_by(quantized);
}

WeightHook QatResult::master_hook() const {
    return replace_by(master);
}

QatResult train_qat(const Decoder& decoder, const QatRequest& request, Device& device, JobControl& job,
                    const std::function<void(const QatPoint&)>& on_progress) {
    check(request);
    tbb::task_arena arena(request.threads > 0 ? request.threads : tbb::task_arena::automatic);
    return arena.execute([&] { return Training(decoder, request, device, job).run(on_progress); });
}

std::string why_not_trained(const FormatSpec& chosen) {
    if (recipe_of(chosen) == nullptr && format(chosen.id).importance == Importance::required)
        return "needs an importance matrix";
    return {};
}

void split_windows(std::vector<std::vector<int>> windows, std::size_t n, std::size_t most_tokens, QatRequest& request) {
    if (windows.size() < 2)
        throw Error("the text", "has fewer than two windows, one to train on and one to validate with",
                    "give a longer text or a smaller context");
    std::size_t validated = 0;
    for (std::size_t i = 0; i < windows.size(); ++i) {
        const bool validate = i % n == std::min(n, windows.size()) - 1 && (validated == 0 || validated < most_tokens);
        if (validate)
            validated += windows[i].size();
        (validate ? request.validation : request.training).push_back(std::move(windows[i]));
    }
}

namespace {

ScoreSummary score_weights_with(LayerMath* math, const Decoder& decoder, const WeightHook& hook,
                                const std::vector<std::vector<int>>& windows, JobControl& job) {
    constexpr Index rows_at_once = 128;
    LayerRunner runner(decoder.config(), math);
    std::vector<Batch> reference = decoder.start(windows), model = reference;
    ReadyLayer ready;
    const auto advance = [&](const LayerWeights& weights, std::vector<Batch>& batches) {
        runner.prepare(weights, ready);
        runner.advance(ready, batches, {}, job);
    };
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        advance(decoder.weights().layer(layer), reference);
        if (hook)
            advance(decoder.weights().layer(layer, hook), model);
    }
    if (!hook)
        model = reference;
    const Head head = decoder.load_head();
    ReadyHead ready_head;
    runner.prepare(head, ready_head);
    TokenScores scores;
    for (std::size_t i = 0; i < model.size(); ++i)
        for (const auto& [begin, length] : model[i].sequences)
            for (Index first = 0; first + 1 < length; first += rows_at_once) {
                job.check();
                const Index rows = std::min(rows_at_once, length - 1 - first);
                const std::span targets(model[i].tokens.data() + begin + first + 1, static_cast<std::size_t>(rows));
                runner.refer(ready_head, reference[i], begin + first, targets);
                scores.append(runner.score(ready_head, model[i]));
            }
    return summarise(scores);
}

} // namespace

ScoreSummary score_weights(const Decoder& decoder, const WeightHook& hook, const std::vector<std::vector<int>>& windows,
                           Device& device, JobControl& job, int threads) {
    tbb::task_arena arena(threads > 0 ? threads : tbb::task_arena::automatic);
    return arena.execute([&] {
        return with_layer_math(device,
                               [&](LayerMath* math) { return score_weights_with(math, decoder, hook, windows, job); });
    });
}

} // namespace qs
