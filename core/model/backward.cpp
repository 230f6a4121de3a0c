#include "core/model/backward.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/model/product.h"

namespace qs {

namespace {

/// Rows whose sums are taken on their own, so that the order of all sums does not depend on the number of threads.
constexpr Index row_block = 64;
/// Logits that are held at a time.
constexpr Index most_logits = Index{1} << 24;

/// Calls body(first, count, sums) for blocks of rows on all threads, each with zeros of its own to add to; then adds
/// those to `total` in order.
template <class Body>
void for_row_blocks_summing(Index rows, Norm& total, Body body) {
    const Index blocks = (rows + row_block - 1) / row_block;
    std::vector<Norm> sums(static_cast<std::size_t>(blocks));
    tbb::parallel_for(Index{0}, blocks, [&](Index block) {
        Norm& own = sums[static_cast<std::size_t>(block)];
        own = {RowVector::Zero(total.weight.size()), RowVector::Zero(total.bias.size())};
        body(block * row_block, std::min(row_block, rows - block * row_block), own);
    });
    for (const Norm& own : sums) {
        total.weight += own.weight;
        total.bias += own.bias;
    }
}

void add_weight_gradient(const Matrix& in, const Matrix& d_out, Matrix& gradient) {
    Matrix part(gradient.rows(), gradient.cols());
    parallel_product(transposed(d_out), as_is(in), part);
    gradient += part;
}

void backward_inputs(const Matrix& d_out, const Matrix& weight, Matrix& d_in) {
    d_in.resize(d_out.rows(), weight.cols());
    parallel_product(as_is(d_out), as_is(weight), d_in);
}

} // namespace

// --- norms and linear layers ---------------------------------------------------------------------------------------

namespace {

/// With x̂ = (x − mean) · s and y = x̂ · weight + bias: dx = s · (dx̂ − mean dx̂ − x̂ · mean(dx̂ · x̂)); RMS norm has no
/// means of x and dx̂.
template <class In, class DOut, class DIn>
void backward_norm_row(const DecoderConfig& config, const Norm& norm, const In& in, const DOut& d_out, Norm& gradient,
                       DIn&& d_in) {
    using Row = Eigen::Array<double, 1, Eigen::Dynamic>;
    const Row x = in.template cast<double>().array(), dy = d_out.template cast<double>().array();
    const bool centred = config.norm == NormKind::layer;
    const double mean = centred ? x.mean() : 0;
    const double scale = 1 / std::sqrt((x - mean).square().mean() + config.norm_epsilon);
    const Row normed = (x - mean) * scale;
    const Row d_normed = dy * norm.weight.template cast<double>().array();
    const double along = (d_normed * normed).mean(), shift = centred ? d_normed.mean() : 0;
    d_in += ((d_normed - shift - normed * along) * scale).matrix().template cast<float>();
    gradient.weight += (dy * normed).matrix().template cast<float>();
    if (gradient.bias.size() > 0)
        gradient.bias += d_out;
}

/// The gradient of the heads before they were normed, in place.
void backward_norm_heads(const DecoderConfig& config, const Norm& norm, const Matrix& before, Norm& gradient,
                         Matrix& d_heads) {
    const Index size = norm.weight.size();
    for_row_blocks_summing(before.rows(), gradient, [&](Index first, Index count, Norm& sums) {
        for (Index row = first; row < first + count; ++row)
            for (Index head = 0; head < before.cols(); head += size) {
                auto d_in = d_heads.row(row).segment(head, size);
                const RowVector d_out = d_in;
                d_in.setZero();
                backward_norm_row(config, norm, before.row(row).segment(head, size), d_out, sums, d_in);
            }
    });
}

} // namespace

void backward_norm(const DecoderConfig& config, const Norm& norm, const Matrix& in, const Matrix& d_out, Norm& gradient,
                   Matrix& d_in) {
    for_row_blocks_summing(in.rows(), gradient, [&](Index first, Index count, Norm& sums) {
        for (Index row = first; row < first + count; ++row)
            backward_norm_row(config, norm, in.row(row), d_out.row(row), sums, d_in.row(row));
    });
}

void backward_linear(const Linear& linear, const Matrix& in, const Matrix& d_out, Linear& gradient, Matrix& d_in) {
    add_weight_gradient(in, d_out, gradient.weight);
    if (gradient.bias.size() > 0)
        gradient.bias += d_out.colwise().sum();
    backward_inputs(d_out, linear.weight, d_in);
}

// --- attention -----------------------------------------------------------------------------------------------------

namespace {

/// The part of one sequence in what attention works on: columns of one head of queries, and of the head of keys and
/// values that it shares with others.
struct HeadParts {
    const DecoderConfig& config;
    int window;
    Sequence sequence;
    Index column, kv_column;

