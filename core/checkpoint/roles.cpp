#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include "core/checkpoint/containers.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

using namespace std::string_view_literals;

/// A tensor's name cut at its dots: "model.layers.3.mlp.up_proj.weight" has six segments.
struct Name {
    static constexpr std::size_t most = 16;
    std::array<std::string_view, most> segments;
    std::size_t size = 0;

    std::string_view operator[](std::size_t i) const { return i < size ? segments[i] : std::string_view{}; }
    std::span<const std::string_view> all() const { return {segments.data(), size}; }
};

/// Names of more than 16 segments keep the first 16; no model has them.
Name split(std::string_view text) {
    Name name;
    while (name.size < Name::most) {
        const std::size_t dot = text.find('.');
        name.segments[name.size++] = text.substr(0, dot);
        if (dot == std::string_view::npos)
            break;
        text.remove_prefix(dot + 1);
    }
    return name;
}

bool one_of(std::string_view text, std::span<const std::string_view> list) {
    return std::ranges::find(list, text) != list.end();
}

std::optional<int> index_of(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size() && text.front() != '-';
    return whole ? std::optional(value) : std::nullopt;
}

constexpr std::array layer_lists = {"layers"sv, "layer"sv, "h"sv, "blk"sv, "block"sv, "blocks"sv};

/// True for what belongs to the vision or audio part of a multimodal model, not to the decoder. GGUF marks it by the
/// first segment.
bool in_other_tower(const Name& name) {
    constexpr std::array anywhere = {"vision_tower"sv, "vision_model"sv, "visual"sv,
                                     "audio_tower"sv,  "audio_model"sv,  "image_encoder"sv};
    constexpr std::array first = {"v"sv, "a"sv, "mm"sv};
    return one_of(name[0], first) || std::ranges::any_of(name.all(), [&](auto part) { return one_of(part, anywhere); });
}

/// Where the layer's number stands in the name; 0 if the tensor is outside the layers.
std::size_t layer_position(const Name& name) {
    for (std::size_t i = 1; i < name.size; ++i)
        if (one_of(name[i - 1], layer_lists) && index_of(name[i]))
            return i;
    return 0;
}

bool in_attention(const Name& name, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
        if (contains(name[i], "attn") || contains(name[i], "attention") || contains(name[i], "Attention"))
            return true;
    return false;
}

bool is_norm(std::string_view module) {
    constexpr std::array names = {"ln_f"sv, "ln_1"sv, "ln_2"sv, "ln"sv, "ln1"sv, "ln2"sv, "ln_attn"sv, "ln_mlp"sv};
    return contains(module, "norm") || contains(module, "Norm") || one_of(module, names);
}

struct Rule {
    std::string_view module;
    Role role;
};

// Modules whose role does not depend on where they stand in a layer. In order: Hugging Face (Llama, Mistral, Qwen,
// Gemma, Phi, Falcon, OPT, T5), Meta's own names, DeepSeek's latent attention, GGUF (llama.cpp's llama-arch.cpp).
constexpr std::array layer_rules = {
    Rule{"q_proj", Role::attention_q},
    Rule{"k_proj", Role::attention_k},
    Rule{"v_proj", Role::attention_v},
    Rule{"o_proj", Role::attention_o},
    Rule{"qkv_proj", Role::attention_qkv},
    Rule{"query_key_value", Role::attention_qkv},
    Rule{"Wqkv", Role::attention_qkv},
    Rule{"W_pack", Role::attention_qkv},
    Rule{"c_attn", Role::attention_qkv},
    Rule{"gate_proj", Role::mlp_gate},
    Rule{"up_proj", Role::mlp_up},
    Rule{"down_proj", Role::mlp_down},
    Rule{"gate_up_proj", Role::mlp_gate_up},
    Rule{"fc1", Role::mlp_up},
    Rule{"fc2", Role::mlp_down},
    Rule{"fc_in", Role::mlp_up},
    Rule{"fc_out", Role::mlp_down},
    Rule{"c_fc", Role::mlp_up},
    Rule{"dense_h_to_4h", Role::mlp_up},
    Rule{"dense_4h_to_h", Role::mlp_down},
    Rule{"wi", Role::mlp_up},
    Rule{"wi_0", Role::mlp_gate},
    Rule{"wi_1", Role::mlp_up},
    Rule{"wq", Role::attention_q},
    Rule{"wk", Role::attention_k},
    Rule{"wv", Role::attention_v},
    Rule{"wqkv", Role::attention_qkv},
    Rule{"w1", Role::mlp_gate},
    Rule{"w2", Role::mlp_down},
    Rule{"w3", Role::mlp_up},
    Rule{"q_a_proj", Role::attention_q},
    Rule{"q_b_proj", Role::attention_q},
    Rule{"kv_a_proj_with_mqa", Role::attention_qkv},
    Rule{"kv_b_proj", Role::attention_qkv},
    Rule{"attn_q", Role::attention_q},
    Rule{"attn_k", Role::attention_k},
    Rule{"attn_v", Role::attention_v},
    Rule{"attn_qkv", Role::attention_qkv},
    Rule{"attn_output", Role::attention_o},
    Rule{"attn_q_a", Role::attention_q},
    Rule{"attn_q_b", Role::attention_q},
    Rule{"attn_kv_a_mqa", Role::attention_qkv},
    Rule{"attn_kv_b", Role::attention_qkv},
    Rule{"attn_k_b", Role::attention_k},
    Rule{"attn_v_b", Role::attention_v},
    Rule{"ffn_gate", Role::mlp_gate},
    Rule{"ffn_up", Role::mlp_up},
    Rule{"ffn_down", Role::mlp_down},
    Rule{"ffn_gate_shexp", Role::mlp_gate},
    Rule{"ffn_up_shexp", Role::mlp_up},
    Rule{"ffn_down_shexp", Role::mlp_down},
    Rule{"ffn_gate_inp", Role::moe_router},
    Rule{"ffn_gate_inp_shexp", Role::moe_router},
    Rule{"shared_expert_gate", Role::moe_router},
    Rule{"router", Role::moe_router},
};

