#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/base/job.h"
#include "core/model/backward.h"
#include "core/model/layer_steps.h"

// All layers and the head of a decoder in memory, forward and backward, whatever the steps are done with (LayerSteps).

namespace qs {

/// Logits that are held at a time.
inline constexpr Index most_logits = Index{1} << 24;

/// The token that each row predicts; −1 for the last of a sequence.
std::vector<int> targets_of(const Batch& batch);

/// What is computed on the way; kept to spare allocations.
template <class MatrixType>
struct BasicWorkspace {
    BasicActivations<MatrixType> activations;
    BasicReturns<MatrixType> returns;
    std::vector<MatrixType> inputs; ///< of each layer, then the last one's output
    MatrixType hidden, d_hidden;
    MatrixType part, teacher_part, normed, logits, teacher_logits, capped, d_normed, d_part; ///< of a few rows
};

/// A model and a batch of texts.
template <class Machine>
class ModelSteps {
public:
    using Matrix = typename Machine::Matrix;
    using Vector = typename Machine::Vector;
    using Layer = BasicLayer<Matrix, Vector>;
    using Gradients = BasicGradients<Matrix, Vector>;

    ModelSteps(Machine& machine, std::span<const Layer> layers, const Batch& batch, BasicWorkspace<Matrix>& workspace,
               const JobControl& job)
        : machine_(machine), config_(machine.config()), layers_(layers), batch_(batch), w_(workspace), job_(job) {}

    /// Advances hidden states through all layers.
    void run_layers(Matrix& hidden) {
        for (const Layer& layer : layers_)
            forward(layer, hidden);
    }

    /// add_gradients() of backward.h, but for the gradients of the embedding and positions: workspace.d_hidden has what
    /// those are made of.
    double add_gradients(const BasicHead<Matrix, Vector>& head, const Matrix& start, double scale, Gradients& gradients,
                         const Matrix* teacher) {
        w_.inputs.resize(layers_.size() + 1);
        machine_.assign(start, w_.inputs[0]);
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            machine_.assign(w_.inputs[i], w_.inputs[i + 1]);
            forward(layers_[i], w_.inputs[i + 1]);
        }
        const double loss = head_loss(head, w_.inputs.back(), teacher, scale, &gradients);
        for (std::size_t i = layers_.size(); i-- > 0;) {
            if (i + 1 < layers_.size()) { // the last layer's activations are still there
                machine_.assign(w_.inputs[i], w_.hidden);
                forward(layers_[i], w_.hidden);
            }
            job_.check();
            steps(layers_[i]).backward(w_.inputs[i], gradients.layers[i], w_.returns, w_.d_hidden);
        }
        return loss;
    }

    /// The loss, and where gradients are asked for also those of what is behind the last layer; a few rows at a time.
    double head_loss(const BasicHead<Matrix, Vector>& head, const Matrix& hidden, const Matrix* teacher, double scale,
                     Gradients* gradients) {
        const std::vector<int> targets = targets_of(batch_);
        const Index chunk = std::max<Index>(1, most_logits / head.weight.rows());
        if (gradients != nullptr)
            machine_.clear(hidden.rows(), hidden.cols(), w_.d_hidden);
        double loss = 0;
        for (Index first = 0; first < hidden.rows(); first += chunk) {
            const Index rows = std::min(chunk, hidden.rows() - first);
            if (teacher != nullptr) {
                machine_.take_rows(*teacher, first, rows, w_.teacher_part);
                logits(head, w_.teacher_part, w_.teacher_logits);
            }
            machine_.take_rows(hidden, first, rows, w_.part);
            logits(head, w_.part, w_.logits);
            if (config_.logit_softcap != 0 && gradients != nullptr)
                machine_.assign(w_.logits, w_.capped);
            loss += machine_.losses(
                scale, std::span(targets).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
                teacher != nullptr ? &w_.teacher_logits : nullptr, w_.logits);
            if (gradients != nullptr)
                backward_head(head, first, *gradients);
        }
        return loss;
    }

private:
    LayerSteps<Machine> steps(const Layer& layer) {
        return {machine_, layer, batch_.rope->of(config_, layer.layer), batch_.sequences, w_.activations};
    }

    void forward(const Layer& layer, Matrix& hidden) {
        job_.check();
        steps(layer).forward(hidden);
    }

    void logits(const BasicHead<Matrix, Vector>& head, const Matrix& hidden, Matrix& out) {
        machine_.normalise(head.norm, hidden, w_.normed);
        machine_.multiply(w_.normed, head.weight, out);
        machine_.soft_cap(config_.logit_softcap, out);
    }

    /// From the gradient of the logits, before which they were capped, back to the hidden states.
    void backward_head(const BasicHead<Matrix, Vector>& head, Index first, Gradients& gradients) {
        if (config_.logit_softcap != 0)
            machine_.backward_soft_cap(config_.logit_softcap, w_.capped, w_.logits);
        Matrix& d_weight = config_.tied_head ? gradients.embedding : gradients.head.weight;
        machine_.backward_multiply(w_.normed, head.weight, w_.logits, d_weight.size() > 0 ? &d_weight : nullptr,
                                   w_.d_normed, false);
        BasicNorm<Vector> unwanted;
        const bool wanted = gradients.head.norm.weight.size() > 0;
        if (!wanted)
            machine_.zeros_like(head.norm, unwanted);
        machine_.clear(w_.part.rows(), w_.part.cols(), w_.d_part);
        machine_.backward_norm(head.norm, w_.part, w_.d_normed, wanted ? gradients.head.norm : unwanted, w_.d_part);
        machine_.put_rows(w_.d_part, first, w_.d_hidden);
    }

    Machine& machine_;
    const DecoderConfig& config_;
    std::span<const Layer> layers_;
    const Batch& batch_;
    BasicWorkspace<Matrix>& w_;
    const JobControl& job_;
};

} // namespace qs
