#include "core/memory/config_card.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/memory/architectures.h"
#include "core/memory/keys.h"

namespace qs {

namespace {

/// Latent attention keeps another cache than keys and values of heads: counted wrongly it would mislead.
void refuse_latent_attention(const Keys& keys) {
    for (const char* name : {"kv_lora_rank", "attention.kv_lora_rank"})
        if (!keys.value(name).is_null())
            throw Error(keys.file(), "is a model with multi-head latent attention ('" + keys.full(name) +
                                         "'), whose memory this version does not count");
}

/// Which layers attend to the window only: as listed, from a first one on (Qwen), or all but one of so many.
std::vector<bool> sliding_layers(const Keys& keys, int layers, int global_every) {
    std::vector<bool> slides(static_cast<std::size_t>(layers), true);
    const nlohmann::json& types = keys.value("layer_types");
    const nlohmann::json sliding = "sliding_attention";
    const int first = keys.get({"max_window_layers"}, 0);
    const int every = std::max(1, keys.get({"sliding_window_pattern"}, global_every));
    for (std::size_t layer = 0; layer < slides.size(); ++layer)
        if (types.is_array())
            slides[layer] = layer < types.size() && types[layer] == sliding;
        else if (every == 1)
            slides[layer] = layer >= static_cast<std::size_t>(first);
        else
            slides[layer] = (layer + 1) % static_cast<std::size_t>(every) != 0;
    return slides;
}

void set_window(ModelCard& card, int window, std::vector<bool> slides) {
    card.sliding_window = window;
    card.sliding_layers = static_cast<int>(std::ranges::count(slides, true));
    card.layer_slides = std::move(slides);
}

void read_window(ModelCard& card, const Keys& keys, int global_every) {
    const int window = keys.get({"sliding_window"}, 0);
    if (window == 0 || !keys.flag("use_sliding_window", true) || (card.max_context > 0 && window >= card.max_context))
        return;
    set_window(card, window, sliding_layers(keys, card.layers, global_every));
}

ModelCard read_dimensions(const Keys& keys, const ArchitectureTraits& traits) {
    refuse_latent_attention(keys);
    ModelCard card;
    card.layers = keys.need({"num_hidden_layers", "n_layer", "n_layers"});
    card.hidden = keys.need({"hidden_size", "n_embd", "d_model"});
    card.heads = keys.need({"num_attention_heads", "n_head", "n_heads"});
    card.kv_heads = keys.get({"num_key_value_heads"}, 0);
    if (card.kv_heads == 0)
        card.kv_heads = keys.flag("multi_query", false) ? 1 : card.heads;
    const int even = std::max(1, card.hidden / card.heads);
    card.head_dim_k = card.head_dim_v = keys.get({"head_dim"}, even);
    if (card.head_dim_k == 0)
        card.head_dim_k = card.head_dim_v = even;
    card.vocabulary = keys.need({"vocab_size"});
    card.tied_embeddings = keys.flag("tie_word_embeddings", traits.tied);
    card.experts = keys.get({"num_local_experts", "num_experts"}, 0);
    card.experts_per_token = card.experts > 0 ? keys.get({"num_experts_per_tok"}, 1) : 0;
    if (card.experts > 0 && keys.find({"moe_intermediate_size"}))
        card.intermediate = keys.need({"moe_intermediate_size"});
    else if (traits.gated || keys.find({"intermediate_size"}))
        card.intermediate = keys.need({"intermediate_size"});
    else
        card.intermediate = keys.get({"n_inner"}, 4 * card.hidden);
    card.max_context = keys.get({"max_position_embeddings", "n_positions", "n_ctx"}, 0);
    read_window(card, keys, traits.global_every);
    return card;
}

std::string type_of(const nlohmann::json& config) {
    const auto type = config.find("model_type");
    return type != config.end() && type->is_string() ? type->get<std::string>() : std::string();
}

const ArchitectureTraits& traits_of(const std::string& type) {
    const ArchitectureTraits* known = find_architecture(type);
    return known != nullptr ? *known : *find_architecture("llama");
}

/// Collects the groups of one model.
class Weights {
public:
    explicit Weights(ModelCard& card) : card_(card) {}

