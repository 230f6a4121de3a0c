#include "core/model/layer.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "core/model/host_machine.h"
#include "core/model/layer_steps.h"
#include "core/model/product.h"

namespace qs {

namespace {

/// Rows of activations that one thread works on at a time.
constexpr Index row_block = 32;

/// Calls body(first, count) for blocks of rows, on all threads.
template <class Body>
void for_row_blocks(Index rows, Body body) {
    tbb::parallel_for(Index{0}, (rows + row_block - 1) / row_block, [&](Index block) {
        const Index first = block * row_block;
        body(first, std::min(row_block, rows - first));
    });
}

template <class In, class Out>
void normalise_row(const DecoderConfig& config, const Norm& norm, const In& in, Out&& out) {
    const auto size = static_cast<double>(in.size());
    const double mean = config.norm == NormKind::layer ? in.template cast<double>().sum() / size : 0;
    const double variance = (in.template cast<double>().array() - mean).square().sum() / size;
    const auto scale = static_cast<float>(1 / std::sqrt(variance + config.norm_epsilon));
    out = (in.array() - static_cast<float>(mean)) * scale * norm.weight.array();
    if (norm.bias.size() > 0)
        out += norm.bias;
}

} // namespace

void normalise(const DecoderConfig& config, const Norm& norm, const Matrix& in, Matrix& out) {
    out.resize(in.rows(), in.cols());
    for_row_blocks(in.rows(), [&](Index first, Index count) {
        for (Index row = first; row < first + count; ++row)
            normalise_row(config, norm, in.row(row), out.row(row));
    });
}

void normalise_heads(const DecoderConfig& config, const Norm& norm, Matrix& heads) {
    const Index size = norm.weight.size();
    for_row_blocks(heads.rows(), [&](Index first, Index count) {
        for (Index row = first; row < first + count; ++row)
            for (Index head = 0; head < heads.cols(); head += size) {
                const RowVector before = heads.row(row).segment(head, size);
                normalise_row(config, norm, before, heads.row(row).segment(head, size));
            }
    });
}

void multiply_by(const Linear& linear, const Matrix& in, Matrix& out) {
    if (linear.product)
        linear.product(linear.weight, in, out);
    else
        multiply(in, linear.weight, out);
}

void apply_linear(const Linear& linear, const Matrix& in, Matrix& out, const LinearObserver& observer) {
    multiply_by(linear, in, out);
    if (observer)
        observer(linear.tensor, in, out);
    if (linear.bias.size() > 0)
        out.rowwise() += linear.bias;
}

void soft_cap(double cap, Eigen::Ref<Matrix> values) {
    if (cap == 0)
        return;
    const auto c = static_cast<float>(cap);
    values.array() = c * (values.array() / c).tanh();
}

// --- attention -----------------------------------------------------------------------------------------------------

namespace {

/// Turns the scores of the query at `position` with keys from `first_key` on into weights that sum to 1; what the query
/// must not see gets 0.
template <class Scores>
void mask_and_softmax(Index position, Index first_key, int window, Scores&& scores) {
    const Index past_last = std::min(position + 1 - first_key, scores.size());
    const Index begin = std::max<Index>(0, first_key_of(window, position) - first_key);
    auto seen = scores.segment(begin, past_last - begin);
    seen.array() = (seen.array() - seen.maxCoeff()).exp();
    seen /= seen.sum();
    scores.head(begin).setZero();
    scores.tail(scores.size() - past_last).setZero();
}

} // namespace

Index first_key_of(int window, Index position) {
    return window > 0 ? std::max<Index>(0, position + 1 - window) : 0;
}

void attention_weights(const DecoderConfig& config, int window, Eigen::Ref<const Matrix> q, Index first,
                       Eigen::Ref<const Matrix> keys, Index first_key, Matrix& weights, Matrix* scores) {
    weights.resize(q.rows(), keys.rows());
    product(as_is(q), transposed(keys), weights);
    weights *= static_cast<float>(config.attention_scale);
    soft_cap(config.attention_softcap, weights);
    if (scores != nullptr)
        *scores = weights;
    for (Index i = 0; i < q.rows(); ++i)
        mask_and_softmax(first + i, first_key, window, weights.row(i));
}

void attend(const DecoderConfig& config, int window, Eigen::Ref<const Matrix> q, Index first,
            Eigen::Ref<const Matrix> keys, Eigen::Ref<const Matrix> values, Eigen::Ref<Matrix> out) {
    const Index size = config.head_dim, shared_by = config.heads / config.kv_heads;
    const Index blocks = (q.rows() + attention_rows - 1) / attention_rows;
    tbb::parallel_for(Index{0}, blocks * config.heads, [&](Index task) {
        const Index head = task % config.heads, row = task / config.heads * attention_rows;
        const Index count = std::min(attention_rows, q.rows() - row);
        const Index last_key = first + row + count; // past the last that any of them sees
        const Index first_key = first_key_of(window, first + row);
        const Index column = head * size, kv_column = head / shared_by * size;
        const auto k = keys.block(first_key, kv_column, last_key - first_key, size);
        const auto v = values.block(first_key, kv_column, last_key - first_key, size);

        Matrix weights;
        attention_weights(config, window, q.block(row, column, count, size), first + row, k, first_key, weights);
        product(as_is(weights), as_is(v), out.block(row, column, count, size));
    });
}

// --- MLP -----------------------------------------------------------------------------------------------------------

void apply_activation(Activation activation, Eigen::Ref<Matrix> values) {
    // The formulas of activated(), as Eigen's vectors where it has those.
    auto x = values.array();
    switch (activation) {
    case Activation::silu:
        x = x / (1 + (-x).exp());
        break;
    case Activation::gelu:
        x = x.unaryExpr([](float value) { return activated(Activation::gelu, value); });
        break;
    case Activation::gelu_tanh:
        x = 0.5f * x * (1 + (root_2_over_pi * (x + 0.044715f * x.cube())).tanh());
        break;
    case Activation::relu:
        x = x.max(0.0f);
        break;
    }
}

void activate(const DecoderConfig& config, const Matrix& gate, const Matrix& up, Matrix& out) {
    out.resize(up.rows(), up.cols());
    for_row_blocks(up.rows(), [&](Index first, Index count) {
        auto rows = out.middleRows(first, count);
        rows = (config.gated ? gate : up).middleRows(first, count);
        apply_activation(config.activation, rows);
        if (config.gated)
            rows.array() *= up.middleRows(first, count).array();
    });
}

// --- the layer -----------------------------------------------------------------------------------------------------

void HostMachine::multiply(const Matrix& in, const Matrix& weight, Matrix& out) {
    qs::multiply(in, weight, out);
}

void HostMachine::turn(const RopeTable& rope, std::span<const Sequence> sequences, Matrix& heads) {
    for (const Sequence& sequence : sequences)
        for_row_blocks(sequence.length, [&](Index row, Index count) {
            apply_rope(rope, first_ + row, config_.head_dim, heads.middleRows(sequence.begin + row, count));
        });
}

namespace {

void append(KeyValues& cache, const Matrix& k, const Matrix& v) {
    cache.keys.middleRows(cache.length, k.rows()) = k;
    cache.values.middleRows(cache.length, v.rows()) = v;
    cache.length += k.rows();
}

} // namespace

void HostMachine::attend(int window, std::span<const Sequence> sequences, LayerActivations& a) {
    a.attended.resize(a.q.rows(), a.q.cols());
    if (cache_ != nullptr) {
        append(*cache_, a.k, a.v);
        qs::attend(config_, window, a.q, first_, cache_->keys.topRows(cache_->length),
                   cache_->values.topRows(cache_->length), a.attended);
        return;
    }
    for (const auto& [begin, length] : sequences)
        qs::attend(config_, window, a.q.middleRows(begin, length), 0, a.k.middleRows(begin, length),
                   a.v.middleRows(begin, length), a.attended.middleRows(begin, length));
}

void forward_layer(const DecoderConfig& config, const LayerWeights& weights, const RopeTable& rope,
                   std::span<const Sequence> sequences, KeyValues* cache, Matrix& hidden, LayerActivations& activations,
                   const LinearObserver& observer) {
    HostMachine machine(config, cache, observer);
    LayerSteps<HostMachine>(machine, weights, rope, sequences, activations).forward(hidden);
}

} // namespace qs