    template <class M>
    auto queries(M& matrix, Index row, Index count) const {
        return matrix.block(sequence.begin + row, column, count, config.head_dim);
    }
    template <class M>
    auto keys(M& matrix, Index first, Index count) const {
        return matrix.block(sequence.begin + first, kv_column, count, config.head_dim);
    }
};

/// Rows [row, row + count) of the queries: with P = softmax(S) and out = P·V,
/// dV = Pᵀ·dout, dP = dout·Vᵀ, dS = P ∘ (dP − rowsum(P ∘ dP)), dQ = dS·K, dK = dSᵀ·Q.
void backward_attend_rows(const HeadParts& head, Index row, Index count, const LayerActivations& a, const Matrix& d_out,
                          Matrix& d_q, Matrix& d_k, Matrix& d_v) {
    const DecoderConfig& config = head.config;
    const Index first_key = first_key_of(head.window, row), keys = row + count - first_key;
    const auto q = head.queries(a.q, row, count), d_rows = head.queries(d_out, row, count);
    const auto k = head.keys(a.k, first_key, keys), v = head.keys(a.v, first_key, keys);
    Matrix weights, scores, d_scores(count, keys), part(keys, config.head_dim);
    attention_weights(config, head.window, q, row, k, first_key, weights, &scores);

    product(transposed(weights), as_is(d_rows), part);
    head.keys(d_v, first_key, keys) += part;

    product(as_is(d_rows), transposed(v), d_scores);
    const Eigen::VectorXf along = d_scores.cwiseProduct(weights).rowwise().sum();
    d_scores = weights.cwiseProduct(d_scores.colwise() - along);
    if (config.attention_softcap != 0)
        d_scores.array() *= 1 - (scores.array() / static_cast<float>(config.attention_softcap)).square();
    d_scores *= static_cast<float>(config.attention_scale);

    product(as_is(d_scores), as_is(k), head.queries(d_q, row, count));
    product(transposed(d_scores), as_is(q), part);
    head.keys(d_k, first_key, keys) += part;
}

} // namespace

void backward_attend(const DecoderConfig& config, int window, std::span<const Sequence> sequences,
                     const LayerActivations& a, const Matrix& d_out, Matrix& d_q, Matrix& d_k, Matrix& d_v) {
    d_q.resize(a.q.rows(), a.q.cols());
    d_k.setZero(a.k.rows(), a.k.cols());
    d_v.setZero(a.v.rows(), a.v.cols());
    const Index size = config.head_dim, shared_by = config.heads / config.kv_heads;
    // Heads that share keys add to the same gradients, so one thread does them all.
    tbb::parallel_for(Index{0}, static_cast<Index>(sequences.size()) * config.kv_heads, [&](Index task) {
        const Index kv_head = task % config.kv_heads;
        const Sequence& sequence = sequences[static_cast<std::size_t>(task / config.kv_heads)];
        for (Index head = kv_head * shared_by; head < (kv_head + 1) * shared_by; ++head)
            for (Index row = 0; row < sequence.length; row += attention_rows)
                backward_attend_rows({config, window, sequence, head * size, kv_head * size}, row,
                                     std::min(attention_rows, sequence.length - row), a, d_out, d_q, d_k, d_v);
    });
}

namespace {

/// The gradients of q and k before they were turned: turned back, which is the transposed rotation.
void turn_back(const DecoderConfig& config, const RopeTable& rope, std::span<const Sequence> sequences, Matrix& d_q,
               Matrix& d_k) {
    const RopeTable back{rope.cosines, -rope.sines};
    tbb::parallel_for(std::size_t{0}, sequences.size(), [&](std::size_t i) {
        const auto& [begin, length] = sequences[i];
        apply_rope(back, 0, config.head_dim, d_q.middleRows(begin, length));
        apply_rope(back, 0, config.head_dim, d_k.middleRows(begin, length));
    });
}

void backward_qk_norms(const DecoderConfig& config, const LayerWeights& weights, const LayerActivations& a,
                       LayerWeights& gradients, Matrix& d_q, Matrix& d_k) {
    Matrix q, k; // before the norms
    if (config.fused_qkv) {
        q = a.qkv.leftCols(a.q.cols());
        k = a.qkv.middleCols(a.q.cols(), a.k.cols());
    } else {
        apply_linear(*weights[Slot::q], a.attention_input, q, {});
        apply_linear(*weights[Slot::k], a.attention_input, k, {});
    }
    backward_norm_heads(config, weights.q_norm, q, gradients.q_norm, d_q);
    backward_norm_heads(config, weights.k_norm, k, gradients.k_norm, d_k);
}

/// Replaces d_in by the sum of what comes back through linear layers with the same input.
class SharedInput {
public:
    SharedInput(const LayerWeights& weights, LayerWeights& gradients, const Matrix& in, Matrix& d_in)
        : weights_(weights), gradients_(gradients), in_(in), d_in_(d_in) {}

