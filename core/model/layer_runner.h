#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/base/job.h"
#include "core/model/backward.h"
#include "core/model/device_machine.h"
#include "core/model/host_machine.h"
#include "core/model/model_steps.h"
#include "core/model/scores.h"

// Layers and heads as a device runs them, or the CPU where the device does not: the weights are brought there, the
// hidden states of the texts stay there from layer to layer.

namespace qs {

/// Weights at the place where they are used.
struct ReadyLayer {
    const LayerWeights* weights = nullptr; ///< which must outlive it
    DeviceLayer resident;
};
struct ReadyHead {
    const Head* head = nullptr; ///< which must outlive it
    DeviceHead resident;
};

/// A linear layer at work: what it was given and what its matrix makes of it, before the bias is added.
class Observation {
public:
    virtual ~Observation() = default;

    virtual const LinearTensor& tensor() const = 0;
    virtual const Matrix& inputs() = 0;
    virtual double squared_outputs() = 0; ///< Σ y²
    /// Σ (ŷ − y)², where ŷ is what the same linear layer of another makes of the inputs.
    virtual double squared_error(const ReadyLayer& other) = 0;
};
using LayerObserver = std::function<void(Observation&)>;

/// Runs texts through a decoder a layer at a time. Results do not depend on the number of threads; the device's are the
/// CPU's to rounding. Not for several threads at once. What it throws beyond Cancelled is for with_layer_math().
class LayerRunner {
public:
    /// `config`, and `math` unless it is null, must outlive the object.
    LayerRunner(const DecoderConfig& config, LayerMath* math);
    ~LayerRunner();

    bool on_device() const { return device_ != nullptr; }
    /// Makes a layer ready to run; the memory of what was ready before is used again.
    void prepare(const LayerWeights& weights, ReadyLayer& ready);
    void prepare(const Head& head, ReadyHead& ready);

    /// Advances all batches through one layer. The first time brings their hidden states to the device.
    void advance(const ReadyLayer& layer, std::vector<Batch>& batches, const LayerObserver& observer, JobControl& job);
    /// The hidden states of a batch, wherever they are.
    Matrix hidden_of(const Batch& batch);
    /// Logits of rows of a batch.
    void logits(const ReadyHead& head, const Batch& batch, Index first, Index rows, Matrix& out);

    /// Scores of the tokens that rows of a batch predict, which the calls of score() are then beside.
    TokenScores refer(const ReadyHead& head, const Batch& batch, Index first, std::span<const int> targets);
    TokenScores score(const ReadyHead& head, const Batch& batch);

private:
    struct OnDevice;

    void advance_on_device(const ReadyLayer& layer, Batch& batch);
    void logits_on_device(const ReadyHead& head, const Batch& batch, Index first, Index rows, DeviceTensor& out);

    const DecoderConfig& config_;
    std::unique_ptr<OnDevice> device_; ///< null: the CPU
    LayerActivations activations_;
    Index first_ = 0; ///< the rows that refer() was given, and what they predict
    std::vector<int> targets_;
    std::unique_ptr<Distributions> reference_;
};

/// A decoder in memory that is run forward and backward: QAT's.
class ModelRunner {
public:
    /// What is given must outlive the object.
    ModelRunner(const DecoderConfig& config, const Head& head, LayerMath* math);
    ~ModelRunner();

    /// The weights that are run from now on; to be given again when they have changed.
    void set_weights(std::span<const LayerWeights> layers);
    /// The hidden states behind the last layer.
    Matrix run_layers(const Batch& batch, const JobControl& job);
    double loss_of(const Batch& batch, const Matrix& hidden, const Matrix* teacher = nullptr);

    /// Sets the gradients of the linear layers' weights to 0, which the following calls add to.
    void begin_gradients(DecoderGradients& gradients);
    /// add_gradients() of backward.h, for the layers' parameters.
    double add_gradients(const Batch& batch, double scale, DecoderGradients& gradients, const JobControl& job,
                         const Matrix* teacher = nullptr);
    /// Brings to the host what has been added on the device.
    void finish_gradients(DecoderGradients& gradients);

private:
    struct OnDevice;

    const DecoderConfig& config_;
    const Head& head_;
    std::span<const LayerWeights> layers_;
    std::unique_ptr<OnDevice> device_; ///< null: the CPU
};

} // namespace qs