    void matrix(Role role, const char* name, std::uint64_t copies, std::uint64_t rows, std::uint64_t columns) {
        card_.weights.push_back({role, name, copies, rows, columns, true, part_of(role)});
    }
    void experts(ModelPart part, const char* name, std::uint64_t copies, std::uint64_t rows, std::uint64_t columns) {
        card_.weights.push_back({Role::moe_expert, name, copies, rows, columns, true, part});
    }
    void vectors(Role role, const char* name, std::uint64_t copies, std::uint64_t size) {
        if (copies > 0)
            card_.weights.push_back({role, name, copies, 1, size, false, ModelPart::other});
    }

private:
    ModelCard& card_;
};

void add_attention(Weights& weights, const ModelCard& card, const ArchitectureTraits& traits, bool biased,
                   bool output_biased) {
    const auto layers = static_cast<std::uint64_t>(card.layers), hidden = static_cast<std::uint64_t>(card.hidden);
    const auto heads = static_cast<std::uint64_t>(card.heads), kv = static_cast<std::uint64_t>(card.kv_heads);
    const auto k = static_cast<std::uint64_t>(card.head_dim_k), v = static_cast<std::uint64_t>(card.head_dim_v);
    if (traits.fused_qkv) {
        weights.matrix(Role::attention_qkv, "attention q, k and v", layers, heads * k + kv * (k + v), hidden);
    } else {
        weights.matrix(Role::attention_q, "attention q", layers, heads * k, hidden);
        weights.matrix(Role::attention_k, "attention k", layers, kv * k, hidden);
        weights.matrix(Role::attention_v, "attention v", layers, kv * v, hidden);
    }
    weights.matrix(Role::attention_o, "attention output", layers, hidden, heads * v);
    weights.vectors(Role::bias, "attention biases", biased ? layers : 0, heads * k + kv * (k + v));
    weights.vectors(Role::bias, "attention output biases", output_biased ? layers : 0, hidden);
    weights.vectors(Role::norm, "head norms", traits.qk_norm ? 2 * layers : 0, k);
}

void add_mlp(Weights& weights, const ModelCard& card, const ArchitectureTraits& traits, bool biased) {
    const auto layers = static_cast<std::uint64_t>(card.layers), hidden = static_cast<std::uint64_t>(card.hidden);
    const auto inner = static_cast<std::uint64_t>(card.intermediate);
    if (traits.fused_gate_up)
        weights.matrix(Role::mlp_gate_up, "MLP gate and up", layers, 2 * inner, hidden);
    else if (traits.gated)
        weights.matrix(Role::mlp_gate, "MLP gate", layers, inner, hidden);
    if (!traits.fused_gate_up)
        weights.matrix(Role::mlp_up, "MLP up", layers, inner, hidden);
    weights.matrix(Role::mlp_down, "MLP down", layers, hidden, inner);
    const std::uint64_t first = traits.gated ? 2 * inner : inner;
    weights.vectors(Role::bias, "MLP biases", biased ? layers : 0, first + hidden);
}

void add_experts(Weights& weights, const ModelCard& card, const Keys& keys) {
    const auto layers = static_cast<std::uint64_t>(card.layers), hidden = static_cast<std::uint64_t>(card.hidden);
    const auto inner = static_cast<std::uint64_t>(card.intermediate),
               experts = static_cast<std::uint64_t>(card.experts);
    weights.matrix(Role::moe_router, "router", layers, experts, hidden);
    weights.experts(ModelPart::ffn_gate, "experts' gate", layers * experts, inner, hidden);
    weights.experts(ModelPart::ffn_up, "experts' up", layers * experts, inner, hidden);
    weights.experts(ModelPart::ffn_down, "experts' down", layers * experts, hidden, inner);
    const auto shared = static_cast<std::uint64_t>(keys.get({"shared_expert_intermediate_size"}, 0));
    if (shared == 0)
        return;
    weights.matrix(Role::mlp_gate, "shared expert's gate", layers, shared, hidden);
    weights.matrix(Role::mlp_up, "shared expert's up", layers, shared, hidden);
    weights.matrix(Role::mlp_down, "shared expert's down", layers, hidden, shared);
    weights.matrix(Role::moe_router, "shared expert's router", layers, 1, hidden);
}

void add_weights(ModelCard& card, const Keys& keys, const ArchitectureTraits& traits) {
    Weights weights(card);
    const auto layers = static_cast<std::uint64_t>(card.layers), hidden = static_cast<std::uint64_t>(card.hidden);
    const auto vocabulary = static_cast<std::uint64_t>(card.vocabulary);
    weights.matrix(Role::token_embedding, "token embedding", 1, vocabulary, hidden);
    if (traits.learned_positions)
        weights.matrix(Role::position_embedding, "position embedding", 1, static_cast<std::uint64_t>(card.max_context),
                       hidden);
    const bool biased = keys.flag("attention_bias", traits.qkv_bias);
    add_attention(weights, card, traits, biased, traits.output_bias || keys.flag("attention_bias", false));
    if (card.experts > 0)
        add_experts(weights, card, keys);
    else
        add_mlp(weights, card, traits, keys.flag("mlp_bias", traits.output_bias));
    const std::uint64_t norms = static_cast<std::uint64_t>(traits.norms) * layers + 1;
    weights.vectors(Role::norm, "norms", norms, traits.norm_bias ? 2 * hidden : hidden);
    if (!card.tied_embeddings) {
        weights.matrix(Role::lm_head, "head", 1, vocabulary, hidden);
        weights.vectors(Role::bias, "head bias", traits.head_bias ? 1 : 0, vocabulary);
    }
    card.parameters = std::accumulate(card.weights.begin(), card.weights.end(), std::uint64_t{0},
                                      [](std::uint64_t sum, const WeightGroup& group) { return sum + group.count(); });
}

std::string why_kept(const WeightGroup& group) {
    if (!group.matrix)
        return "it is a vector";
    if (group.role == Role::moe_router)
        return "it is a router";
    return group.role == Role::position_embedding ? "it embeds positions" : "";
}

RecipeTensor recipe_tensor(const WeightGroup& group, int layer, std::uint64_t matrices) {
    RecipeTensor tensor;
    tensor.role = group.role;
    tensor.part = group.part;
    tensor.layer = layer;
    tensor.matrices = matrices;
    tensor.rows = group.rows;
    tensor.columns = group.columns;
    tensor.matrix = group.matrix;
    tensor.kept = why_kept(group);
    return tensor;
}

/// Vectors, which recipes leave alone, need no place in a layer.
bool in_layers(const WeightGroup& group) {
    return group.matrix && group.role != Role::token_embedding && group.role != Role::position_embedding &&
           group.role != Role::lm_head;
}

/// A config may say any number; beyond this one its tensors are not listed.
constexpr int most_layers = 1 << 14;

RecipeModel recipe_model_of(const ModelCard& card, const std::string& type) {
    if (card.layers > most_layers)
        return {};
    RecipeModel model{type, card.layers, card.heads / card.kv_heads, card.experts, {}};
    for (const WeightGroup& group : card.weights)
        if (!in_layers(group))
            model.tensors.push_back(recipe_tensor(group, -1, group.copies));
    for (int layer = 0; layer < card.layers; ++layer)
        for (const WeightGroup& group : card.weights)
            if (in_layers(group))
                model.tensors.push_back(
                    recipe_tensor(group, layer, group.copies / static_cast<std::uint64_t>(card.layers)));
    return model;
}

/// The number under a key of GGUF metadata; where layers differ it is a list, of which the largest counts.
std::optional<int> gguf_number(const Keys& keys, const char* name) {
    const nlohmann::json& value = keys.value(name);
    if (!value.is_array())
        return keys.find({name});
    int largest = 0;
    for (const nlohmann::json& item : value)
        largest = std::max(largest, item.is_number_integer() ? item.get<int>() : 0);
    return largest > 0 ? std::optional(largest) : std::nullopt;
}

int gguf_need(const Keys& keys, const char* name) {
    const auto found = gguf_number(keys, name);
    return found && *found > 0 ? *found : keys.need({name});
}

/// The same of a GGUF file: a flag a layer, or one of so many, or as the architecture has it.
std::vector<bool> gguf_sliding_layers(const Keys& keys, int layers, const std::string& architecture) {
    const nlohmann::json& pattern = keys.value("attention.sliding_window_pattern");
    const ArchitectureTraits* traits = find_gguf_architecture(architecture);
    const int usual = traits != nullptr ? traits->global_every : 1;
    const auto every = static_cast<std::size_t>(
        std::max(1, pattern.is_number() ? keys.get({"attention.sliding_window_pattern"}, usual) : usual));
    std::vector<bool> slides(static_cast<std::size_t>(layers));
    for (std::size_t layer = 0; layer < slides.size(); ++layer)
        if (pattern.is_array() && layer < pattern.size())
            slides[layer] = pattern[layer] == true;
        else
            slides[layer] = every == 1 || (layer + 1) % every != 0;
    return slides;
}

} // namespace

ModelCard dimensions_of_config(const nlohmann::json& config, const std::string& file) {
    const nlohmann::json& text = decoder_config(config);
    return read_dimensions(Keys(text, file), traits_of(type_of(text)));
}

ModelCard card_of_config(const nlohmann::json& config, const std::string& file) {
    const nlohmann::json& text = decoder_config(config);
    const std::string type = type_of(text);
    const Keys keys(text, file);
    const ArchitectureTraits& traits = traits_of(type);
    ModelCard card = read_dimensions(keys, traits);
    add_weights(card, keys, traits);
    card.recipe_model = recipe_model_of(card, type);
    card.source = file;
    if (find_architecture(type) == nullptr)
        card.source += type.empty() ? " (no model_type: counted as a Llama)"
                                    : " (model_type '" + type + "' is not known: counted as a Llama)";
    return card;
}

ModelCard dimensions_of_gguf(const nlohmann::json& metadata, const std::string& file) {
    const std::string architecture = Keys(metadata, file).text("general.architecture");
    if (architecture.empty())
        throw Error(file, "does not say 'general.architecture', so its dimensions are not known");
    const Keys keys(metadata, file, architecture + ".");
    refuse_latent_attention(keys);
    ModelCard card;
    card.layers = keys.need({"block_count"});
    card.hidden = keys.need({"embedding_length"});
    card.heads = gguf_need(keys, "attention.head_count");
    card.kv_heads = gguf_number(keys, "attention.head_count_kv").value_or(card.heads);
    const int even = std::max(1, card.hidden / card.heads);
    card.head_dim_k = keys.get({"attention.key_length"}, even);
    card.head_dim_v = keys.get({"attention.value_length"}, even);
    card.experts = keys.get({"expert_count"}, 0);
    card.experts_per_token = keys.get({"expert_used_count"}, 0);
    const bool has_expert_size = card.experts > 0 && keys.find({"expert_feed_forward_length"}).value_or(0) > 0;
    card.intermediate = has_expert_size ? keys.need({"expert_feed_forward_length"})
                                        : gguf_number(keys, "feed_forward_length").value_or(4 * card.hidden);
    card.max_context = keys.get({"context_length"}, 0);
    const int window = keys.get({"attention.sliding_window"}, 0);
    if (window > 0 && (card.max_context == 0 || window < card.max_context))
        set_window(card, window, gguf_sliding_layers(keys, card.layers, architecture));
    return card;
}

ModelCard dimensions_of(const Checkpoint& checkpoint) {
    const std::string file = checkpoint.path.string();
    if (checkpoint.config == nullptr || checkpoint.config->empty())
        throw Error(file, "has no config.json beside it, so heads and context are not known",
                    "put the model's config.json into the folder");
    return checkpoint.container.starts_with("GGUF") ? dimensions_of_gguf(*checkpoint.config, file)
                                                    : dimensions_of_config(*checkpoint.config, file);
}

ModelCard card_from_config(const std::filesystem::path& path) {
    ModelCard card = card_of_config(read_config(path), path.string());
    const auto folder = std::filesystem::absolute(path).parent_path().filename().string();
    card.id = card.title = folder.empty() ? path.filename().string() : folder;
    return card;
}

} // namespace qs
