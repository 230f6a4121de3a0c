#include "core/model/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace qs {

namespace {

std::size_t bytes_of_layers(const WeightReader& reader) {
    std::size_t bytes = 0;
    for (const LinearTensor& linear : reader.linears())
        bytes += static_cast<std::size_t>(linear.outputs * linear.inputs) * sizeof(float);
    return bytes;
}

} // namespace

Session::Session(const Decoder& decoder, Index capacity, WeightHook hook, std::size_t resident_bytes, LayerMath* math)
    : decoder_(decoder), capacity_(capacity), hook_(std::move(hook)),
      rope_(std::make_shared<const RopeTables>(decoder.config(), capacity)),
      head_(std::make_shared<const Head>(decoder.load_head())) {
    const DecoderConfig& config = decoder.config();
    if (config.learned_positions && config.max_context > 0 && capacity > config.max_context)
        throw Error(decoder.weights().checkpoint().path.string(),
                    fmt::format("has {} positions, fewer than {}", config.max_context, capacity));
    std::vector<LayerWeights> layers;
    if (bytes_of_layers(decoder.weights()) <= resident_bytes)
        for (int layer = 0; layer < config.layers; ++layer)
            layers.push_back(decoder.weights().layer(layer, hook_));
    layers_ = std::make_shared<const std::vector<LayerWeights>>(std::move(layers));
    if (math != nullptr && !layers_->empty()) {
        on_device_.emplace(config, std::make_shared<const DeviceModel>(config, *layers_, *head_, *math), rope_,
                           capacity, *math);
        return;
    }
    const Index width = Index{config.kv_heads} * config.head_dim;
    for (int layer = 0; layer < config.layers; ++layer)
        past_.push_back({Matrix(capacity, width), Matrix(capacity, width), 0});
}

RowVector Session::feed(std::span<const int> tokens, JobControl& job) {
    const auto count = static_cast<Index>(tokens.size());
    if (count == 0 || length_ + count > capacity_)
        throw Error("the text",
                    fmt::format("of {} tokens cannot take {} more; there is room for {}", length_, count, capacity_));
    Matrix hidden = decoder_.embed(tokens, length_);
    const RowVector logits = on_device_ ? on_device_->feed(hidden, length_, job) : feed_on_host(std::move(hidden), job);
    length_ += count;
    return logits;
}

RowVector Session::feed_on_host(Matrix hidden, JobControl& job) {
    const Sequence whole{0, hidden.rows()};
    for (int layer = 0; layer < decoder_.config().layers; ++layer) {
        job.check();
        const auto place = static_cast<std::size_t>(layer);
        KeyValues& past = past_[place];
        past.length = length_; // what a cancelled call left is written over
        const auto advance = [&](const LayerWeights& weights) {
            forward_layer(decoder_.config(), weights, rope_->of(decoder_.config(), layer), std::span(&whole, 1), &past,
                          hidden, activations_);
        };
        layers_->empty() ? advance(decoder_.weights().layer(layer, hook_)) : advance((*layers_)[place]);
    }
    Matrix logits;
    decoder_.logits(*head_, hidden.bottomRows(1), logits);
    return logits.row(0);
}

std::vector<double> probabilities(const RowVector& logits, double temperature) {
    std::vector<double> result(static_cast<std::size_t>(logits.size()));
    const double largest = static_cast<double>(logits.maxCoeff());
    for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = std::exp((static_cast<double>(logits[static_cast<Index>(i)]) - largest) / temperature);
    const double sum = std::accumulate(result.begin(), result.end(), 0.0);
    for (double& p : result)
        p /= sum;
    return result;
}

int Sampler::choose(const RowVector& logits) {
    Index top = 0;
    logits.maxCoeff(&top);
    if (sampling_.temperature <= 0)
        return static_cast<int>(top);
    const std::vector<double> p = probabilities(logits, sampling_.temperature);
    std::vector<int> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater<>(), [&](int token) { return p[static_cast<std::size_t>(token)]; });
    double kept = 0;
    std::size_t count = 0;
    while (count < order.size() && kept < sampling_.top_p)
        kept += p[static_cast<std::size_t>(order[count++])];
    // 53 random bits: the same on every machine, unlike the standard distributions.
    double left = kept * std::ldexp(static_cast<double>(random_() >> 11), -53);
    for (std::size_t i = 0; i + 1 < count; ++i) {
        left -= p[static_cast<std::size_t>(order[i])];
        if (left < 0)
            return order[i];
    }
    return order[count > 0 ? count - 1 : 0];
}

} // namespace qs
