#include "core/analysis/recipe_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>

#include "core/checkpoint/text.h"

namespace qs {

namespace {

using namespace std::string_view_literals;

struct PartRule {
    std::string_view piece; ///< of the tensor's name
    ModelPart part;
};

ModelPart look_up(std::string_view name, std::span<const PartRule> rules) {
    const auto found = std::ranges::find_if(rules, [&](const PartRule& rule) { return contains(name, rule.piece); });
    return found == rules.end() ? ModelPart::other : found->part;
}

// --- llama.cpp's names (007dbbf3, src/llama-quant.cpp: tensor_get_category, tensor_allows_quantization) ----------

// In this order: the first that fits counts.
constexpr std::array gguf_parts = {PartRule{"attn_qkv.weight", ModelPart::attention_v},
                                   PartRule{"attn_kv_b.weight", ModelPart::attention_v},
                                   PartRule{"attn_v.weight", ModelPart::attention_v},
                                   PartRule{"attn_k.weight", ModelPart::attention_k},
                                   PartRule{"attn_q.weight", ModelPart::attention_q},
                                   PartRule{"attn_output.weight", ModelPart::attention_output},
                                   PartRule{"ffn_up", ModelPart::ffn_up},
                                   PartRule{"ffn_gate", ModelPart::ffn_gate},
                                   PartRule{"ffn_down", ModelPart::ffn_down}};

ModelPart gguf_part(std::string_view name) {
    if (name == "output.weight")
        return ModelPart::head;
    if (name == "token_embd.weight" || name == "per_layer_token_embd.weight")
        return ModelPart::token_embedding;
    return look_up(name, gguf_parts);
}

/// Pieces of the names of small matrices that llama-quantize leaves; the last ones as Hugging Face spells them.
constexpr std::array small_matrices = {"ffn_gate_tid2eid.weight"sv,
                                       "altup"sv,
                                       "laurel"sv,
                                       "per_layer_model_proj"sv,
                                       "ssm_conv1d"sv,
                                       "shortconv.conv.weight"sv,
                                       "indexer.k_proj.weight"sv,
                                       "indexer.q_proj.weight"sv,
                                       "time_mix_first.weight"sv,
                                       "time_mix_w0.weight"sv,
                                       "time_mix_w1.weight"sv,
                                       "time_mix_w2.weight"sv,
                                       "time_mix_v0.weight"sv,
                                       "time_mix_v1.weight"sv,
                                       "time_mix_v2.weight"sv,
                                       "time_mix_a0.weight"sv,
                                       "time_mix_a1.weight"sv,
                                       "time_mix_a2.weight"sv,
                                       "time_mix_g1.weight"sv,
                                       "time_mix_g2.weight"sv,
                                       "time_mix_decay_w1.weight"sv,
                                       "time_mix_decay_w2.weight"sv,
                                       "time_mix_lerp_fused.weight"sv,
                                       "attn_rel_b.weight"sv,
                                       "token_types.weight"sv,
                                       "sam.neck."sv,
                                       "sam.net_"sv,
                                       ".rel_pos"sv,
                                       ".patch_embd"sv,
                                       ".patch_merger"sv,
                                       "a.rvq.codebook"sv,
                                       "mm.a.code_embd"sv,
                                       ".conv1d."sv,
                                       "relative_attention_bias"sv,
                                       "token_type_embeddings"sv};

bool is_small(std::string_view name) {
    return std::ranges::any_of(small_matrices, [&](std::string_view piece) { return contains(name, piece); });
}

/// Why llama-quantize leaves a matrix of this name as it is, if it does.
std::string why_kept_in_gguf(std::string_view name) {
    if (!name.ends_with("weight"))
        return "its name does not end in 'weight'";
    if (contains(name, "_norm.weight"))
        return "it is a norm";
    if (contains(name, "ffn_gate_inp.weight"))
        return "it is a router";
    if (name == "position_embd.weight" || contains(name, ".position_embd") || contains(name, "sam.pos_embd"))
        return "it embeds positions";
    return is_small(name) ? "it is one of the small matrices that llama-quantize leaves" : "";
}

// --- Hugging Face's names, as llama.cpp's converter reads them ---------------------------------------------------

// Matrices that mean something else than their role. The converter cuts kv_b_proj into matrices of k and of v, which
// no rule is about.
constexpr std::array converted_parts = {PartRule{".q_a_proj.", ModelPart::other},
                                        PartRule{".q_b_proj.", ModelPart::other},
                                        PartRule{".kv_a_proj_with_mqa.", ModelPart::other},
                                        PartRule{".kv_b_proj.", ModelPart::other},
                                        PartRule{".in_proj_qkv.", ModelPart::attention_v},
                                        PartRule{"embed_tokens_per_layer.", ModelPart::token_embedding}};

constexpr std::array expert_parts = {PartRule{"gate_up_proj", ModelPart::ffn_gate},
                                     PartRule{"input_linear", ModelPart::ffn_gate},
                                     PartRule{"gate_proj", ModelPart::ffn_gate},
                                     PartRule{".w1", ModelPart::ffn_gate},
                                     PartRule{"down_proj", ModelPart::ffn_down},
                                     PartRule{"output_linear", ModelPart::ffn_down},
                                     PartRule{".w2", ModelPart::ffn_down},
                                     PartRule{"up_proj", ModelPart::ffn_up},
                                     PartRule{".w3", ModelPart::ffn_up}};

} // namespace

ModelPart converted_part(const TensorInfo& tensor) {
    if (tensor.role == Role::moe_expert)
        return look_up(tensor.name, expert_parts);
    const auto rule =
        std::ranges::find_if(converted_parts, [&](const PartRule& part) { return contains(tensor.name, part.piece); });
    return rule == converted_parts.end() ? part_of(tensor.role) : rule->part;
}

namespace {

/// Why llama-quantize leaves a matrix as it is once it is converted, if it does.
std::string why_kept_when_converted(const TensorInfo& tensor) {
    if (in_other_tower(tensor.name))
        return "it is of the vision or audio part, which llama.cpp stores in a file of its own";
    switch (tensor.role) {
    case Role::norm:
        return "it is a norm";
    case Role::bias:
        return "it is a bias";
    case Role::moe_router:
        return "it is a router";
    case Role::position_embedding:
        return "it embeds positions";
    default:
        return is_small(tensor.name) ? "it is one of the small matrices that llama-quantize leaves" : "";
    }
}

/// The name of what the converter stacks the experts of a layer into.
std::string stacked_name(const TensorInfo& tensor) {
    std::string name = tensor.name;
    if (!tensor.expert)
        return name;
    const std::string number = fmt::format("experts.{}.", *tensor.expert);
    if (const std::size_t at = name.find(number); at != std::string::npos)
        name.replace(at, number.size(), "experts.");
    return name;
}

// --- dimensions --------------------------------------------------------------------------------------------------

/// No model has as many layers, heads or experts; what a damaged file says beyond it is not counted with.
constexpr int most = 1 << 20;

/// The first of the names that is a whole number, or a list that begins with one.
std::optional<int> first_number(const nlohmann::json& object, std::initializer_list<std::string> names) {
    for (const std::string& name : names) {
        const auto found = object.find(name);
        if (found == object.end())
            continue;
        const nlohmann::json& value = found->is_array() && !found->empty() ? found->front() : *found;
        if (value.is_number_integer() && value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() <= most)
            return value.get<int>();
    }
    return std::nullopt;
}

struct Heads {
    std::optional<int> queries, keys;
};

Heads heads_of_config(const nlohmann::json& config) {
    Heads heads{first_number(config, {"num_attention_heads", "n_head", "n_heads"}),
                first_number(config, {"num_key_value_heads", "num_kv_heads", "n_head_kv"})};
    const auto multi_query = config.find("multi_query");
    const bool one_key = multi_query != config.end() && multi_query->is_boolean() && multi_query->get<bool>();
    if (!heads.keys)
        heads.keys = one_key ? 1 : heads.queries;
    // The converter writes latent attention as one head of keys that all queries share.
    if (first_number(config, {"kv_lora_rank"}))
        heads.keys = 1;
    return heads;
}

Heads heads_of(const Checkpoint& checkpoint, bool gguf) {
    if (checkpoint.config == nullptr)
        return {};
    if (!gguf)
        return heads_of_config(decoder_config(*checkpoint.config));
    const std::string prefix = checkpoint.architecture + ".attention.";
    const auto queries = first_number(*checkpoint.config, {prefix + "head_count"});
    const auto keys = first_number(*checkpoint.config, {prefix + "head_count_kv"});
    return {queries, keys ? keys : queries};
}

/// Heads over KV heads by the shapes of a layer that has both matrices; 1 where there is none.
int queries_per_key_by_shapes(const RecipeModel& model) {
    const auto rows = [&](ModelPart part) {
        const auto found = std::ranges::find(model.tensors, part, &RecipeTensor::part);
        return found == model.tensors.end() ? 0 : found->rows;
    };
    const std::uint64_t q = rows(ModelPart::attention_q), k = rows(ModelPart::attention_k);
    return q == 0 || k == 0 ? 1 : static_cast<int>(q / k);
}

int queries_per_key(const Checkpoint& checkpoint, bool gguf, const RecipeModel& model) {
    const Heads heads = heads_of(checkpoint, gguf);
    if (!heads.queries || !heads.keys)
        return queries_per_key_by_shapes(model);
    return *heads.keys == 0 ? 0 : *heads.queries / *heads.keys;
}

/// The experts of a layer, whether each has tensors of its own or all are stacked in one.
int experts_of(const Checkpoint& checkpoint) {
    std::uint64_t experts = 0;
    for (const TensorInfo& tensor : checkpoint.tensors) {
        if (tensor.role != Role::moe_expert)
            continue;
        const bool stacked = !tensor.expert && tensor.shape.size() == 3;
        const std::int64_t count = stacked ? tensor.shape[0] : std::int64_t{tensor.expert.value_or(0)} + 1;
        experts = std::max(experts, static_cast<std::uint64_t>(count));
    }
    return static_cast<int>(std::min<std::uint64_t>(experts, most));
}

// --- tensors -----------------------------------------------------------------------------------------------------

/// Dimensions as ggml counts them: without leading ones.
std::size_t dimensions(const TensorInfo& tensor) {
    const auto first = std::ranges::find_if(tensor.shape, [](std::int64_t extent) { return extent != 1; });
    return static_cast<std::size_t>(tensor.shape.end() - first);
}

std::string format_of(DType dtype) {
    if (dtype == DType::f16)
        return "fp16";
    return dtype == DType::bf16 ? "bf16" : "fp32";
}

RecipeTensor recipe_tensor(const TensorInfo& tensor, bool gguf) {
    RecipeTensor result;
    result.role = tensor.role;
    result.layer = std::min(tensor.layer.value_or(-1), most);
    result.part = gguf ? gguf_part(tensor.name) : converted_part(tensor);
    result.matrix = tensor.shape.size() >= 2;
    result.columns = tensor.columns();
    result.rows = result.matrix ? static_cast<std::uint64_t>(tensor.shape[tensor.shape.size() - 2]) : 1;
    result.matrices = result.rows == 0 ? 0 : tensor.rows() / result.rows;
    if (tensor.transposed)
        std::swap(result.rows, result.columns);
    if (dimensions(tensor) < 2)
        result.kept = "it is a vector";
    else
        result.kept = gguf ? why_kept_in_gguf(tensor.name) : why_kept_when_converted(tensor);
    // The converter writes what it does not quantize in float32.
    if (gguf)
        result.kept_in = format_of(tensor.dtype);
    return result;
}

/// Layer, then name: llama.cpp's order.
std::vector<std::size_t> in_order(const Checkpoint& checkpoint) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i)
        if (is_parameter(checkpoint.tensors[i]))
            order.push_back(i);
    std::ranges::sort(order, {}, [&](std::size_t i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        return std::pair(tensor.layer.value_or(-1), std::string_view(tensor.name));
    });
    return order;
}

