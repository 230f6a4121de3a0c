#include "core/model/layer_runner.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <numeric>

namespace qs {

namespace {

double sum_of_squares(const Matrix& values) {
    std::vector<double> rows(static_cast<std::size_t>(values.rows()));
    tbb::parallel_for(Index{0}, values.rows(), [&](Index row) {
        rows[static_cast<std::size_t>(row)] = values.row(row).cast<double>().squaredNorm();
    });
    return std::accumulate(rows.begin(), rows.end(), 0.0);
}

/// The linear layer of a layer that takes the place of the checkpoint's tensor.
template <class Layer>
const auto& linear_of(const Layer& layer, const LinearTensor& tensor) {
    const auto same = [&](const auto& linear) { return linear && linear->tensor.tensor == tensor.tensor; };
    return **std::ranges::find_if(layer.linears, same);
}

class HostObservation final : public Observation {
public:
    HostObservation(const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs)
        : tensor_(tensor), inputs_(inputs), outputs_(outputs) {}

    const LinearTensor& tensor() const override { return tensor_; }
    const Matrix& inputs() override { return inputs_; }
    double squared_outputs() override { return sum_of_squares(outputs_); }
    double squared_error(const ReadyLayer& other) override {
        Matrix outputs;
        multiply_by(linear_of(*other.weights, tensor_), inputs_, outputs);
        outputs -= outputs_;
        return sum_of_squares(outputs);
    }

private:
    const LinearTensor& tensor_;
    const Matrix& inputs_;
    const Matrix& outputs_;
};

class DeviceObservation final : public Observation {
public:
    /// `scratch` is kept by the caller to spare allocations.
    DeviceObservation(DeviceMachine& machine, const LinearTensor& tensor, const DeviceTensor& inputs,
                      const DeviceTensor& outputs, DeviceTensor& scratch)
        : machine_(machine), tensor_(tensor), inputs_(inputs), outputs_(outputs), scratch_(scratch) {}

    const LinearTensor& tensor() const override { return tensor_; }
    const Matrix& inputs() override {
        if (on_host_.size() == 0)
            machine_.download(inputs_, on_host_);
        return on_host_;
    }
    double squared_outputs() override { return machine_.math().squared_norm(outputs_.matrix(), nullptr); }
    double squared_error(const ReadyLayer& other) override {
        machine_.multiply_by(linear_of(other.resident, tensor_), inputs_, scratch_);
        return machine_.math().squared_norm(scratch_.matrix(), &outputs_.matrix());
    }

private:
    DeviceMachine& machine_;
    const LinearTensor& tensor_;
    const DeviceTensor& inputs_;
    const DeviceTensor& outputs_;
    DeviceTensor& scratch_;
    Matrix on_host_;
};

} // namespace

// --- a layer at a time ---------------------------------------------------------------------------------------------

struct LayerRunner::OnDevice {
    OnDevice(const DecoderConfig& config, LayerMath& math) : machine(config, math) {}

    DeviceMachine machine;
    BasicActivations<DeviceTensor> activations;
    DeviceTensor scratch, normed, logits, reference;
};

LayerRunner::LayerRunner(const DecoderConfig& config, LayerMath* math) : config_(config) {
    if (math != nullptr)
        device_ = std::make_unique<OnDevice>(config, *math);
}

LayerRunner::~LayerRunner() = default;

void LayerRunner::prepare(const LayerWeights& weights, ReadyLayer& ready) {
    ready.weights = &weights;
    if (device_)
        device_->machine.upload(weights, ready.resident);
}

void LayerRunner::prepare(const Head& head, ReadyHead& ready) {
    ready.head = &head;
    if (device_)
        device_->machine.upload(head, ready.resident);
}

void LayerRunner::advance(const ReadyLayer& layer, std::vector<Batch>& batches, const LayerObserver& observer,
                          JobControl& job) {
    if (device_)
        device_->machine.set_observer(
            [&](const DeviceLinear& linear, const DeviceTensor& inputs, const DeviceTensor& outputs) {
                job.check();
                DeviceObservation observation(device_->machine, linear.tensor, inputs, outputs, device_->scratch);
                if (observer)
                    observer(observation);
            });
    const auto check_and_observe = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs) {
        job.check();
        HostObservation observation(tensor, inputs, outputs);
        if (observer)
            observer(observation);
    };
    for (Batch& batch : batches)
        if (device_)
            advance_on_device(layer, batch);
        else
            forward_layer(config_, *layer.weights, batch.rope->of(config_, layer.weights->layer), batch.sequences,
                          nullptr, batch.hidden, activations_, check_and_observe);
}

