#pragma once

#include <span>
#include <vector>

#include "core/base/job.h"
#include "core/model/decoder.h"

// The gradient of the cross-entropy loss with respect to every parameter of a decoder, on the CPU. The order of the
// steps stands in layer_steps.h and model_steps.h; each of these undoes one step of layer.h. d_x is the gradient of the
// loss with respect to x throughout.

namespace qs {

/// Gradients of a decoder's parameters, in the shapes of the parameters. What is left empty is not computed; nothing is
/// left empty in a layer. `Norm::weight` stands for the factor that is applied, offset included.
template <class MatrixType, class VectorType>
struct BasicGradients {
    std::vector<BasicLayer<MatrixType, VectorType>> layers;
    MatrixType embedding;                   ///< with a tied head that one's gradient too
    MatrixType positions;                   ///< where they are learned
    BasicHead<MatrixType, VectorType> head; ///< without the weight of a tied head
};
using DecoderGradients = BasicGradients<Matrix, RowVector>;

/// Zeros for the parameters of layers.
std::vector<LayerWeights> zeros_like(std::span<const LayerWeights> layers);
/// Zeros for all parameters; `positions` of them where they are learned.
DecoderGradients zero_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                                Index positions);

/// Σ −ln p over all tokens but the first of each sequence; the gradient of `scale` times it is added to `gradients`.
/// The batch is as Decoder::start() made it. With `teacher`, the hidden states behind the last layer of a model with
/// the same head, it is the sum of Kullback-Leibler divergences of what that model predicts of the same tokens from
/// what this one does. Of the activations only every layer's input is kept: a layer is run again on the way back. Runs
/// on all threads of the calling TBB arena; the result does not depend on their number. Throws Cancelled.
double add_gradients(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head,
                     const Batch& batch, double scale, DecoderGradients& gradients, const JobControl& job,
                     const Matrix* teacher = nullptr);
/// The hidden states behind the last layer.
Matrix run_layers(const DecoderConfig& config, std::span<const LayerWeights> layers, const Batch& batch,
                  const JobControl& job);
/// The same sum without gradients, of hidden states behind the last layer.
double loss_of(const DecoderConfig& config, const Head& head, const Batch& batch, const Matrix& hidden,
               const Matrix* teacher = nullptr);
/// Tokens that the losses above are sums over.
std::size_t scored_tokens(const Batch& batch);

// --- its parts -----------------------------------------------------------------------------------------------------

/// Every token adds the gradient of its hidden state to its row of the embedding and to that of its position.
void backward_embedding(const DecoderConfig& config, const Batch& batch, const Matrix& d_hidden,
                        DecoderGradients& gradients);

/// Adds to the gradients of a norm and of what it was given.
void backward_norm(const DecoderConfig& config, const Norm& norm, const Matrix& in, const Matrix& d_out, Norm& gradient,
                   Matrix& d_in);
/// Adds to the gradients of a linear layer; d_in is replaced.
void backward_linear(const Linear& linear, const Matrix& in, const Matrix& d_out, Linear& gradient, Matrix& d_in);
/// d_gate is left alone where there is no gate.
void backward_activate(const DecoderConfig& config, const Matrix& gate, const Matrix& up, const Matrix& d_out,
                       Matrix& d_gate, Matrix& d_up);
/// Attention within each sequence.
void backward_attend(const DecoderConfig& config, int window, std::span<const Sequence> sequences,
                     const LayerActivations& a, const Matrix& d_out, Matrix& d_q, Matrix& d_k, Matrix& d_v);

} // namespace qs
