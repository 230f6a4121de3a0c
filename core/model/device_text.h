#pragma once

#include <memory>
#include <vector>

#include "core/base/job.h"
#include "core/model/device_machine.h"

namespace qs {

/// The weights of a whole decoder on a device.
struct DeviceModel {
    /// The layers and the head must outlive it. Throws Error where the device has no memory for them.
    DeviceModel(const DecoderConfig& config, std::span<const LayerWeights> layers, const Head& head, LayerMath& math);

    std::vector<DeviceLayer> layers;
    DeviceHead head;
};

/// A text that grows on a device: keys and values of its past are kept there. A copy shares the weights and goes on
/// with a text of its own.
class DeviceText {
public:
    /// `config` and `math` must outlive the object.
    DeviceText(const DecoderConfig& config, std::shared_ptr<const DeviceModel> model,
               std::shared_ptr<const RopeTables> rope, Index capacity, LayerMath& math);
    DeviceText(const DeviceText& other);
    DeviceText(DeviceText&&) = default;
    DeviceText& operator=(const DeviceText&) = delete;

    /// Embedded tokens go on after the first `length` tokens of the text; returns the logits of the one after them.
    RowVector feed(const Matrix& embedded, Index length, const JobControl& job);

private:
    const DecoderConfig& config_;
    std::shared_ptr<const DeviceModel> model_;
    std::shared_ptr<const RopeTables> rope_;
    DeviceMachine machine_;
    std::vector<DeviceKeyValues> past_; ///< of each layer
    BasicActivations<DeviceTensor> activations_;
    DeviceTensor hidden_, last_, normed_, logits_;
};

} // namespace qs
