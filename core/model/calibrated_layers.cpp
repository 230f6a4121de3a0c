#include "core/model/calibrated_layers.h"

#include <algorithm>
#include <memory>

#include "core/base/error.h"
#include "core/base/stopwatch.h"

namespace qs {

namespace {

/// Linear layers with the same inputs, in the order in which they run; a slot may be absent.
constexpr std::array<std::array<Slot, 3>, 6> input_groups = {{
    {Slot::qkv, Slot::qkv, Slot::qkv},
    {Slot::q, Slot::k, Slot::v},
    {Slot::o, Slot::o, Slot::o},
    {Slot::gate_up, Slot::gate_up, Slot::gate_up},
    {Slot::gate, Slot::up, Slot::up},
    {Slot::down, Slot::down, Slot::down},
}};

/// Those of a group that a layer has.
std::vector<const Linear*> linears_of(const LayerWeights& layer, std::size_t group) {
    std::vector<const Linear*> linears;
    for (const Slot slot : input_groups[group])
        if (const auto& linear = layer[slot]; linear && (linears.empty() || linears.back() != &*linear))
            linears.push_back(&*linear);
    return linears;
}

/// Which inputs a method is calibrated on.
enum class Inputs : std::uint8_t { none, unquantized, quantized };

Inputs inputs_of(const Variant& variant) {
    if (!method(variant.method.id).calibrates)
        return Inputs::none;
    return variant.method.id == "gptq" ? Inputs::quantized : Inputs::unquantized;
}

bool takes_hessian(const Variant& variant) {
    return variant.method.id == "gptq" || variant.method.id == "awq";
}

double weights_of(const LinearTensor& linear) {
    return static_cast<double>(linear.outputs) * static_cast<double>(linear.inputs);
}

/// How many tokens run through the layer, whose linear layers have `all` weights, in about the time that a method takes
/// for one of them. A token takes two operations a weight; what GPTQ and AWQ do grows with the columns too. The factors
/// are measured.
std::uint64_t work_of(const MethodSpec& method, const LinearTensor& linear, double all) {
    const auto columns = static_cast<double>(linear.inputs);
    double tokens = 10; // rounding
    if (method.id == "gptq")
        tokens += 6 * columns;
    else if (method.id == "awq")
        tokens += (1.2 * method.integer("steps") + (method.flag("clip") ? 6 : 0)) * columns;
    else if (method.id == "hqq")
        tokens += 230 * method.integer("iterations");
    return static_cast<std::uint64_t>(tokens * weights_of(linear) / all);
}

TensorShape shape_of(const Matrix& weight) {
    return {static_cast<std::uint64_t>(weight.rows()), static_cast<std::uint64_t>(weight.cols())};
}

/// The method as it is applied to one of the linear layers.
MethodSpec method_for(const MethodSpec& method, Role role) {
    MethodSpec own = method;
    if (own.id == "awq" && (role == Role::attention_q || role == Role::attention_k || role == Role::attention_qkv))
        own.parameters["clip"].assign(1, '0');
    return own;
}

Matrix matrix_of(const std::vector<float>& values, Index rows, Index columns) {
    return Eigen::Map<const Matrix>(values.data(), rows, columns);
}

} // namespace

// --- the text ------------------------------------------------------------------------------------------------------

CalibratedLayers::CalibratedLayers(const Decoder& decoder, std::vector<Variant> variants,
                                   std::span<const std::vector<int>> calibration, JobControl& job, LayerMath* math)
    : decoder_(decoder), job_(job), runner_(decoder.config(), math) {
    std::vector<Batch> text = decoder.start(calibration);
    for (Variant& variant : variants) {
        require_takes(variant.method, variant.format);
        const Inputs inputs = inputs_of(variant);
        if (inputs != Inputs::none && text.empty())
            throw Error("method " + variant.method.id, "needs a text to calibrate on", "give a calibration text");
        if (inputs == Inputs::unquantized) {
            shared_ = text;
            shared_hessian_ |= takes_hessian(variant);
        }
        variants_.push_back({std::move(variant), inputs == Inputs::quantized ? text : std::vector<Batch>(), 0});
    }
}

std::uint64_t CalibratedLayers::work(const Decoder& decoder, std::span<const Variant> variants,
                                     std::span<const std::vector<int>> calibration) {
    std::uint64_t quantizing = 0;
    const std::vector<LinearTensor> linears = decoder.weights().linears();
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        double weights = 0;
        for (const LinearTensor& linear : linears)
            if (linear.layer == layer)
                weights += weights_of(linear);
        for (const LinearTensor& linear : linears)
            if (linear.layer == layer)
                for (const Variant& variant : variants)
                    quantizing += work_of(variant.method, linear, weights);
    }
    std::uint64_t tokens = 0;
    for (const auto& text : calibration)
        tokens += text.size();
    const auto count = [&](Inputs inputs) {
        return static_cast<std::uint64_t>(std::ranges::count(variants, inputs, inputs_of));
    };
    // Behind what GPTQ has quantized the text runs through all layers but the last again.
    const auto layers = static_cast<std::uint64_t>(decoder.config().layers);
    const std::uint64_t runs =
        std::min<std::uint64_t>(count(Inputs::unquantized), 1) * layers + count(Inputs::quantized) * (2 * layers - 1);
    return runs * tokens + quantizing;
}

