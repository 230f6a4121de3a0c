#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/base/job.h"
#include "core/methods/apply.h"
#include "core/model/decoder.h"
#include "core/model/layer_runner.h"
#include "core/model/variant.h"

namespace qs {

/// What methods make of the linear layers of a decoder, a layer at a time, calibrated on a text that goes through the
/// layers with them:
///
///     CalibratedLayers layers(decoder, variants, calibration, job);
///     for (int layer = 0; layer < decoder.config().layers; ++layer) {
///         const LayerWeights weights = decoder.weights().layer(layer);
///         layers.begin(weights);
///         for (std::size_t i = 0; i < variants.size(); ++i)
///             layers.quantize(i, targets[i]);
///     }
///
/// Which inputs a layer is calibrated on is as in the reference implementations. GPTQ's (gptq.py, llama.py) are those
/// of the model quantized so far: the text runs through a layer's own weights, the layer is quantized, and the text
/// runs through it again, which gives the next layer's inputs. AWQ's (pre_quant.py) and SmoothQuant's are those of the
/// unquantized model, and so are LLM.int8()'s and the importance matrix's, whose variants share one run of the text.
///
/// Layers with the same inputs (q, k and v; gate and up) share a calibration, and with AWQ and SmoothQuant the scales.
/// Layers in front of which the references find nothing to fold scales into keep theirs: with SmoothQuant o and down,
/// with AWQ o where heads share keys and values. AWQ clips neither q nor k, nor what they are part of.
///
/// Memory holds the hidden states of the calibration text, once for the variants that share it and once for each of
/// GPTQ's, and what is collected of one layer. Results do not depend on the number of threads.
class CalibratedLayers {
public:
    /// Is given what a method made of a linear layer, with what is stored of it, before it is forgotten.
    using Sink = std::function<void(const LinearTensor&, const MethodResult&)>;

    /// Without a variant that calibrates the text may be empty. `decoder` and `job` must outlive the object, which
    /// advances `job` by work(). The text is run with `math`, on the CPU where that is null. Throws Error where a
    /// method is not defined for its format, or where there is no text to calibrate it on.
    CalibratedLayers(const Decoder& decoder, std::vector<Variant> variants,
                     std::span<const std::vector<int>> calibration, JobControl& job, LayerMath* math = nullptr);

    /// Goes on to the next layer, from the first. Its weights must live until the layer after it is begun.
    void begin(const LayerWeights& weights);
    /// Quantizes the layer: `target` is the whole layer as the variant runs it. Once for each variant and layer.
    void quantize(std::size_t variant, LayerWeights& target, const Sink& sink = {});

    /// Wall-clock time that the variant has taken so far: what it would alone.
    double seconds(std::size_t variant) const { return variants_[variant].seconds; }

    /// All work for these variants, in tokens times layers: those of the calibration text that run through layers, and
    /// about as many as would take the time that the methods do.
    static std::uint64_t work(const Decoder& decoder, std::span<const Variant> variants,
                              std::span<const std::vector<int>> calibration);

private:
    /// Linear layers of a decoder layer that have the same inputs: place in input_groups (calibrated_layers.cpp).
    static constexpr std::size_t group_count = 6;
    using Calibrations = std::array<std::optional<Calibration>, group_count>;

    struct State {
        Variant variant;
        std::vector<Batch> batches; ///< GPTQ: the text as the quantized layers so far have it
        double seconds = 0;
    };

    void count_progress(const std::vector<Batch>& batches) const;
    Calibrations collect(std::vector<Batch>& batches, bool hessian);
    void quantize_group(std::size_t group, const Variant& variant, const Calibrations& calibrations,
                        LayerWeights& target, const Sink& sink) const;
    std::vector<float> smoothing_of(std::size_t group, const Variant& variant, const Calibration& calibration) const;
    bool is_last_layer() const { return layer_->layer + 1 == decoder_.config().layers; }

    const Decoder& decoder_;
    JobControl& job_;
    std::vector<State> variants_;
    std::vector<Batch> shared_; ///< the text as the unquantized model has it, if a variant wants it
    bool shared_hessian_ = false;
    LayerRunner runner_;
    const LayerWeights* layer_ = nullptr;
    ReadyLayer ready_, ready_target_; ///< the layer, and what was made of it, as they are run
    Calibrations shared_calibrations_;
};

/// What a linear layer computes whose inputs are rounded as the result of a method says; empty where they are not. Of
/// the result only what that takes is kept.
LinearProduct simulated_product(MethodResult result);
/// The same where no method says so.
LinearProduct rounded_product(Activations activations);

} // namespace qs
