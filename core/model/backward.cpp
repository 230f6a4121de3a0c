#include "core/model/backward.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/model/host_machine.h"
#include "core/model/model_steps.h"
#include "core/model/product.h"

namespace qs {

namespace {

/// Rows whose sums are taken on their own, so that the order of all sums does not depend on the number of threads.
constexpr Index row_block = 64;

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

} // namespace

void HostMachine::backward_norm_heads(const Norm& norm, const Matrix& before, Norm& gradient, Matrix& d_heads) {
    const Index size = norm.weight.size();
    for_row_blocks_summing(before.rows(), gradient, [&](Index first, Index count, Norm& sums) {
        for (Index row = first; row < first + count; ++row)
            for (Index head = 0; head < before.cols(); head += size) {
                auto d_in = d_heads.row(row).segment(head, size);
                const RowVector d_out = d_in;
                d_in.setZero();
                backward_norm_row(config_, norm, before.row(row).segment(head, size), d_out, sums, d_in);
            }
    });
}

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

void HostMachine::backward_multiply(const Matrix& in, const Matrix& weight, const Matrix& d_out, Matrix* d_weight,
                                    Matrix& d_in, bool add) {
    if (d_weight != nullptr)
        add_weight_gradient(in, d_out, *d_weight);
    backward_inputs(d_out, weight, add ? part_ : d_in);
    if (add)
        d_in += part_;
}

void HostMachine::backward_linear(const Linear& linear, const Matrix& in, const Matrix& d_out, Linear& gradient,
                                  Matrix& d_in, bool add) {
    qs::backward_linear(linear, in, d_out, gradient, add ? part_ : d_in);
    if (add)
        d_in += part_;
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

/// Turned back, which is the transposed rotation.
void HostMachine::turn_back(const RopeTable& rope, std::span<const Sequence> sequences, Matrix& d_heads) {
    const RopeTable back{rope.cosines, -rope.sines};
    tbb::parallel_for(std::size_t{0}, sequences.size(), [&](std::size_t i) {
        const auto& [begin, length] = sequences[i];
        apply_rope(back, 0, config_.head_dim, d_heads.middleRows(begin, length));
    });
}

void HostMachine::join(std::initializer_list<const Matrix*> parts, Matrix& out) {
    Index columns = 0;
    for (const Matrix* part : parts)
        columns += part->cols();
    out.resize((*parts.begin())->rows(), columns);
    Index column = 0;
    for (const Matrix* part : parts) {
        out.middleCols(column, part->cols()) = *part;
        column += part->cols();
    }
}

// --- MLP -----------------------------------------------------------------------------------------------------------

void backward_activate(const DecoderConfig& config, const Matrix& gate, const Matrix& up, const Matrix& d_out,
                       Matrix& d_gate, Matrix& d_up) {
    const auto derivative_of = [&](float x) { return activation_derivative(config.activation, x); };
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

// --- loss ----------------------------------------------------------------------------------------------------------

std::vector<int> targets_of(const Batch& batch) {
    std::vector<int> targets(batch.tokens.begin() + 1, batch.tokens.end());
    targets.push_back(-1);
    for (const auto& [begin, length] : batch.sequences)
        targets[static_cast<std::size_t>(begin + length - 1)] = -1;
    return targets;
}

namespace {

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

} // namespace

double HostMachine::losses(double scale, std::span<const int> targets, const Matrix* teacher, Matrix& logits) {
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

void HostMachine::backward_soft_cap(double cap, const Matrix& capped, Matrix& d) {
    d.array() *= 1 - (capped.array() / static_cast<float>(cap)).square();
}

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

// --- the model -----------------------------------------------------------------------------------------------------

double add_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                     const Batch& batch, double scale, DecoderGradients& gradients, const JobControl& job,
                     const Matrix* teacher) {
    HostMachine machine(config);
    BasicWorkspace<Matrix> workspace;
    ModelSteps<HostMachine> model(machine, layers, batch, workspace, job);
    const double loss = model.add_gradients(head, batch.hidden, scale, gradients, teacher);
    backward_embedding(config, batch, workspace.d_hidden, gradients);
    return loss;
}

Matrix run_layers(const DecoderConfig& config, std::span<const LayerWeights> layers, const Batch& batch,
                  const JobControl& job) {
    HostMachine machine(config);
    BasicWorkspace<Matrix> workspace;
    Matrix hidden = batch.hidden;
    ModelSteps<HostMachine>(machine, layers, batch, workspace, job).run_layers(hidden);
    return hidden;
}

double loss_of(const DecoderConfig& config, const Head& head, const Batch& batch, const Matrix& hidden,
               const Matrix* teacher) {
    HostMachine machine(config);
    BasicWorkspace<Matrix> workspace;
    const JobControl job;
    return ModelSteps<HostMachine>(machine, {}, batch, workspace, job).head_loss(head, hidden, teacher, 1, nullptr);
}

std::size_t scored_tokens(const Batch& batch) {
    return batch.tokens.size() - batch.sequences.size();
}

// --- shapes --------------------------------------------------------------------------------------------------------

namespace {

Norm zeros_of(const Norm& norm) {
    return {RowVector::Zero(norm.weight.size()), RowVector::Zero(norm.bias.size())};
}

Matrix zeros_of(const Matrix& matrix) {
    return Matrix::Zero(matrix.rows(), matrix.cols());
}

LayerWeights zeros_of(const LayerWeights& layer) {
    LayerWeights zeros;
    zeros.layer = layer.layer;
    for (std::size_t slot = 0; slot < slot_count; ++slot)
        if (const auto& linear = layer.linears[slot])
            zeros.linears[slot] =
                Linear{linear->tensor, zeros_of(linear->weight), RowVector::Zero(linear->bias.size())};
    for (const auto norm : norms_of(layer))
        zeros.*norm = zeros_of(layer.*norm);
    return zeros;
}

} // namespace

void HostMachine::zeros_like(const Norm& norm, Norm& out) {
    out = zeros_of(norm);
}

std::vector<LayerWeights> zeros_like(std::span<const LayerWeights> layers) {
    std::vector<LayerWeights> zeros;
    for (const LayerWeights& layer : layers)
        zeros.push_back(zeros_of(layer));
    return zeros;
}

DecoderGradients zero_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                                Index positions) {
    DecoderGradients gradients;
    gradients.layers = zeros_like(layers);
    gradients.embedding = zeros_of(head.weight);
    if (config.learned_positions)
        gradients.positions = Matrix::Zero(positions, config.hidden);
    gradients.head = {zeros_of(head.norm), config.tied_head ? Matrix() : zeros_of(head.weight)};
    return gradients;
}

} // namespace qs