const RecipeChoice not_of_the_model{"fp32", "it is no weight of the model"};

} // namespace

RecipeView recipe_view(const Checkpoint& checkpoint) {
    const bool gguf = checkpoint.container.starts_with("GGUF");
    RecipeView view;
    view.places.resize(checkpoint.tensors.size());
    std::map<std::string, std::size_t> stacks;
    for (const std::size_t i : in_order(checkpoint)) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        const auto [stack, added] =
            stacks.try_emplace(gguf ? tensor.name : stacked_name(tensor), view.model.tensors.size());
        view.places[i] = stack->second;
        if (!added) {
            ++view.model.tensors[stack->second].matrices;
            continue;
        }
        view.model.tensors.push_back(recipe_tensor(tensor, gguf));
        view.model.layers = std::max(view.model.layers, view.model.tensors.back().layer + 1);
    }
    view.model.experts = experts_of(checkpoint);
    view.model.architecture = checkpoint.architecture;
    view.model.queries_per_key = queries_per_key(checkpoint, gguf, view.model);
    return view;
}

RecipePlan::RecipePlan(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs, bool importance)
    : specs_(specs),
      has_recipes_(std::ranges::any_of(specs, [](const FormatSpec& spec) { return recipe_of(spec) != nullptr; })) {
    if (!has_recipes_)
        return;
    RecipeView view = recipe_view(checkpoint);
    places_ = std::move(view.places);
    for (const FormatSpec& spec : specs) {
        const Recipe* recipe = recipe_of(spec);
        choices_.push_back(recipe == nullptr ? std::vector<RecipeChoice>()
                                             : choose(*recipe, view.model, importance || recipe->needs_importance));
    }
}

const RecipeChoice& RecipePlan::choice(std::size_t spec, std::size_t tensor) const {
    const auto place = places_[tensor];
    return place ? choices_[spec][*place] : not_of_the_model;
}

std::vector<FormatSpec> RecipePlan::formats(std::size_t tensor) const {
    std::vector<FormatSpec> formats;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        const Recipe* recipe = recipe_of(specs_[i]);
        formats.push_back(recipe == nullptr ? specs_[i] : spec_of(*recipe, choice(i, tensor)));
    }
    return formats;
}

void RecipePlan::name(FormatResult& result, std::size_t spec, std::size_t tensor) const {
    if (recipe_of(specs_[spec]) == nullptr)
        return;
    result.chosen = std::exchange(result.spec, specs_[spec]);
    result.kept = choice(spec, tensor).kept;
}

} // namespace qs