    void add(Slot slot, const Matrix& d_out) {
        backward_linear(*weights_[slot], in_, d_out, *gradients_[slot], part_);
        if (first_)
            d_in_.swap(part_);
        else
            d_in_ += part_;
        first_ = false;
    }

private:
    const LayerWeights& weights_;
    LayerWeights& gradients_;
    const Matrix& in_;
    Matrix& d_in_;
    Matrix part_;
    bool first_ = true;
};

void backward_attention(const DecoderConfig& config, const LayerWeights& weights, const RopeTable& rope,
                        std::span<const Sequence> sequences, const LayerActivations& a, const Matrix& d_output,
                        LayerWeights& gradients, Matrix& d_attention_input) {
    Matrix d_attended, d_q, d_k, d_v;
    backward_linear(*weights[Slot::o], a.attended, d_output, *gradients[Slot::o], d_attended);
    const int window = config.slides(weights.layer) ? config.sliding_window : 0;
    backward_attend(config, window, sequences, a, d_attended, d_q, d_k, d_v);
    if (!config.learned_positions)
        turn_back(config, rope, sequences, d_q, d_k);
    if (config.qk_norm)
        backward_qk_norms(config, weights, a, gradients, d_q, d_k);

    SharedInput input(weights, gradients, a.attention_input, d_attention_input);
    if (config.fused_qkv) {
        Matrix d_qkv(d_q.rows(), d_q.cols() + d_k.cols() + d_v.cols());
        d_qkv << d_q, d_k, d_v;
        input.add(Slot::qkv, d_qkv);
    } else {
        input.add(Slot::q, d_q);
        input.add(Slot::k, d_k);
        input.add(Slot::v, d_v);
    }
}

} // namespace

// --- MLP -----------------------------------------------------------------------------------------------------------

namespace {

float derivative(Activation activation, float x) {
    switch (activation) {
    case Activation::silu: {
        const float sigmoid = 1 / (1 + std::exp(-x));
        return sigmoid * (1 + x * (1 - sigmoid));
    }
    case Activation::gelu: {
        const float distribution = 0.5f * (1 + std::erf(x / std::numbers::sqrt2_v<float>));
        const float density = std::exp(-0.5f * x * x) * 0.3989422804f; // 1 / √(2π)
        return distribution + x * density;
    }
    case Activation::gelu_tanh: {
        constexpr float root = 0.7978845608f; // √(2 / π)
        const float t = std::tanh(root * (x + 0.044715f * x * x * x));
        return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * root * (1 + 3 * 0.044715f * x * x);
    }
    case Activation::relu:
        break;
    }
    return x > 0 ? 1.0f : 0.0f;
}

} // namespace

void backward_activate(const DecoderConfig& config, const Matrix& gate, const Matrix& up, const Matrix& d_out,
                       Matrix& d_gate, Matrix& d_up) {
    const auto derivative_of = [&](float x) { return derivative(config.activation, x); };
    d_up.resize(up.rows(), up.cols());
    if (config.gated)
        d_gate.resize(up.rows(), up.cols());
    tbb::parallel_for(Index{0}, up.rows(), [&](Index row) {
        const auto d = d_out.row(row);
        if (!config.gated) {
            d_up.row(row) = d.cwiseProduct(up.row(row).unaryExpr(derivative_of));
            return;
        }
        d_gate.row(row) = d.cwiseProduct(up.row(row)).cwiseProduct(gate.row(row).unaryExpr(derivative_of));
        auto activated = d_up.middleRows(row, 1);
        activated = gate.middleRows(row, 1);
        apply_activation(config.activation, activated);
        activated.array() *= d.array();
    });
}

namespace {

void backward_mlp(const DecoderConfig& config, const LayerWeights& weights, const LayerActivations& a,
                  const Matrix& d_output, LayerWeights& gradients, Matrix& d_mlp_input) {
    Matrix d_activated, d_gate, d_up;
    backward_linear(*weights[Slot::down], a.activated, d_output, *gradients[Slot::down], d_activated);
    backward_activate(config, a.gate, a.up, d_activated, d_gate, d_up);

    SharedInput input(weights, gradients, a.mlp_input, d_mlp_input);
    if (config.fused_gate_up) {
        Matrix d_gate_up(d_up.rows(), 2 * d_up.cols());
        d_gate_up << d_gate, d_up;
        input.add(Slot::gate_up, d_gate_up);
    } else {
        if (config.gated)
            input.add(Slot::gate, d_gate);
        input.add(Slot::up, d_up);
    }
}

} // namespace

// --- the layer -----------------------------------------------------------------------------------------------------

namespace {

/// The gradient of a part's output before it was normed, if it is.
const Matrix& backward_output_norm(const DecoderConfig& config, const Norm& norm, const Matrix& output,
                                   const Matrix& d_hidden, Norm& gradient, Matrix& d_output) {
    if (!config.output_norms)
        return d_hidden;
    d_output.setZero(output.rows(), output.cols());
    backward_norm(config, norm, output, d_hidden, gradient, d_output);
    return d_output;
}

} // namespace

void backward_layer(const DecoderConfig& config, const LayerWeights& weights, const RopeTable& rope,
                    std::span<const Sequence> sequences, const Matrix& input, const LayerActivations& a,
                    LayerWeights& gradients, Matrix& d_hidden) {
    // Both parts add to the hidden states, so their gradient goes past each part unchanged, and what comes back through
    // the part is added to it.
    Matrix d_output, d_input;
    const Matrix between = input + (config.output_norms ? a.attention_output_normed : a.attention_output);
    backward_mlp(config, weights, a,
                 backward_output_norm(config, weights.mlp_output_norm, a.mlp_output, d_hidden,
                                      gradients.mlp_output_norm, d_output),
                 gradients, d_input);
    backward_norm(config, weights.mlp_norm, between, d_input, gradients.mlp_norm, d_hidden);

    backward_attention(config, weights, rope, sequences, a,
                       backward_output_norm(config, weights.attention_output_norm, a.attention_output, d_hidden,
                                            gradients.attention_output_norm, d_output),
                       gradients, d_input);
    backward_norm(config, weights.attention_norm, input, d_input, gradients.attention_norm, d_hidden);
}

// --- loss ----------------------------------------------------------------------------------------------------------

namespace {

/// The token that each row predicts; −1 for the last of a sequence.
std::vector<int> targets_of(const Batch& batch) {
    std::vector<int> targets(batch.tokens.begin() + 1, batch.tokens.end());
    targets.push_back(-1);
    for (const auto& [begin, length] : batch.sequences)
        targets[static_cast<std::size_t>(begin + length - 1)] = -1;
    return targets;
}

/// ln p of a row of logits.
template <class Row>
Eigen::Array<double, 1, Eigen::Dynamic> log_probabilities(const Row& logits) {
    const auto x = logits.template cast<double>().array();
    const double largest = x.maxCoeff();
    return x - (largest + std::log((x - largest).exp().sum()));
}

/// The loss of a row of logits, which are replaced by the gradient of `scale` times it.
template <class Row>
double cross_entropy(double scale, int target, Row&& logits) {
    const Eigen::Array<double, 1, Eigen::Dynamic> log_p = log_probabilities(logits);
    logits = (log_p.exp() * scale).matrix().template cast<float>();
    logits[target] -= static_cast<float>(scale);
    return -log_p[target];
}

/// The same of the divergence of a teacher's distribution.
template <class TeacherRow, class Row>
double divergence(double scale, const TeacherRow& teacher, Row&& logits) {
    const Eigen::Array<double, 1, Eigen::Dynamic> log_p = log_probabilities(teacher), log_q = log_probabilities(logits);
    const Eigen::Array<double, 1, Eigen::Dynamic> p = log_p.exp();
    logits = ((log_q.exp() - p) * scale).matrix().template cast<float>();
    return (p * (log_p - log_q)).sum();
}

/// The sum over the rows that predict something; their logits are replaced by its gradient.
double losses_of_rows(double scale, std::span<const int> targets, const Matrix* teacher, Matrix& logits) {
    std::vector<double> losses(targets.size());
    tbb::parallel_for(Index{0}, logits.rows(), [&](Index i) {
        const int target = targets[static_cast<std::size_t>(i)];
        double& loss = losses[static_cast<std::size_t>(i)];
        if (target < 0)
            logits.row(i).setZero();
        else if (teacher != nullptr)
            loss = divergence(scale, teacher->row(i), logits.row(i));
        else
            loss = cross_entropy(scale, target, logits.row(i));
    });
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

void head_logits(const DecoderConfig& config, const Head& head, const Matrix& hidden, Matrix& normed, Matrix& logits) {
    normalise(config, head.norm, hidden, normed);
    multiply(normed, head.weight, logits);
    soft_cap(config.logit_softcap, logits);
}

/// From the gradient of the logits, before which they were capped, back to the hidden states.
void backward_head(const DecoderConfig& config, const Head& head, const Matrix& hidden, const Matrix& normed,
                   const Matrix& d_logits, DecoderGradients& gradients, Matrix& d_hidden) {
    if (Matrix& d_weight = config.tied_head ? gradients.embedding : gradients.head.weight; d_weight.size() > 0)
        add_weight_gradient(normed, d_logits, d_weight);
    Matrix d_normed;
    backward_inputs(d_logits, head.weight, d_normed);
    Norm unwanted{RowVector::Zero(head.norm.weight.size()), RowVector::Zero(head.norm.bias.size())};
    Norm& d_norm = gradients.head.norm.weight.size() > 0 ? gradients.head.norm : unwanted;
    d_hidden.setZero(hidden.rows(), hidden.cols());
    backward_norm(config, head.norm, hidden, d_normed, d_norm, d_hidden);
}

/// The loss, and where gradients are asked for also those of what is behind the last layer; a few rows at a time.
double head_loss(const DecoderConfig& config, const Head& head, const Batch& batch, const Matrix& hidden,
                 const Matrix* teacher, double scale, DecoderGradients* gradients, Matrix* d_hidden) {
    const std::vector<int> targets = targets_of(batch);
    const Index chunk = std::max<Index>(1, most_logits / head.weight.rows());
    double loss = 0;
    Matrix normed, logits, teacher_logits, capped, d_part;
    for (Index first = 0; first < hidden.rows(); first += chunk) {
        const Index rows = std::min(chunk, hidden.rows() - first);
        if (teacher != nullptr)
            head_logits(config, head, teacher->middleRows(first, rows), normed, teacher_logits);
        const Matrix part = hidden.middleRows(first, rows);
        head_logits(config, head, part, normed, logits);
        if (config.logit_softcap != 0)
            capped = logits;
        loss += losses_of_rows(
            scale, std::span(targets).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
            teacher != nullptr ? &teacher_logits : nullptr, logits);
        if (gradients == nullptr)
            continue;
        if (config.logit_softcap != 0)
            logits.array() *= 1 - (capped.array() / static_cast<float>(config.logit_softcap)).square();
        backward_head(config, head, part, normed, logits, *gradients, d_part);
        d_hidden->middleRows(first, rows) = d_part;
    }
    return loss;
}

/// Every token adds the gradient of its hidden state to its row of the embedding and to that of its position.
void backward_embedding(const DecoderConfig& config, const Batch& batch, const Matrix& d_hidden,
                        DecoderGradients& gradients) {
    if (gradients.embedding.size() > 0)
        for (std::size_t i = 0; i < batch.tokens.size(); ++i)
            gradients.embedding.row(batch.tokens[i]) +=
                d_hidden.row(static_cast<Index>(i)) * static_cast<float>(config.embedding_scale);
    if (gradients.positions.size() > 0)
        for (const auto& [begin, length] : batch.sequences)
            gradients.positions.topRows(length) += d_hidden.middleRows(begin, length);
}

} // namespace

double add_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                     const Batch& batch, double scale, DecoderGradients& gradients, const JobControl& job,
                     const Matrix* teacher) {
    const auto rope = [&](const LayerWeights& layer) -> const RopeTable& {
        return batch.rope->of(config, layer.layer);
    };
    LayerActivations activations;
    std::vector<Matrix> inputs; // of each layer, then the last one's output
    inputs.push_back(batch.hidden);
    for (const LayerWeights& layer : layers) {
        job.check();
        Matrix hidden = inputs.back();
        forward_layer(config, layer, rope(layer), batch.sequences, nullptr, hidden, activations);
        inputs.push_back(std::move(hidden));
    }

    Matrix d_hidden(batch.hidden.rows(), batch.hidden.cols());
    const double loss = head_loss(config, head, batch, inputs.back(), teacher, scale, &gradients, &d_hidden);
    for (std::size_t i = layers.size(); i-- > 0;) {
        job.check();
        if (i + 1 < layers.size()) { // the last layer's are still there
            Matrix again = inputs[i];
            forward_layer(config, layers[i], rope(layers[i]), batch.sequences, nullptr, again, activations);
        }
        backward_layer(config, layers[i], rope(layers[i]), batch.sequences, inputs[i], activations, gradients.layers[i],
                       d_hidden);
    }
    backward_embedding(config, batch, d_hidden, gradients);
    return loss;
}

Matrix run_layers(const DecoderConfig& config, std::span<const LayerWeights> layers, const Batch& batch,
                  const JobControl& job) {
    LayerActivations activations;
    Matrix hidden = batch.hidden;
    for (const LayerWeights& layer : layers) {
        job.check();
        forward_layer(config, layer, batch.rope->of(config, layer.layer), batch.sequences, nullptr, hidden,
                      activations);
    }
    return hidden;
}

double loss_of(const DecoderConfig& config, const Head& head, const Batch& batch, const Matrix& hidden,
               const Matrix* teacher) {
    return head_loss(config, head, batch, hidden, teacher, 1, nullptr, nullptr);
}

std::size_t scored_tokens(const Batch& batch) {
    return batch.tokens.size() - batch.sequences.size();
}

// --- shapes --------------------------------------------------------------------------------------------------------

namespace {

Norm zeros_like(const Norm& norm) {
    return {RowVector::Zero(norm.weight.size()), RowVector::Zero(norm.bias.size())};
}

Matrix zeros_like(const Matrix& matrix) {
    return Matrix::Zero(matrix.rows(), matrix.cols());
}

LayerWeights zeros_like(const LayerWeights& layer) {
    LayerWeights zeros;
    zeros.layer = layer.layer;
    for (std::size_t slot = 0; slot < slot_count; ++slot)
        if (const auto& linear = layer.linears[slot])
            zeros.linears[slot] =
                Linear{linear->tensor, zeros_like(linear->weight), RowVector::Zero(linear->bias.size())};
    for (const auto norm :
         {&LayerWeights::attention_norm, &LayerWeights::attention_output_norm, &LayerWeights::mlp_norm,
          &LayerWeights::mlp_output_norm, &LayerWeights::q_norm, &LayerWeights::k_norm})
        zeros.*norm = zeros_like(layer.*norm);
    return zeros;
}

} // namespace

std::vector<LayerWeights> zeros_like(std::span<const LayerWeights> layers) {
    std::vector<LayerWeights> zeros;
    for (const LayerWeights& layer : layers)
        zeros.push_back(zeros_like(layer));
    return zeros;
}

DecoderGradients zero_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                                Index positions) {
    DecoderGradients gradients;
    gradients.layers = zeros_like(layers);
    gradients.embedding = zeros_like(head.weight);
    if (config.learned_positions)
        gradients.positions = Matrix::Zero(positions, config.hidden);
    gradients.head = {zeros_like(head.norm), config.tied_head ? Matrix() : zeros_like(head.weight)};
    return gradients;
}

} // namespace qs
