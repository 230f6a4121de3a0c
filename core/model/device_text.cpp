#include "core/model/device_text.h"

#include "core/model/layer_steps.h"

namespace qs {

DeviceModel::DeviceModel(const DecoderConfig& config, std::span<const LayerWeights> host_layers, const Head& host_head,
                         LayerMath& math)
    : layers(host_layers.size()) {
    DeviceMachine machine(config, math);
    for (std::size_t i = 0; i < layers.size(); ++i)
        machine.upload(host_layers[i], layers[i]);
    machine.upload(host_head, head);
}

DeviceText::DeviceText(const DecoderConfig& config, std::shared_ptr<const DeviceModel> model,
                       std::shared_ptr<const RopeTables> rope, Index capacity, LayerMath& math)
    : config_(config), model_(std::move(model)), rope_(std::move(rope)), machine_(config, math),
      past_(model_->layers.size()) {
    const Index width = Index{config.kv_heads} * config.head_dim;
    for (DeviceKeyValues& past : past_) {
        machine_.clear(capacity, width, past.keys);
        machine_.clear(capacity, width, past.values);
    }
}

DeviceText::DeviceText(const DeviceText& other)
    : config_(other.config_), model_(other.model_), rope_(other.rope_), machine_(other.config_, other.machine_.math()),
      past_(other.past_.size()) {
    for (std::size_t i = 0; i < past_.size(); ++i) {
        machine_.assign(other.past_[i].keys, past_[i].keys);
        machine_.assign(other.past_[i].values, past_[i].values);
    }
}

RowVector DeviceText::feed(const Matrix& embedded, Index length, const JobControl& job) {
    const Sequence whole{0, embedded.rows()};
    machine_.begin(rope_);
    machine_.upload(embedded, hidden_);
    for (std::size_t i = 0; i < past_.size(); ++i) {
        job.check();
        machine_.set_past(&past_[i], length);
        LayerSteps<DeviceMachine>(machine_, model_->layers[i], rope_->of(config_, static_cast<int>(i)),
                                  std::span(&whole, 1), activations_)
            .forward(hidden_);
    }
    machine_.take_rows(hidden_, hidden_.rows() - 1, 1, last_);
    machine_.normalise(model_->head.norm, last_, normed_);
    machine_.multiply(normed_, model_->head.weight, logits_);
    machine_.soft_cap(config_.logit_softcap, logits_);
    RowVector logits;
    machine_.download(logits_, logits);
    return logits;
}

} // namespace qs
