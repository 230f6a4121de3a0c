#pragma once

#include <span>
#include <utility>

#include "core/model/layer.h"

// One layer of a decoder, forward and backward: the order of its steps, whatever they are done with.

namespace qs {

/// Gradients on their way back through a layer, and what is computed again for them; kept to spare allocations.
template <class MatrixType>
struct BasicReturns {
    MatrixType between; ///< the hidden states between attention and MLP
    MatrixType d_output, d_input;
    MatrixType d_attended, d_q, d_k, d_v, d_qkv;
    MatrixType q, k; ///< before they were normed
    MatrixType d_activated, d_gate, d_up, d_gate_up;
};

/// The layer whose weights are given, on texts that go through it together. A machine does the steps: HostMachine by
/// Eigen, DeviceMachine by the LayerMath of a device. Its functions resize what they write.
template <class Machine>
class LayerSteps {
public:
    using Matrix = typename Machine::Matrix;
    using Layer = BasicLayer<Matrix, typename Machine::Vector>;
    using Linear = typename Layer::Linear;
    using Norm = typename Layer::Norm;

    LayerSteps(Machine& machine, const Layer& weights, const RopeTable& rope, std::span<const Sequence> sequences,
               BasicActivations<Matrix>& activations)
        : machine_(machine), config_(machine.config()), weights_(weights), rope_(rope), sequences_(sequences),
          a_(activations) {}

    /// Advances the hidden states.
    void forward(Matrix& hidden) {
        machine_.normalise(weights_.attention_norm, hidden, a_.attention_input);
        attention();
        add_output(weights_.attention_output_norm, a_.attention_output, a_.attention_output_normed, hidden);

        machine_.normalise(weights_.mlp_norm, hidden, a_.mlp_input);
        mlp();
        add_output(weights_.mlp_output_norm, a_.mlp_output, a_.mlp_output_normed, hidden);
    }

    /// Turns the gradient of the layer's output in `d_hidden` into that of its input, which is given; the activations
    /// are those that forward() left. Both parts add to the hidden states, so their gradient goes past each part
    /// unchanged, and what comes back through the part is added to it.
    void backward(const Matrix& input, Layer& gradients, BasicReturns<Matrix>& r, Matrix& d_hidden) {
        machine_.sum(input, config_.output_norms ? a_.attention_output_normed : a_.attention_output, r.between);
        backward_mlp(backward_output(weights_.mlp_output_norm, a_.mlp_output, d_hidden, gradients.mlp_output_norm, r),
                     gradients, r);
        machine_.backward_norm(weights_.mlp_norm, r.between, r.d_input, gradients.mlp_norm, d_hidden);

        backward_attention(backward_output(weights_.attention_output_norm, a_.attention_output, d_hidden,
                                           gradients.attention_output_norm, r),
                           gradients, r);
        machine_.backward_norm(weights_.attention_norm, input, r.d_input, gradients.attention_norm, d_hidden);
    }

private:
    void apply(Slot slot, const Matrix& in, Matrix& out) { machine_.apply(*weights_[slot], in, out); }

    int window() const { return config_.slides(weights_.layer) ? config_.sliding_window : 0; }
    Index q_width() const { return Index{config_.heads} * config_.head_dim; }
    Index kv_width() const { return Index{config_.kv_heads} * config_.head_dim; }

    void attention() {
        if (config_.fused_qkv) {
            apply(Slot::qkv, a_.attention_input, a_.qkv);
            machine_.take_columns(a_.qkv, 0, q_width(), a_.q);
            machine_.take_columns(a_.qkv, q_width(), kv_width(), a_.k);
            machine_.take_columns(a_.qkv, q_width() + kv_width(), kv_width(), a_.v);
        } else {
            apply(Slot::q, a_.attention_input, a_.q);
            apply(Slot::k, a_.attention_input, a_.k);
            apply(Slot::v, a_.attention_input, a_.v);
        }
        if (config_.qk_norm) {
            machine_.normalise_heads(weights_.q_norm, a_.q);
            machine_.normalise_heads(weights_.k_norm, a_.k);
        }
        if (!config_.learned_positions) {
            machine_.turn(rope_, sequences_, a_.q);
            machine_.turn(rope_, sequences_, a_.k);
        }
        machine_.attend(window(), sequences_, a_);
        apply(Slot::o, a_.attended, a_.attention_output);
    }