void LayerRunner::advance_on_device(const ReadyLayer& layer, Batch& batch) {
    DeviceMachine& machine = device_->machine;
    DeviceTensor hidden;
    if (batch.resident)
        machine.assign(DeviceTensor(*batch.resident), hidden);
    else
        machine.upload(batch.hidden, hidden);
    machine.begin(batch.rope);
    LayerSteps<DeviceMachine>(machine, layer.resident, batch.rope->of(config_, layer.weights->layer), batch.sequences,
                              device_->activations)
        .forward(hidden);
    batch.resident = hidden.matrix();
    batch.hidden.resize(0, 0);
}

Matrix LayerRunner::hidden_of(const Batch& batch) {
    if (!batch.resident)
        return batch.hidden;
    Matrix hidden;
    device_->machine.download(DeviceTensor(*batch.resident), hidden);
    return hidden;
}

void LayerRunner::logits_on_device(const ReadyHead& head, const Batch& batch, Index first, Index rows,
                                   DeviceTensor& out) {
    DeviceMachine& machine = device_->machine;
    const DeviceMatrix& hidden = *batch.resident;
    const DeviceTensor part(
        hidden.part(static_cast<std::size_t>(first), 0, static_cast<std::size_t>(rows), hidden.columns()));
    machine.normalise(head.resident.norm, part, device_->normed);
    machine.multiply(device_->normed, head.resident.weight, out);
    machine.soft_cap(config_.logit_softcap, out);
}

void LayerRunner::logits(const ReadyHead& head, const Batch& batch, Index first, Index rows, Matrix& out) {
    if (device_) {
        logits_on_device(head, batch, first, rows, device_->logits);
        device_->machine.download(device_->logits, out);
        return;
    }
    head_logits(config_, *head.head, batch.hidden.middleRows(first, rows), out);
}

TokenScores LayerRunner::refer(const ReadyHead& head, const Batch& batch, Index first, std::span<const int> targets) {
    first_ = first;
    targets_.assign(targets.begin(), targets.end());
    if (device_) {
        logits_on_device(head, batch, first_, static_cast<Index>(targets_.size()), device_->reference);
        return score(head, batch);
    }
    Matrix logits;
    this->logits(head, batch, first_, static_cast<Index>(targets_.size()), logits);
    reference_ = std::make_unique<Distributions>(std::move(logits));
    return qs::score(*reference_, *reference_, targets_);
}

TokenScores LayerRunner::score(const ReadyHead& head, const Batch& batch) {
    const auto rows = static_cast<Index>(targets_.size());
    if (!device_) {
        Matrix logits;
        this->logits(head, batch, first_, rows, logits);
        return qs::score(Distributions(std::move(logits)), *reference_, targets_);
    }
    logits_on_device(head, batch, first_, rows, device_->logits);
    TokenScores scores;
    for (const RowScore& row :
         device_->machine.math().score(device_->logits.matrix(), device_->reference.matrix(), targets_)) {
        scores.nll.push_back(static_cast<float>(row.nll));
        scores.kld.push_back(static_cast<float>(row.kld));
        scores.same_top.push_back(row.same_top);
    }
    return scores;
}

// --- all layers in memory ------------------------------------------------------------------------------------------

struct ModelRunner::OnDevice {
    OnDevice(const DecoderConfig& config, LayerMath& math) : machine(config, math) {}

    /// The batch with its hidden states as they are in front of the first layer.
    ModelSteps<DeviceMachine> begin(const Batch& batch, const JobControl& job) {
        machine.begin(batch.rope);
        return {machine, layers, batch, workspace, job};
    }

    DeviceMachine machine;
    BasicWorkspace<DeviceTensor> workspace;
    std::vector<DeviceLayer> layers;
    DeviceHead head;
    BasicGradients<DeviceTensor, DeviceTensor> gradients;
    DeviceTensor start, teacher;
};