// Modules that mean something only inside an attention: BERT, GPT-NeoX, GPT-2, OPT, DistilBERT, T5.
constexpr std::array attention_rules = {
    Rule{"query", Role::attention_q},
    Rule{"key", Role::attention_k},
    Rule{"value", Role::attention_v},
    Rule{"q", Role::attention_q},
    Rule{"k", Role::attention_k},
    Rule{"v", Role::attention_v},
    Rule{"q_lin", Role::attention_q},
    Rule{"k_lin", Role::attention_k},
    Rule{"v_lin", Role::attention_v},
    Rule{"out_lin", Role::attention_o},
    Rule{"q_attn", Role::attention_q},
    Rule{"qkv", Role::attention_qkv},
    Rule{"dense", Role::attention_o},
    Rule{"out_proj", Role::attention_o},
    Rule{"c_proj", Role::attention_o},
    Rule{"wo", Role::attention_o},
    Rule{"o", Role::attention_o},
    Rule{"proj", Role::attention_o},
    Rule{"in_proj_weight", Role::attention_qkv},
};

// Modules outside the layers.
constexpr std::array model_rules = {
    Rule{"embed_tokens", Role::token_embedding},
    Rule{"wte", Role::token_embedding},
    Rule{"word_embeddings", Role::token_embedding},
    Rule{"tok_embeddings", Role::token_embedding},
    Rule{"embed_in", Role::token_embedding},
    Rule{"token_embd", Role::token_embedding},
    Rule{"shared", Role::token_embedding},
    Rule{"wpe", Role::position_embedding},
    Rule{"embed_positions", Role::position_embedding},
    Rule{"position_embeddings", Role::position_embedding},
    Rule{"position_embd", Role::position_embedding},
    Rule{"lm_head", Role::lm_head},
    Rule{"embed_out", Role::lm_head},
    Rule{"output", Role::lm_head},
    Rule{"output_layer", Role::lm_head},
};

std::optional<Role> look_up(std::string_view module, std::span<const Rule> rules) {
    const auto found = std::ranges::find(rules, module, &Rule::module);
    return found == rules.end() ? std::nullopt : std::optional(found->role);
}

/// What stands for all experts of a layer at once: [experts, …].
bool is_fused_experts(std::string_view module) {
    constexpr std::array names = {"ffn_gate_exps"sv,    "ffn_up_exps"sv,     "ffn_down_exps"sv,
                                  "ffn_gate_up_exps"sv, "ffn_gate_chexps"sv, "ffn_up_chexps"sv,
                                  "ffn_down_chexps"sv,  "input_linear"sv,    "output_linear"sv};
    return one_of(module, names);
}

/// The expert's number, where each has tensors of its own: "….experts.7.w1", in old GGUF "blk.0.ffn_up.7".
std::optional<int> expert_of(const Name& name, std::size_t layer) {
    for (std::size_t i = layer + 1; i + 1 < name.size; ++i)
        if (name[i] == "experts" || name[i] == "ffn_gate" || name[i] == "ffn_up" || name[i] == "ffn_down")
            if (const auto expert = index_of(name[i + 1]))
                return expert;
    return std::nullopt;
}

/// What follows a module's name where the tensor is the module's weight itself.
bool is_weight_suffix(std::string_view segment) {
    return segment == "weight" || segment == "qweight";
}

bool is_bias(std::string_view leaf) {
    return leaf == "bias" || leaf.ends_with("_bias");
}

/// Quantization's own tensors and others that belong to a weight without being one.
bool is_companion(std::string_view leaf) {
    constexpr std::array names = {"scales"sv,    "qzeros"sv,        "g_idx"sv,       "absmax"sv,
                                  "quant_map"sv, "nested_absmax"sv, "SCB"sv,         "lora_A"sv,
                                  "lora_B"sv,    "scale"sv,         "input_scale"sv, "weight_scale"sv,
                                  "inv_freq"sv,  "weight_format"sv, "quant_state"sv};
    return one_of(leaf, names) || leaf.ends_with("_scales") || leaf.ends_with("_scale_inv");
}