    void mlp() {
        if (config_.fused_gate_up) {
            apply(Slot::gate_up, a_.mlp_input, a_.gate_up);
            machine_.take_columns(a_.gate_up, 0, config_.intermediate, a_.gate);
            machine_.take_columns(a_.gate_up, config_.intermediate, config_.intermediate, a_.up);
        } else {
            if (config_.gated)
                apply(Slot::gate, a_.mlp_input, a_.gate);
            apply(Slot::up, a_.mlp_input, a_.up);
        }
        machine_.activate(a_.gate, a_.up, a_.activated);
        apply(Slot::down, a_.activated, a_.mlp_output);
    }

    void add_output(const Norm& norm, const Matrix& output, Matrix& normed, Matrix& hidden) {
        if (config_.output_norms)
            machine_.normalise(norm, output, normed);
        machine_.add(config_.output_norms ? normed : output, hidden);
    }

    /// The gradient of a part's output before it was normed, if it is.
    const Matrix& backward_output(const Norm& norm, const Matrix& output, const Matrix& d_hidden, Norm& gradient,
                                  BasicReturns<Matrix>& r) {
        if (!config_.output_norms)
            return d_hidden;
        machine_.clear(output.rows(), output.cols(), r.d_output);
        machine_.backward_norm(norm, output, d_hidden, gradient, r.d_output);
        return r.d_output;
    }

    /// What comes back through a linear layer replaces `d_in`, or is added to it.
    void backward_linear(Slot slot, const Matrix& in, const Matrix& d_out, Layer& gradients, Matrix& d_in,
                         bool add = false) {
        machine_.backward_linear(*weights_[slot], in, d_out, *gradients[slot], d_in, add);
    }

    void backward_attention(const Matrix& d_output, Layer& gradients, BasicReturns<Matrix>& r) {
        backward_linear(Slot::o, a_.attended, d_output, gradients, r.d_attended);
        machine_.backward_attend(window(), sequences_, a_, r.d_attended, r.d_q, r.d_k, r.d_v);
        if (!config_.learned_positions) {
            machine_.turn_back(rope_, sequences_, r.d_q);
            machine_.turn_back(rope_, sequences_, r.d_k);
        }
        if (config_.qk_norm)
            backward_qk_norms(gradients, r);
        const Matrix& in = a_.attention_input;
        if (config_.fused_qkv) {
            machine_.join({&r.d_q, &r.d_k, &r.d_v}, r.d_qkv);
            backward_linear(Slot::qkv, in, r.d_qkv, gradients, r.d_input);
        } else {
            backward_linear(Slot::q, in, r.d_q, gradients, r.d_input);
            backward_linear(Slot::k, in, r.d_k, gradients, r.d_input, true);
            backward_linear(Slot::v, in, r.d_v, gradients, r.d_input, true);
        }
    }

    void backward_qk_norms(Layer& gradients, BasicReturns<Matrix>& r) {
        if (config_.fused_qkv) {
            machine_.take_columns(a_.qkv, 0, q_width(), r.q);
            machine_.take_columns(a_.qkv, q_width(), kv_width(), r.k);
        } else {
            machine_.apply_unobserved(*weights_[Slot::q], a_.attention_input, r.q);
            machine_.apply_unobserved(*weights_[Slot::k], a_.attention_input, r.k);
        }
        machine_.backward_norm_heads(weights_.q_norm, r.q, gradients.q_norm, r.d_q);
        machine_.backward_norm_heads(weights_.k_norm, r.k, gradients.k_norm, r.d_k);
    }

    void backward_mlp(const Matrix& d_output, Layer& gradients, BasicReturns<Matrix>& r) {
        backward_linear(Slot::down, a_.activated, d_output, gradients, r.d_activated);
        machine_.backward_activate(a_.gate, a_.up, r.d_activated, r.d_gate, r.d_up);
        const Matrix& in = a_.mlp_input;
        if (config_.fused_gate_up) {
            machine_.join({&r.d_gate, &r.d_up}, r.d_gate_up);
            backward_linear(Slot::gate_up, in, r.d_gate_up, gradients, r.d_input);
        } else {
            if (config_.gated)
                backward_linear(Slot::gate, in, r.d_gate, gradients, r.d_input);
            backward_linear(Slot::up, in, r.d_up, gradients, r.d_input, config_.gated);
        }
    }

    Machine& machine_;
    const DecoderConfig& config_;
    const Layer& weights_;
    const RopeTable& rope_;
    std::span<const Sequence> sequences_;
    BasicActivations<Matrix>& a_;
};

} // namespace qs
