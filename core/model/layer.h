#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/device/layer_math.h"
#include "core/model/config.h"
#include "core/model/matrix.h"
#include "core/model/weights.h"

// One layer of a decoder on the CPU, as functions over matrices with a row a token. The order of the steps stands in
// layer_steps.h; these are the steps.

namespace qs {

/// Keys and values of the tokens of one text so far, of one layer: a row a token. Room for `keys.rows()` tokens.
struct KeyValues {
    Matrix keys, values;
    Index length = 0;
};

/// Is shown the inputs of every linear layer and what its matrix makes of them, before the bias is added.
using LinearObserver = std::function<void(const LinearTensor&, const Matrix& inputs, const Matrix& outputs)>;

/// What a layer computes on its way, in this order; kept for a backward pass and to spare allocations.
template <class MatrixType>
struct BasicActivations {
    MatrixType attention_input; ///< the normed hidden states
    MatrixType q, k, v;         ///< normed and turned
    MatrixType qkv;             ///< where one matrix makes all three
    MatrixType attended;        ///< the heads' outputs side by side
    MatrixType log_sums;        ///< on a device: of attention (LayerMath)
    MatrixType attention_output, attention_output_normed;
    MatrixType mlp_input; ///< the normed hidden states
    MatrixType gate, up, gate_up;
    MatrixType activated; ///< activation(gate) · up
    MatrixType mlp_output, mlp_output_normed;
};
using LayerActivations = BasicActivations<Matrix>;

/// Advances the hidden states of a batch through one layer. With `cache` the batch is one sequence that goes on after
/// the cache's tokens, and is added to it. `rope` is the table of this layer's settings (unused with learned positions)
/// and must reach the last position.
void forward_layer(const DecoderConfig& config, const LayerWeights& weights, const RopeTable& rope,
                   std::span<const Sequence> sequences, KeyValues* cache, Matrix& hidden, LayerActivations& activations,
                   const LinearObserver& observer = {});

// --- its parts -----------------------------------------------------------------------------------------------------

/// RMS norm, x / √(mean x² + ε) · weight, or LayerNorm, of each row.
void normalise(const DecoderConfig& config, const Norm& norm, const Matrix& in, Matrix& out);
/// The same of every head, in place.
void normalise_heads(const DecoderConfig& config, const Norm& norm, Matrix& heads);

/// out = in · weightᵀ, or what the layer has in its place.
void multiply_by(const Linear& linear, const Matrix& in, Matrix& out);
/// The same, plus the bias.
void apply_linear(const Linear& linear, const Matrix& in, Matrix& out, const LinearObserver& observer);

/// Causal attention of the rows of q, the first of which stands at position `first`, over keys and values of positions
/// 0, 1, …; with a window only over the last `window` of them. q and out have `heads` heads side by side.
void attend(const DecoderConfig& config, int window, Eigen::Ref<const Matrix> q, Index first,
            Eigen::Ref<const Matrix> keys, Eigen::Ref<const Matrix> values, Eigen::Ref<Matrix> out);

/// How much the queries of one head, the first of which stands at position `first`, look at keys from position
/// `first_key` on: rows that sum to 1, with 0 for what a query must not see. `scores`, if not null, is given what they
/// were made of, soft-capped.
void attention_weights(const DecoderConfig& config, int window, Eigen::Ref<const Matrix> q, Index first,
                       Eigen::Ref<const Matrix> keys, Index first_key, Matrix& weights, Matrix* scores = nullptr);
/// The position of the first key that the query at `position` sees.
Index first_key_of(int window, Index position);
/// Queries of a head that are worked on together.
inline constexpr Index attention_rows = 64;

/// The activation of each value, in place.
void apply_activation(Activation activation, Eigen::Ref<Matrix> values);
/// activation(gate) · up; activation(up) where there is no gate.
void activate(const DecoderConfig& config, const Matrix& gate, const Matrix& up, Matrix& out);

/// c · tanh(x / c); nothing for c = 0.
void soft_cap(double cap, Eigen::Ref<Matrix> values);

} // namespace qs
