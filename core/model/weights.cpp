#include "core/model/weights.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <unordered_set>

#include "core/analysis/pipeline.h"
#include "core/base/error.h"
#include "core/formats/load.h"

namespace qs {

namespace {

/// A linear layer's name in Hugging Face's Llama and its relatives, in its GPT-2, and in GGUF.
struct SlotName {
    Slot slot;
    Role role;
    const char* llama;
    const char* gpt2;
    const char* gguf;
};

constexpr std::array<SlotName, slot_count> slot_names = {{
    {Slot::q, Role::attention_q, "self_attn.q_proj", "", "attn_q"},
    {Slot::k, Role::attention_k, "self_attn.k_proj", "", "attn_k"},
    {Slot::v, Role::attention_v, "self_attn.v_proj", "", "attn_v"},
    {Slot::qkv, Role::attention_qkv, "self_attn.qkv_proj", "attn.c_attn", "attn_qkv"},
    {Slot::o, Role::attention_o, "self_attn.o_proj", "attn.c_proj", "attn_output"},
    {Slot::gate, Role::mlp_gate, "mlp.gate_proj", "", "ffn_gate"},
    {Slot::up, Role::mlp_up, "mlp.up_proj", "mlp.c_fc", "ffn_up"},
    {Slot::gate_up, Role::mlp_gate_up, "mlp.gate_up_proj", "", "ffn_up"},
    {Slot::down, Role::mlp_down, "mlp.down_proj", "mlp.c_proj", "ffn_down"},
}};

const SlotName& names_of(Slot slot) {
    return slot_names[static_cast<std::size_t>(slot)];
}

} // namespace

struct NormName {
    Norm LayerWeights::*norm;
    enum class Where : std::uint8_t { every_layer, outputs, heads } where;
    const char* llama;
    const char* sandwich; ///< Hugging Face's where outputs are normed too
    const char* gpt2;
    const char* gguf;
};

namespace {

using Where = NormName::Where;

constexpr std::array<NormName, 6> norm_names = {{
    {&LayerWeights::attention_norm, Where::every_layer, "input_layernorm", "input_layernorm", "ln_1", "attn_norm"},
    {&LayerWeights::attention_output_norm, Where::outputs, "", "post_attention_layernorm", "", "post_attention_norm"},
    {&LayerWeights::mlp_norm, Where::every_layer, "post_attention_layernorm", "pre_feedforward_layernorm", "ln_2",
     "ffn_norm"},
    {&LayerWeights::mlp_output_norm, Where::outputs, "", "post_feedforward_layernorm", "", "post_ffw_norm"},
    {&LayerWeights::q_norm, Where::heads, "self_attn.q_norm", "self_attn.q_norm", "", "attn_q_norm"},
    {&LayerWeights::k_norm, Where::heads, "self_attn.k_norm", "self_attn.k_norm", "", "attn_k_norm"},
}};

std::string gguf_layer_name(int layer, std::string_view module) {
    return fmt::format("blk.{}.{}", layer, module);
}

/// What stands in front of "layers.0…" or "h.0…" in Hugging Face's names; it depends on the class that was saved.
std::string find_prefix(const Checkpoint& checkpoint, bool gpt2) {
    const char* const embedding = gpt2 ? "wte.weight" : "embed_tokens.weight";
    for (const char* prefix : {"model.", "transformer.", "", "language_model.model.", "model.language_model."})
        if (checkpoint.find(std::string(prefix) + embedding))
            return prefix;
    throw Error(checkpoint.path.string(), fmt::format("has no tensor {}", embedding));
}

/// Elements read at a time by one thread.
constexpr std::uint64_t piece = std::uint64_t{1} << 18;

/// A whole tensor as float32, in the order in which it is stored.
void load_all(const Checkpoint& checkpoint, const TensorInfo& tensor, float* out) {
    const TensorView view = view_of(checkpoint, tensor);
    const std::uint64_t count = view.shape.count();
    tbb::parallel_for(std::uint64_t{0}, (count + piece - 1) / piece, [&](std::uint64_t i) {
        const std::uint64_t begin = i * piece, end = std::min(begin + piece, count);
        load_weights(view.dtype, view.byte_swapped, view.data, begin, static_cast<std::size_t>(end - begin),
                     out + begin);
    });
    view.file->release(tensor.offset, tensor.bytes);
}

} // namespace

WeightReader::WeightReader(std::shared_ptr<const Checkpoint> checkpoint, DecoderConfig config)
    : checkpoint_(std::move(checkpoint)), config_(std::move(config)) {
    if (!config_.gguf)
        prefix_ = find_prefix(*checkpoint_, config_.learned_positions);
    refuse_unknown_tensors();
}

// --- names ---------------------------------------------------------------------------------------------------------

std::string WeightReader::layer_name(int layer, std::string_view module) const {
    if (config_.gguf)
        return gguf_layer_name(layer, module);
    return fmt::format("{}{}.{}.{}", prefix_, config_.learned_positions ? "h" : "layers", layer, module);
}

std::string WeightReader::module_of(Slot slot) const {
    const SlotName& names = names_of(slot);
    return config_.gguf ? names.gguf : config_.learned_positions ? names.gpt2 : names.llama;
}

const TensorInfo& WeightReader::require(const std::string& name) const {
    const auto index = checkpoint_->find(name);
    if (!index)
        throw Error(checkpoint_->path.string(), fmt::format("has no tensor {}", name));
    const TensorInfo& tensor = checkpoint_->tensors[*index];
    if (!is_weight_type(tensor.dtype))
        throw Error(checkpoint_->path.string() + ": tensor " + name,
                    tensor.dtype_name + " does not hold floating-point weights",
                    "open the model before it was quantized");
    return tensor;
}

/// Empty where this architecture has no such norm.
std::string WeightReader::norm_module(const NormName& names) const {
    if ((names.where == Where::outputs && !config_.output_norms) || (names.where == Where::heads && !config_.qk_norm))
        return {};
    if (config_.gguf)
        return names.gguf;
    return config_.learned_positions ? names.gpt2 : config_.output_norms ? names.sandwich : names.llama;
}

std::string WeightReader::norm_name(int layer, Norm LayerWeights::*norm) const {
    const std::string module = norm_module(*std::ranges::find(norm_names, norm, &NormName::norm));
    return module.empty() ? std::string() : layer_name(layer, module);
}

/// A tensor that the layers have and the forward pass would not use belongs to another model than it takes this for.
void WeightReader::refuse_unknown_tensors() const {
    std::unordered_set<std::string> known;
    for (int layer = 0; layer < config_.layers; ++layer) {
        for (const SlotName& names : slot_names)
            if (find_linear(layer, names.slot))
                for (const char* part : {".weight", ".bias"})
                    known.insert(layer_name(layer, module_of(names.slot)) + part);
        for (const NormName& names : norm_names)
            if (const std::string module = norm_module(names); !module.empty())
                for (const char* part : {".weight", ".bias"})
                    known.insert(layer_name(layer, module) + part);
    }
    const auto is_mask = [](const TensorInfo& tensor) { return tensor.name.ends_with(".attn.bias"); }; // of GPT-2
    for (const TensorInfo& tensor : checkpoint_->tensors)
        if (tensor.layer && is_parameter(tensor) && !is_mask(tensor) && !in_other_tower(tensor.name) &&
            !known.contains(tensor.name))
            throw Error(checkpoint_->path.string(),
                        fmt::format("tensor {} is no part of the architecture '{}' as it is known here", tensor.name,
                                    config_.family));
}

// --- linear layers -------------------------------------------------------------------------------------------------

Index WeightReader::outputs_of(Slot slot) const {
    const Index q = Index{config_.heads} * config_.head_dim, kv = Index{config_.kv_heads} * config_.head_dim;
    switch (slot) {
    case Slot::q:
        return q;
    case Slot::k:
    case Slot::v:
        return kv;
    case Slot::qkv:
        return q + 2 * kv;
    case Slot::gate:
    case Slot::up:
        return config_.intermediate;
    case Slot::gate_up:
        return 2 * Index{config_.intermediate};
    case Slot::o:
    case Slot::down:
        break;
    }
    return config_.hidden;
}

Index WeightReader::inputs_of(Slot slot) const {
    if (slot == Slot::o)
        return Index{config_.heads} * config_.head_dim;
    return slot == Slot::down ? config_.intermediate : config_.hidden;
}

/// None where this architecture has no such layer.
std::optional<LinearTensor> WeightReader::find_linear(int layer, Slot slot) const {
    const bool of_qkv = slot == Slot::q || slot == Slot::k || slot == Slot::v;
    const bool of_gate_up = slot == Slot::gate || slot == Slot::up;
    if ((of_qkv && config_.fused_qkv) || (slot == Slot::qkv && !config_.fused_qkv) ||
        (of_gate_up && config_.fused_gate_up) || (slot == Slot::gate_up && !config_.fused_gate_up) ||
        (slot == Slot::gate && !config_.gated))
        return std::nullopt;
    const std::string name = layer_name(layer, module_of(slot)) + ".weight";
    const TensorInfo& tensor = require(name);
    LinearTensor linear{*checkpoint_->find(name), name, names_of(slot).role, layer, outputs_of(slot), inputs_of(slot)};
    const std::vector<std::int64_t> expected =
        tensor.transposed ? std::vector{linear.inputs, linear.outputs} : std::vector{linear.outputs, linear.inputs};
    if (tensor.shape != expected)
        throw Error(checkpoint_->path.string() + ": tensor " + name,
                    fmt::format("has {} weights where the config asks for {} × {}", tensor.elements(), linear.outputs,
                                linear.inputs));
    return linear;
}

std::vector<LinearTensor> WeightReader::linears() const {
    std::vector<LinearTensor> result;
    for (int layer = 0; layer < config_.layers; ++layer)
        for (const SlotName& names : slot_names)
            if (auto linear = find_linear(layer, names.slot))
                result.push_back(std::move(*linear));
    return result;
}

bool is_qk(Role role) {
    return role == Role::attention_q || role == Role::attention_k;
}

// Stored row 2i + p of a head is row i + p · head_dim / 2 of Hugging Face's.

Index interleaved_row(Index row, Index head_dim) {
    const Index half = head_dim / 2, within = row % head_dim;
    return row - within + 2 * (within % half) + within / half;
}

Index row_before_interleaving(Index row, Index head_dim) {
    const Index within = row % head_dim;
    return row - within + within / 2 + within % 2 * (head_dim / 2);
}

Index WeightReader::stored_row(Role role, Index row) const {
    const bool moved = config_.interleaved_qk && is_qk(role);
    return moved ? interleaved_row(row, config_.head_dim) : row;
}

void copy_without_matrices(const LayerWeights& from, LayerWeights& to) {
    to.layer = from.layer;
    for (std::size_t slot = 0; slot < slot_count; ++slot) {
        if (!from.linears[slot])
            continue;
        if (!to.linears[slot])
            to.linears[slot].emplace();
        to.linears[slot]->tensor = from.linears[slot]->tensor;
        to.linears[slot]->bias = from.linears[slot]->bias;
        to.linears[slot]->product = {};
    }
    for (const auto norm :
         {&LayerWeights::attention_norm, &LayerWeights::attention_output_norm, &LayerWeights::mlp_norm,
          &LayerWeights::mlp_output_norm, &LayerWeights::q_norm, &LayerWeights::k_norm})
        to.*norm = from.*norm;
}

LayerWeights WeightReader::layer(int index, const WeightHook& hook) const {
    LayerWeights weights;
    weights.layer = index;
    for (const SlotName& names : slot_names) {
        auto tensor = find_linear(index, names.slot);
        if (!tensor)
            continue;
        Linear linear{std::move(*tensor), {}, {}};
        linear.weight = load(linear.tensor);
        const RowVector bias =
            optional_vector(layer_name(index, module_of(names.slot)) + ".bias", linear.tensor.outputs);
        linear.bias = bias;
        for (Index row = 0; row < bias.size(); ++row)
            linear.bias[row] = bias[stored_row(names.role, row)];
        if (hook)
            hook(linear.tensor, linear.weight);
        if (hook.product)
            linear.product = hook.product(linear.tensor);
        weights[names.slot] = std::move(linear);
    }
    for (const NormName& names : norm_names)
        if (const std::string module = norm_module(names); !module.empty())
            weights.*names.norm =
                norm(layer_name(index, module), names.where == Where::heads ? config_.head_dim : config_.hidden);
    return weights;
}

Matrix WeightReader::load(const LinearTensor& linear) const {
    const TensorInfo& tensor = checkpoint_->tensors[linear.tensor];
    Matrix stored(tensor.transposed ? linear.inputs : linear.outputs,
                  tensor.transposed ? linear.outputs : linear.inputs);
    load_all(*checkpoint_, tensor, stored.data());
    if (tensor.transposed)
        return stored.transpose();
    if (stored_row(linear.role, 1) == 1)
        return stored; // in that order already
    Matrix weight(stored.rows(), stored.cols());
    for (Index row = 0; row < weight.rows(); ++row)
        weight.row(row) = stored.row(stored_row(linear.role, row));
    return weight;
}

Matrix WeightReader::load_rows(const LinearTensor& linear, std::span<const int> rows) const {
    const TensorView view = view_of(*checkpoint_, checkpoint_->tensors[linear.tensor]);
    Matrix result(static_cast<Index>(rows.size()), linear.inputs);
    tbb::parallel_for(std::size_t{0}, rows.size(), [&](std::size_t i) {
        load_weights(view.dtype, view.byte_swapped, view.data, static_cast<std::uint64_t>(rows[i]) * view.shape.columns,
                     static_cast<std::size_t>(view.shape.columns), result.row(static_cast<Index>(i)).data());
    });
    return result;
}

// --- outside the layers --------------------------------------------------------------------------------------------

LinearTensor WeightReader::outer_matrix(const char* hugging_face, const char* gpt2, const char* gguf) const {
    const std::string name = config_.gguf ? gguf : std::string(config_.learned_positions ? gpt2 : hugging_face);
    const TensorInfo& tensor = require(name);
    if (tensor.shape.size() != 2)
        throw Error(checkpoint_->path.string() + ": tensor " + name, "is no matrix");
    return {*checkpoint_->find(name),
            name,
            tensor.role,
            -1,
            static_cast<Index>(tensor.rows()),
            static_cast<Index>(tensor.columns())};
}

LinearTensor WeightReader::embedding() const {
    const std::string llama = prefix_ + "embed_tokens.weight", gpt2 = prefix_ + "wte.weight";
    LinearTensor tensor = outer_matrix(llama.c_str(), gpt2.c_str(), "token_embd.weight");
    if (tensor.inputs != config_.hidden)
        throw Error(checkpoint_->path.string() + ": tensor " + tensor.name,
                    fmt::format("has {} columns where the config asks for {}", tensor.inputs, config_.hidden));
    return tensor;
}

LinearTensor WeightReader::head() const {
    if (config_.tied_head)
        return embedding();
    const bool multimodal = prefix_.starts_with("language_model.");
    LinearTensor tensor = outer_matrix(multimodal ? "language_model.lm_head.weight" : "lm_head.weight",
                                       "lm_head.weight", "output.weight");
    if (tensor.inputs != config_.hidden || tensor.outputs != config_.vocabulary)
        throw Error(checkpoint_->path.string() + ": tensor " + tensor.name,
                    fmt::format("is {} × {} where {} × {} is expected", tensor.outputs, tensor.inputs,
                                config_.vocabulary, config_.hidden));
    return tensor;
}

Matrix WeightReader::positions(Index count) const {
    const std::string wpe = prefix_ + "wpe.weight";
    const LinearTensor tensor = outer_matrix("", wpe.c_str(), "position_embd.weight");
    if (tensor.inputs != config_.hidden || tensor.outputs < count)
        throw Error(checkpoint_->path.string(),
                    fmt::format("has {} positions, fewer than the {} of the text", tensor.outputs, count),
                    "choose a smaller context");
    std::vector<int> rows(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < rows.size(); ++i)
        rows[i] = static_cast<int>(i);
    return load_rows(tensor, rows);
}

Norm WeightReader::output_norm() const {
    if (config_.gguf)
        return norm("output_norm", config_.hidden);
    return norm(prefix_ + (config_.learned_positions ? "ln_f" : "norm"), config_.hidden);
}

// --- vectors -------------------------------------------------------------------------------------------------------

RowVector WeightReader::vector(const std::string& name, Index size) const {
    const TensorInfo& tensor = require(name);
    if (tensor.elements() != static_cast<std::uint64_t>(size))
        throw Error(checkpoint_->path.string() + ": tensor " + name,
                    fmt::format("has {} values where the config asks for {}", tensor.elements(), size));
    RowVector result(size);
    load_all(*checkpoint_, tensor, result.data());
    return result;
}

RowVector WeightReader::optional_vector(const std::string& name, Index size) const {
    return checkpoint_->find(name) ? vector(name, size) : RowVector();
}

Norm WeightReader::norm(const std::string& stem, Index size) const {
    Norm result{vector(stem + ".weight", size), optional_vector(stem + ".bias", size)};
    result.weight.array() += static_cast<float>(config_.norm_offset);
    return result;
}

// --- llama.cpp's names ---------------------------------------------------------------------------------------------

std::vector<ConvertedTensor> WeightReader::converted() const {
    std::vector<ConvertedTensor> result;
    const auto add = [&](const std::string& from, std::string to) {
        const auto tensor = checkpoint_->find(from);
        if (tensor)
            result.push_back({*tensor, std::move(to), {}, false, false});
        return tensor.has_value();
    };
    const auto add_norm = [&](const std::string& from, const std::string& to) {
        if (add(from + ".weight", to + ".weight"))
            result.back().norm_weight = true;
        add(from + ".bias", to + ".bias");
    };
    add(embedding().name, "token_embd.weight");
    if (config_.learned_positions)
        add(prefix_ + "wpe.weight", "position_embd.weight");
    for (int layer = 0; layer < config_.layers; ++layer) {
        for (const SlotName& names : slot_names) {
            auto linear = find_linear(layer, names.slot);
            if (!linear)
                continue;
            const std::string from = layer_name(layer, module_of(names.slot)), to = gguf_layer_name(layer, names.gguf);
            add(from + ".weight", to + ".weight");
            result.back().linear = std::move(linear);
            result.back().of_qk = is_qk(names.role);
            if (add(from + ".bias", to + ".bias"))
                result.back().of_qk = is_qk(names.role);
        }
        for (const NormName& names : norm_names)
            if (const std::string module = norm_module(names); !module.empty())
                add_norm(layer_name(layer, module), gguf_layer_name(layer, names.gguf));
    }
    add_norm(prefix_ + (config_.learned_positions ? "ln_f" : "norm"), "output_norm");
    if (!config_.tied_head)
        add(head().name, "output.weight");
    return result;
}

} // namespace qs
