#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "core/model/decoder.h"
#include "core/model/device_text.h"

namespace qs {

/// Float32 weights of layers that are kept in memory, where nothing else is asked for.
inline constexpr std::size_t usual_resident_bytes = std::size_t{8} << 30;

/// A text that grows token by token through one model: keys and values of its past are kept, so a token costs one row.
/// Several sessions, each with a hook that quantizes, can be fed the same or each other's tokens side by side. A copy
/// shares the weights and goes on with a text of its own.
class Session {
public:
    /// Weights stay in memory as float32 if those of the layers take at most `resident_bytes`; else every feed() reads
    /// a layer at a time and puts it through the hook again. `capacity` is the longest text; scalings of rope that
    /// depend on a text's length take this one. Weights that stay in memory are run by `math` unless it is null; what
    /// fails there is for with_layer_math(). Throws Error where the model has not so many positions.
    Session(const Decoder& decoder, Index capacity, WeightHook hook = {},
            std::size_t resident_bytes = usual_resident_bytes, LayerMath* math = nullptr);

    /// Adds tokens to the text; returns the logits of the one after them. Throws Error beyond the capacity, Cancelled.
    RowVector feed(std::span<const int> tokens, JobControl& job);

    /// Forgets all tokens but the first `length`.
    void rewind(Index length) { length_ = std::min(length, length_); }

    Index length() const { return length_; }
    Index capacity() const { return capacity_; }

private:
    RowVector feed_on_host(Matrix hidden, JobControl& job);

    const Decoder& decoder_;
    Index capacity_;
    WeightHook hook_;
    std::shared_ptr<const RopeTables> rope_;
    std::shared_ptr<const std::vector<LayerWeights>> layers_; ///< empty where they do not fit
    std::shared_ptr<const Head> head_;
    std::optional<DeviceText> on_device_;
    std::vector<KeyValues> past_; ///< of each layer, where the CPU runs them
    Index length_ = 0;
    LayerActivations activations_;
};

/// The distribution that logits mean at a temperature (above 0).
std::vector<double> probabilities(const RowVector& logits, double temperature = 1);

/// Chooses the next token.
struct Sampling {
    double temperature = 0; ///< 0 takes the most probable token
    double top_p = 1;       ///< only the most probable tokens that together have this probability
};
class Sampler {
public:
    explicit Sampler(Sampling sampling, std::uint64_t seed = 0) : sampling_(sampling), random_(seed) {}
    int choose(const RowVector& logits);

private:
    Sampling sampling_;
    std::mt19937_64 random_;
};

} // namespace qs
