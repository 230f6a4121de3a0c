#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/job.h"
#include "core/model/layer.h"

namespace qs {

/// The turns of all positions of a text, for both kinds of layers; empty with learned positions.
class RopeTables {
public:
    RopeTables(const DecoderConfig& config, Index tokens);
    const RopeTable& of(const DecoderConfig& config, int layer) const {
        return config.slides(layer) ? sliding_ : full_;
    }

private:
    RopeTable full_, sliding_;
};

/// Texts that go through the layers together: a row of `hidden` for each token.
struct Batch {
    std::vector<int> tokens;
    std::vector<Sequence> sequences;
    std::shared_ptr<const RopeTables> rope;
    Matrix hidden;
    /// In place of `hidden`, which is then empty: on a device. Shared by copies of the batch, and never written to.
    std::optional<DeviceMatrix> resident = {};
};

/// What turns hidden states into logits.
template <class MatrixType, class VectorType>
struct BasicHead {
    BasicNorm<VectorType> norm;
    MatrixType weight;
};
using Head = BasicHead<Matrix, RowVector>;

/// Logits of hidden states behind the last layer: [rows, vocabulary], so give few rows at a time.
void head_logits(const DecoderConfig& config, const Head& head, const Matrix& hidden, Matrix& out);

/// A decoder over an open checkpoint. Weights are taken a layer at a time: all texts are advanced through a layer
/// before the next one is loaded, so that memory does not grow with the number of layers:
///
///     std::vector<Batch> batches = decoder.start(texts);
///     for (int layer = 0; layer < decoder.config().layers; ++layer)
///         decoder.advance(decoder.weights().layer(layer, hook), batches, activations, observer, job);
///     const Head head = decoder.load_head();
///     decoder.logits(head, batches[0].hidden.middleRows(…), logits);
///
/// Arithmetic is float32, on all threads of the calling TBB arena; results do not depend on their number.
class Decoder {
public:
    /// Throws Error naming what the model has that the forward pass does not know.
    explicit Decoder(std::shared_ptr<const Checkpoint> checkpoint);

    const DecoderConfig& config() const { return reader_.config(); }
    const WeightReader& weights() const { return reader_; }

    /// The texts' embeddings, in batches of about `batch_tokens` rows; a text is never divided. `embedding` stands in
    /// for the checkpoint's. Throws Error where a token is not in the vocabulary or a text is longer than the learned
    /// positions.
    std::vector<Batch> start(std::span<const std::vector<int>> texts, const Matrix* embedding = nullptr) const;
    /// Embeddings of tokens at positions first, first + 1, ….
    Matrix embed(std::span<const int> tokens, Index first, const Matrix* embedding = nullptr) const;

    /// Advances all batches through one layer.
    void advance(const LayerWeights& weights, std::vector<Batch>& batches, LayerActivations& activations,
                 const LinearObserver& observer, JobControl& job) const;

    Head load_head(const WeightHook& hook = {}) const;
    /// Logits of the rows: [rows, vocabulary], so give few rows at a time.
    void logits(const Head& head, const Matrix& hidden, Matrix& out) const;

    /// All logits of one short text.
    Matrix run(const std::vector<int>& tokens, const WeightHook& hook = {}, const LinearObserver& observer = {}) const;

private:
    WeightReader reader_;
};

/// Rows of a batch that make a product worth dividing among threads while the activations of an MLP stay small.
inline constexpr Index batch_tokens = 1024;

} // namespace qs