/// GPT-2 and GPT-NeoX store their causal mask under names that look like a bias.
bool is_mask(const Name& name) {
    const std::string_view leaf = name[name.size - 1];
    const std::string_view parent = name.size >= 2 ? name[name.size - 2] : std::string_view{};
    return leaf == "masked_bias" || (leaf == "bias" && (parent == "attn" || parent == "attention"));
}

Role mlp_role(std::string_view module, std::string_view parent) {
    if (module == "c_proj")
        return Role::mlp_down;
    if (module == "wo")
        return Role::mlp_down;
    if (module == "gate")
        return Role::moe_router;
    if (module == "layer" && parent == "router")
        return Role::moe_router;
    if (module == "dense" && parent == "intermediate")
        return Role::mlp_up;
    if (module == "dense" && parent == "output")
        return Role::mlp_down;
    return Role::other;
}

/// The role of the weight of the module at `at`, inside a layer.
Role layer_role(const Name& name, std::size_t layer, std::size_t at) {
    const std::string_view module = name[at];
    const bool expert = std::ranges::find(name.all(), "experts"sv) != name.all().end();
    if (expert || is_fused_experts(module))
        return Role::moe_expert;
    if (index_of(module) && expert_of(name, layer))
        return Role::moe_expert;
    if (is_norm(module))
        return Role::norm;
    if (in_attention(name, layer + 1, at))
        if (const auto role = look_up(module, attention_rules))
            return *role;
    if (const auto role = look_up(module, layer_rules))
        return *role;
    return mlp_role(module, name[at - 1]);
}

Role model_role(const Name& name, std::size_t at) {
    if (is_norm(name[at]))
        return Role::norm;
    if (name[at] == "decoder" && at > 0 && name[at - 1] == "predictions")
        return Role::lm_head;
    return look_up(name[at], model_rules).value_or(Role::other);
}

/// A matrix of GPT-2's Conv1D by its name, whichever way it is stored.
bool is_conv1d_name(std::string_view name) {
    constexpr std::array endings = {
        "attn.c_attn.weight"sv,      "attn.c_proj.weight"sv,      "mlp.c_fc.weight"sv,        "mlp.c_proj.weight"sv,
        "attention.c_attn.weight"sv, "attention.q_attn.weight"sv, "attention.c_proj.weight"sv};
    return std::ranges::any_of(endings, [&](std::string_view ending) { return name.ends_with(ending); });
}

/// A fused projection or an MLP's first matrix has more outputs than inputs, so its shape tells which of the two
/// comes first; others (nanoGPT, StarCoder) bear GPT-2's names with [out, in].
bool stores_conv1d(const std::vector<TensorInfo>& tensors) {
    return std::ranges::any_of(tensors, [](const TensorInfo& tensor) {
        return (tensor.name.ends_with("attn.c_attn.weight") || tensor.name.ends_with("mlp.c_fc.weight")) &&
               tensor.shape.size() == 2 && tensor.shape[0] < tensor.shape[1];
    });
}

} // namespace

bool in_other_tower(std::string_view tensor_name) {
    return in_other_tower(split(tensor_name));
}

Place place_of(std::string_view text) {
    const Name name = split(text);
    Place place;
    if (in_other_tower(name))
        return place;
    const std::size_t layer = layer_position(name);
    if (layer != 0) {
        place.layer = index_of(name[layer]);
        place.expert = expert_of(name, layer);
    }
    const std::string_view leaf = name[name.size - 1];
    if (is_companion(leaf) || is_mask(name))
        return place;
    if (is_bias(leaf)) {
        place.role = Role::bias;
        return place;
    }
    const bool suffixed = is_weight_suffix(leaf) && name.size >= 2;
    const std::size_t at = suffixed ? name.size - 2 : name.size - 1;
    if (layer != 0 && at > layer)
        place.role = layer_role(name, layer, at);
    else if (layer == 0)
        place.role = model_role(name, at);
    return place;
}

void assign_places(std::vector<TensorInfo>& tensors) {
    const bool conv1d = stores_conv1d(tensors);
    for (TensorInfo& tensor : tensors) {
        const Place place = place_of(tensor.name);
        tensor.role = place.role;
        tensor.layer = place.layer;
        tensor.expert = place.expert;
        tensor.transposed = conv1d && tensor.shape.size() == 2 && is_conv1d_name(tensor.name);
    }
}

std::string architecture_by_names(const std::vector<TensorInfo>& tensors) {
    for (const TensorInfo& tensor : tensors) {
        if (tensor.name.starts_with("gpt_neox."))
            return "gpt_neox";
        if (tensor.name.starts_with("bert."))
            return "bert";
        if (tensor.transposed)
            return "gpt2";
    }
    return {};
}

} // namespace qs
