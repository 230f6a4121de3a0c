#include "core/export/fold_smoothing.h"

#include "core/base/error.h"
#include "core/export/stored_values.h"

namespace qs {

namespace {

/// Rows [first, first + the number of divisors) of a matrix.
struct Rows {
    Slot slot;
    Index first;
};

class Folding {
public:
    Folding(const Decoder& decoder, const LayerWeights& weights, std::vector<QuantizedLinear>& linears)
        : decoder_(decoder), config_(decoder.config()), weights_(weights), linears_(linears) {}

    ChangedTensors run() {
        const Index kv = Index{config_.kv_heads} * config_.head_dim, q = Index{config_.heads} * config_.head_dim;
        fold_into_norm(&LayerWeights::attention_norm, config_.fused_qkv ? Slot::qkv : Slot::q);
        fold_into_rows(config_.fused_qkv ? Rows{Slot::qkv, q + kv} : Rows{Slot::v, 0}, Slot::o);
        const Slot first = config_.fused_gate_up ? Slot::gate_up : config_.gated ? Slot::gate : Slot::up;
        fold_into_norm(&LayerWeights::mlp_norm, first);
        fold_into_rows(config_.fused_gate_up ? Rows{Slot::gate_up, config_.intermediate} : Rows{Slot::up, 0},
                       Slot::down);
        return std::move(changed_);
    }

private:
    QuantizedLinear& linear(Slot slot) const {
        const std::size_t tensor = weights_[slot]->tensor.tensor;
        return *std::ranges::find_if(linears_, [&](const auto& other) { return other.tensor.tensor == tensor; });
    }

    /// Empty where there is nothing to do.
    RowVector smoothing_of(Slot slot) const {
        const std::vector<float>& smoothing = linear(slot).result.smoothing;
        const bool changes = std::ranges::any_of(smoothing, [](float s) { return s != 1; });
        if (!changes)
            return {};
        return Eigen::Map<const RowVector>(smoothing.data(), static_cast<Index>(smoothing.size()));
    }

    void fold_into_norm(Norm LayerWeights::*norm, Slot slot) {
        const RowVector smoothing = smoothing_of(slot);
        if (smoothing.size() == 0)
            return;
        const std::string name = decoder_.weights().norm_name(weights_.layer, norm);
        const Norm& values = weights_.*norm;
        // What is read has the offset added.
        changed_[name + ".weight"] =
            values.weight.cwiseQuotient(smoothing).array() - static_cast<float>(config_.norm_offset);
        if (values.bias.size() > 0)
            changed_[name + ".bias"] = values.bias.cwiseQuotient(smoothing);
    }

    void fold_into_rows(const Rows& rows, Slot slot) {
        const RowVector smoothing = smoothing_of(slot);
        if (smoothing.size() == 0)
            return;
        if (slot == Slot::down && !config_.gated && config_.activation != Activation::relu)
            throw Error("tensor " + linear(slot).tensor.name,
                        "has an activation in front of it that scales cannot be folded through",
                        "choose the method gptq or rtn");
        divide_scales(linear(rows.slot), rows.first, smoothing);
        const RowVector& bias = weights_[rows.slot]->bias;
        if (bias.size() == 0)
            return;
        RowVector divided = bias;
        divided.segment(rows.first, smoothing.size()) =
            bias.segment(rows.first, smoothing.size()).cwiseQuotient(smoothing);
        std::string name = linear(rows.slot).tensor.name;
        name.replace(name.rfind(".weight"), std::string::npos, ".bias");
        changed_[name] = std::move(divided);
    }

    static void divide_scales(QuantizedLinear& linear, Index first, const RowVector& divisors) {
        std::vector<float> scales = stored_values<float>(linear.result, "scales.f32");
        const std::size_t groups = scales.size() / static_cast<std::size_t>(linear.tensor.outputs);
        for (Index row = 0; row < divisors.size(); ++row)
            for (std::size_t group = 0; group < groups; ++group)
                scales[static_cast<std::size_t>(first + row) * groups + group] /= divisors[row];
        std::ranges::find(linear.result.stored, "scales.f32", &StoredArray::name)->bytes = bytes_of(scales);
    }

    const Decoder& decoder_;
    const DecoderConfig& config_;
    const LayerWeights& weights_;
    std::vector<QuantizedLinear>& linears_;
    ChangedTensors changed_;
};

} // namespace

ChangedTensors fold_smoothing(const Decoder& decoder, const LayerWeights& weights,
                              std::vector<QuantizedLinear>& linears) {
    return Folding(decoder, weights, linears).run();
}

} // namespace qs