/// Runs the text through the layer as it is.
CalibratedLayers::Calibrations CalibratedLayers::collect(std::vector<Batch>& batches, bool hessian) {
    Calibrations calibrations;
    const auto observe = [&](Observation& observation) {
        for (std::size_t group = 0; group < group_count; ++group) {
            const auto linears = linears_of(*layer_, group);
            if (linears.empty() || linears.front()->tensor.tensor != observation.tensor().tensor)
                continue;
            const Matrix& inputs = observation.inputs();
            auto& calibration = calibrations[group];
            if (!calibration)
                calibration.emplace(static_cast<std::size_t>(inputs.cols()), CalibrationOptions{hessian, 0});
            calibration->add(inputs.data(), static_cast<std::size_t>(inputs.rows()));
        }
    };
    runner_.advance(ready_, batches, observe, job_);
    count_progress(batches);
    return calibrations;
}

void CalibratedLayers::count_progress(const std::vector<Batch>& batches) const {
    for (const Batch& batch : batches)
        job_.advance(batch.tokens.size());
}

void CalibratedLayers::begin(const LayerWeights& weights) {
    layer_ = &weights;
    shared_calibrations_ = {};
    const auto runs = [](const State& state) { return inputs_of(state.variant) != Inputs::none; };
    if (std::ranges::any_of(variants_, runs))
        runner_.prepare(weights, ready_);
    if (shared_.empty())
        return;
    const Stopwatch stopwatch;
    shared_calibrations_ = collect(shared_, shared_hessian_);
    const double seconds = stopwatch.seconds();
    for (State& state : variants_)
        if (inputs_of(state.variant) == Inputs::unquantized)
            state.seconds += seconds;
}

// --- the layer -----------------------------------------------------------------------------------------------------

void CalibratedLayers::quantize(std::size_t variant, LayerWeights& target, const Sink& sink) {
    State& state = variants_[variant];
    const Stopwatch stopwatch;
    copy_without_matrices(*layer_, target);
    Calibrations own;
    const bool of_quantized = !state.batches.empty();
    if (of_quantized) {
        std::vector<Batch> inputs = state.batches;
        own = collect(inputs, true);
    }
    for (std::size_t group = 0; group < group_count; ++group)
        quantize_group(group, state.variant, of_quantized ? own : shared_calibrations_, target, sink);
    if (of_quantized && !is_last_layer()) {
        runner_.prepare(target, ready_target_);
        runner_.advance(ready_target_, state.batches, {}, job_);
        count_progress(state.batches);
    }
    state.seconds += stopwatch.seconds();
}

void CalibratedLayers::quantize_group(std::size_t group, const Variant& variant, const Calibrations& calibrations,
                                      LayerWeights& target, const Sink& sink) const {
    const std::vector<const Linear*> linears = linears_of(*layer_, group);
    if (linears.empty())
        return;
    const Calibration none(static_cast<std::size_t>(linears.front()->weight.cols()), {false, 0});
    const bool calibrates = method(variant.method.id).calibrates;
    const Calibration& calibration = calibrates ? calibrations[group].value() : none;
    const std::vector<float> smoothing = smoothing_of(group, variant, calibration);
    double weights = 0;
    for (const auto& linear : layer_->linears)
        if (linear)
            weights += weights_of(linear->tensor);
    for (const Linear* linear : linears) {
        job_.check();
        const auto same = [&](const auto& other) { return other && other->tensor.tensor == linear->tensor.tensor; };
        Linear& made = **std::ranges::find_if(target.linears, same);
        try {
            MethodResult result =
                apply_method(method_for(variant.method, linear->tensor.role), variant.format, linear->weight.data(),
                             shape_of(linear->weight), calibration, job_, smoothing, false);
            if (!variant.rounds_inputs())
                result.activations = variant.activations;
            if (sink)
                sink(linear->tensor, result);
            made.weight = matrix_of(result.weight, linear->weight.rows(), linear->weight.cols());
            made.product = simulated_product(std::move(result));
            job_.advance(work_of(variant.method, linear->tensor, weights));
        } catch (const Error& error) {
            throw Error(decoder_.weights().checkpoint().path.string() + ": tensor " + linear->tensor.name,
                        error.what());
        }
    }
}

std::vector<float> CalibratedLayers::smoothing_of(std::size_t group, const Variant& variant,
                                                  const Calibration& calibration) const {
    const DecoderConfig& config = decoder_.config();
    const Slot slot = input_groups[group].front();
    const bool awq = variant.method.id == "awq", smoothquant = variant.method.id == "smoothquant";
    if (!awq && !smoothquant)
        return {};
    const bool behind_norm = slot != Slot::o && slot != Slot::down;
    if ((smoothquant && !behind_norm) || (awq && slot == Slot::o && config.kv_heads != config.heads))
        return std::vector<float>(calibration.columns(), 1);
    std::vector<LayerWeight> layers;
    for (const Linear* linear : linears_of(*layer_, group))
        layers.push_back({linear->weight.data(), shape_of(linear->weight)});
    return shared_smoothing(variant.method, variant.format, layers, calibration, job_);
}

LinearProduct rounded_product(Activations activations) {
    MethodResult result;
    result.activations = activations;
    return simulated_product(std::move(result));
}

LinearProduct simulated_product(MethodResult result) {
    if (result.activations == Activations::none && result.outlier_threshold == 0)
        return {};
    result.weight.clear();
    result.stored.clear();
    return [kept = std::make_shared<const MethodResult>(std::move(result))](const Matrix& weight, const Matrix& inputs,
                                                                            Matrix& outputs) {
        outputs.resize(inputs.rows(), weight.rows());
        layer_outputs(*kept, weight.data(), shape_of(weight), inputs.data(), static_cast<std::size_t>(inputs.rows()),
                      outputs.data());
    };
}

} // namespace qs