ModelRunner::ModelRunner(const DecoderConfig& config, const Head& head, LayerMath* math)
    : config_(config), head_(head) {
    if (math == nullptr)
        return;
    device_ = std::make_unique<OnDevice>(config, *math);
    device_->machine.upload(head, device_->head);
}

ModelRunner::~ModelRunner() = default;

void ModelRunner::set_weights(std::span<const LayerWeights> layers) {
    layers_ = layers;
    if (!device_)
        return;
    device_->layers.resize(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i)
        device_->machine.upload(layers[i], device_->layers[i]);
}

Matrix ModelRunner::run_layers(const Batch& batch, const JobControl& job) {
    if (!device_)
        return qs::run_layers(config_, layers_, batch, job);
    DeviceTensor& hidden = device_->workspace.hidden;
    device_->machine.upload(batch.hidden, hidden);
    device_->begin(batch, job).run_layers(hidden);
    Matrix result;
    device_->machine.download(hidden, result);
    return result;
}

double ModelRunner::loss_of(const Batch& batch, const Matrix& hidden, const Matrix* teacher) {
    if (!device_)
        return qs::loss_of(config_, head_, batch, hidden, teacher);
    device_->machine.upload(hidden, device_->start);
    if (teacher != nullptr)
        device_->machine.upload(*teacher, device_->teacher);
    return device_->begin(batch, {}).head_loss(device_->head, device_->start,
                                               teacher != nullptr ? &device_->teacher : nullptr, 1, nullptr);
}

namespace {

/// Zeros in the shapes of a layer's parameters.
void clear_like(DeviceMachine& machine, const DeviceLayer& layer, DeviceLayer& zeros) {
    for (std::size_t slot = 0; slot < slot_count; ++slot) {
        const auto& linear = layer.linears[slot];
        if (!linear)
            continue;
        DeviceLinear& own = zeros.linears[slot] ? *zeros.linears[slot] : zeros.linears[slot].emplace();
        machine.clear(linear->weight.rows(), linear->weight.cols(), own.weight);
        if (linear->bias.size() > 0)
            machine.clear(1, linear->bias.cols(), own.bias);
    }
    for (const auto norm : norms_of(layer))
        if ((layer.*norm).weight.size() > 0)
            machine.zeros_like(layer.*norm, zeros.*norm);
}

void download_layer(DeviceMachine& machine, const DeviceLayer& from, LayerWeights& to) {
    for (std::size_t slot = 0; slot < slot_count; ++slot)
        if (const auto& linear = from.linears[slot]) {
            machine.download(linear->weight, to.linears[slot]->weight);
            machine.download(linear->bias, to.linears[slot]->bias);
        }
    const auto from_norms = norms_of(from);
    const auto to_norms = norms_of(to);
    for (std::size_t i = 0; i < from_norms.size(); ++i) {
        machine.download((from.*from_norms[i]).weight, (to.*to_norms[i]).weight);
        machine.download((from.*from_norms[i]).bias, (to.*to_norms[i]).bias);
    }
}

} // namespace

void ModelRunner::begin_gradients(DecoderGradients& gradients) {
    if (!device_) {
        for (LayerWeights& layer : gradients.layers)
            for (auto& linear : layer.linears)
                if (linear)
                    linear->weight.setZero();
        return;
    }
    device_->gradients.layers.resize(device_->layers.size());
    for (std::size_t i = 0; i < device_->layers.size(); ++i)
        clear_like(device_->machine, device_->layers[i], device_->gradients.layers[i]);
}

double ModelRunner::add_gradients(const Batch& batch, double scale, DecoderGradients& gradients, const JobControl& job,
                                  const Matrix* teacher) {
    if (!device_)
        return qs::add_gradients(config_, layers_, head_, batch, scale, gradients, job, teacher);
    device_->machine.upload(batch.hidden, device_->start);
    if (teacher != nullptr)
        device_->machine.upload(*teacher, device_->teacher);
    return device_->begin(batch, job)
        .add_gradients(device_->head, device_->start, scale, device_->gradients,
                       teacher != nullptr ? &device_->teacher : nullptr);
}

void ModelRunner::finish_gradients(DecoderGradients& gradients) {
    if (device_)
        for (std::size_t i = 0; i < gradients.layers.size(); ++i)
            download_layer(device_->machine, device_->gradients.layers[i], gradients.layers[i]);
}

} // namespace qs
