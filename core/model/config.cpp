#include "core/model/config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "core/base/error.h"
#include "core/formats/load.h"
#include "core/memory/architectures.h"
#include "core/memory/config_card.h"
#include "core/memory/keys.h"

namespace qs {

namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
    throw Error(file, what + ", which this forward pass does not know");
}

/// What both kinds of metadata say in the same way.
DecoderConfig config_of_card(const ModelCard& card, const ArchitectureTraits& traits, const std::string& file) {
    if (card.experts > 0)
        refuse(file, "is a mixture of experts");
    if (card.head_dim_k != card.head_dim_v)
        refuse(file, fmt::format("has heads of {} for keys and {} for values", card.head_dim_k, card.head_dim_v));
    if (card.kv_heads == 0 || card.heads % card.kv_heads != 0)
        throw Error(file, fmt::format("has {} heads, which {} heads of keys do not divide", card.heads, card.kv_heads));
    DecoderConfig config;
    config.layers = card.layers;
    config.hidden = card.hidden;
    config.heads = card.heads;
    config.kv_heads = card.kv_heads;
    config.head_dim = card.head_dim_k;
    config.intermediate = card.intermediate;
    config.max_context = card.max_context;
    config.sliding_window = card.sliding_window;
    config.layer_slides = card.layer_slides;
    config.norm = traits.norm_bias ? NormKind::layer : NormKind::rms;
    config.output_norms = traits.norms == 4;
    config.qk_norm = traits.qk_norm;
    config.fused_qkv = traits.fused_qkv;
    config.fused_gate_up = traits.fused_gate_up;
    config.gated = traits.gated;
    config.learned_positions = traits.learned_positions;
    config.attention_scale = 1 / std::sqrt(config.head_dim);
    if (traits.norm_offset)
        config.embedding_scale = std::sqrt(config.hidden);
    return config;
}

void require_runs(const ArchitectureTraits* traits, const std::string& file, const std::string& name) {
    if (traits == nullptr || !traits->runs)
        throw Error(file,
                    name.empty() ? "does not say what architecture it is"
                                 : "is of the architecture '" + name + "', whose forward pass is not known here",
                    "use a Llama, Mistral, Qwen 2 or 3, Gemma, Phi 3 or GPT-2 model");
}

/// Rows of the token embedding, which some configs say otherwise because of padding.
int rows_of(const Checkpoint& checkpoint, Role role) {
    for (const TensorInfo& tensor : checkpoint.tensors)
        if (tensor.role == role && tensor.shape.size() == 2 && !tensor.layer)
            return static_cast<int>(tensor.shape[0]);
    return 0;
}

// --- config.json ---------------------------------------------------------------------------------------------------

struct ActivationName {
    std::string_view name;
    Activation activation;
};

constexpr std::array activation_names = {
    ActivationName{"silu", Activation::silu},           ActivationName{"swish", Activation::silu},
    ActivationName{"gelu", Activation::gelu},           ActivationName{"gelu_new", Activation::gelu_tanh},
    ActivationName{"gelu_fast", Activation::gelu_tanh}, ActivationName{"gelu_pytorch_tanh", Activation::gelu_tanh},
    ActivationName{"relu", Activation::relu},
};

Activation activation_of(const Keys& keys, const ArchitectureTraits& traits) {
    std::string name;
    for (const char* key : {"hidden_activation", "hidden_act", "activation_function"})
        if (name.empty())
            name = keys.text(key);
    // Gemma's first configs said "gelu" and meant the approximation by tanh.
    if (traits.norm_offset && (name.empty() || name == "gelu"))
        return Activation::gelu_tanh;
    for (const ActivationName& known : activation_names)
        if (name == known.name)
            return known.activation;
    if (name.empty())
        return traits.learned_positions ? Activation::gelu_tanh : Activation::silu;
    refuse(keys.file(), "has the activation '" + name + "'");
}

std::vector<double> numbers_of(const Keys& keys, const char* name) {
    std::vector<double> numbers;
    for (const json& item : keys.value(name))
        if (item.is_number())
            numbers.push_back(item.get<double>());
    return numbers;
}

RopeScaling scaling_of(const std::string& name, const std::string& file) {
    if (name.empty() || name == "default" || name == "none")
        return RopeScaling::none;
    if (name == "linear")
        return RopeScaling::linear;
    if (name == "dynamic")
        return RopeScaling::dynamic;
    if (name == "yarn")
        return RopeScaling::yarn;
    if (name == "llama3")
        return RopeScaling::llama3;
    if (name == "longrope" || name == "su")
        return RopeScaling::longrope;
    refuse(file, "has the rope scaling '" + name + "'");
}

void check(const RopeSettings& rope, const DecoderConfig& config, const std::string& file) {
    if (rope.dimensions <= 0 || rope.dimensions % 2 != 0 || rope.dimensions > config.head_dim)
        throw Error(file, fmt::format("turns {} dimensions of heads of {}", rope.dimensions, config.head_dim));
    if (!(rope.base > 1) || !(rope.factor > 0))
        throw Error(file, fmt::format("has the rope base {} and factor {}", rope.base, rope.factor));
    const bool stretched = rope.scaling != RopeScaling::none && rope.scaling != RopeScaling::linear;
    if (stretched && rope.original_context <= 1)
        throw Error(file, "does not say for what context its rope scaling is");
    const auto pairs = static_cast<std::size_t>(rope.dimensions / 2);
    const bool longrope = rope.scaling == RopeScaling::longrope;
    if (longrope && (rope.short_factors.size() != pairs || rope.long_factors.size() != pairs))
        throw Error(file, fmt::format("needs {} short and long rope factors", pairs));
    if (!rope.divisors.empty() && rope.divisors.size() != pairs)
        throw Error(file, fmt::format("has {} rope factors for {} pairs of dimensions", rope.divisors.size(), pairs));
}

/// `scaling` is the config's rope_scaling or, as newer ones have it, rope_parameters, which hold the base too.
RopeSettings read_rope(const Keys& keys, const Keys& scaling, const DecoderConfig& config) {
    RopeSettings rope;
    const double share =
        scaling.real({"partial_rotary_factor"}).value_or(keys.real({"partial_rotary_factor"}).value_or(1.0));
    rope.dimensions = static_cast<int>(config.head_dim * share);
    rope.base = scaling.real({"rope_theta"}).value_or(keys.real({"rope_theta"}).value_or(10000));
    const std::string type = scaling.text("rope_type");
    rope.scaling = scaling_of(type.empty() ? scaling.text("type") : type, keys.file());
    rope.original_context = scaling.get({"original_max_position_embeddings"},
                                        keys.get({"original_max_position_embeddings"}, config.max_context));
    rope.factor = scaling.real({"factor"}).value_or(1);
    rope.low_frequency = scaling.real({"low_freq_factor"}).value_or(1);
    rope.high_frequency = scaling.real({"high_freq_factor"}).value_or(4);
    rope.beta_fast = scaling.real({"beta_fast"}).value_or(32);
    rope.beta_slow = scaling.real({"beta_slow"}).value_or(1);
    rope.short_factors = numbers_of(scaling, "short_factor");
    rope.long_factors = numbers_of(scaling, "long_factor");
    rope.attention_factor = scaling.real({"attention_factor"});
    if (rope.scaling == RopeScaling::longrope && rope.original_context > 0)
        rope.factor = static_cast<double>(config.max_context) / rope.original_context;
    if (rope.scaling == RopeScaling::dynamic)
        rope.original_context = config.max_context;
    check(rope, config, keys.file());
    return rope;
}

const json& object_or(const json& value, const json& otherwise) {
    return value.is_object() ? value : otherwise;
}

void read_ropes(const Keys& keys, DecoderConfig& config) {
    static const json empty = json::object();
    const json& parameters = object_or(keys.value("rope_parameters"), object_or(keys.value("rope_scaling"), empty));
    const auto part = [&](const char* name) {
        const auto found = parameters.find(name);
        return Keys(found != parameters.end() ? object_or(*found, empty) : parameters, keys.file());
    };
    config.rope = read_rope(keys, part("full_attention"), config);
    config.sliding_rope = config.rope;
    if (parameters.contains("sliding_attention"))
        config.sliding_rope = read_rope(keys, part("sliding_attention"), config);
    else if (config.family == "gemma3_text") { // windows have a base of their own and are not scaled
        config.sliding_rope = read_rope(keys, Keys(empty, keys.file()), config);
        config.sliding_rope.base = keys.real({"rope_local_base_freq"}).value_or(10000);
    }
}

void refuse_what_is_not_known(const Keys& keys) {
    if (keys.value("quantization_config").is_object())
        throw Error(keys.file(), "is quantized already (quantization_config)", "open the unquantized model");
    for (const char* flag : {"scale_attn_by_inverse_layer_idx", "use_bidirectional_attention", "parallel_attn"})
        if (keys.flag(flag, false))
            refuse(keys.file(), std::string("has ") + flag);
    if (!keys.flag("scale_attn_weights", true))
        refuse(keys.file(), "does not scale its attention");
}

DecoderConfig read_config_json(const Checkpoint& checkpoint, const ModelCard& card) {
    const std::string file = checkpoint.path.string();
    const Keys keys(decoder_config(*checkpoint.config), file);
    const std::string type = keys.text("model_type");
    const ArchitectureTraits* traits = find_architecture(type);
    require_runs(traits, file, type);
    refuse_what_is_not_known(keys);
    DecoderConfig config = config_of_card(card, *traits, file);
    config.family = type;
    config.tied_head = card.tied_embeddings;
    config.norm_epsilon = keys.real({"rms_norm_eps", "layer_norm_epsilon"}).value_or(traits->norm_offset ? 1e-6 : 1e-5);
    config.norm_offset = traits->norm_offset ? 1 : 0;
    config.activation = activation_of(keys, *traits);
    config.attention_softcap = keys.real({"attn_logit_softcapping"}).value_or(0);
    config.logit_softcap = keys.real({"final_logit_softcapping"}).value_or(0);
    if (const auto scalar = keys.real({"query_pre_attn_scalar"}); scalar && *scalar > 0)
        config.attention_scale = 1 / std::sqrt(*scalar);
    if (!config.learned_positions)
        read_ropes(keys, config);
    return config;
}

// --- GGUF ----------------------------------------------------------------------------------------------------------

/// A tensor of numbers that belongs to the config; empty where it is not there.
std::vector<double> numbers_of(const Checkpoint& checkpoint, const char* name) {
    const auto index = checkpoint.find(name);
    if (!index)
        return {};
    const TensorInfo& tensor = checkpoint.tensors[*index];
    if (!is_weight_type(tensor.dtype))
        throw Error(checkpoint.path.string(), fmt::format("tensor {} does not hold numbers", name));
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    load_weights(tensor.dtype, tensor.byte_swapped, checkpoint.data(tensor).data(), 0, values.size(), values.data());
    return {values.begin(), values.end()};
}

void read_gguf_rope(const Checkpoint& checkpoint, const Keys& keys, DecoderConfig& config) {
    RopeSettings& rope = config.rope;
    rope.dimensions = keys.get({"rope.dimension_count"}, config.head_dim);
    rope.base = keys.real({"rope.freq_base"}).value_or(10000);
    rope.scaling = scaling_of(keys.text("rope.scaling.type"), keys.file());
    rope.factor = keys.real({"rope.scaling.factor", "rope.scale_linear"}).value_or(1);
    if (rope.scaling == RopeScaling::none && rope.factor != 1)
        rope.scaling = RopeScaling::linear;
    rope.original_context = keys.get({"rope.scaling.original_context_length"}, config.max_context);
    rope.beta_fast = keys.real({"rope.scaling.yarn_beta_fast"}).value_or(32);
    rope.beta_slow = keys.real({"rope.scaling.yarn_beta_slow"}).value_or(1);
    rope.attention_factor = keys.real({"rope.scaling.attn_factor"});
    // llama.cpp multiplies this factor and YaRN's own.
    if (rope.attention_factor && rope.scaling == RopeScaling::yarn)
        *rope.attention_factor *= 0.1 * std::log(rope.factor) + 1;
    rope.divisors = numbers_of(checkpoint, "rope_freqs.weight");
    rope.long_factors = numbers_of(checkpoint, "rope_factors_long.weight");
    rope.short_factors = numbers_of(checkpoint, "rope_factors_short.weight");
    if (!rope.long_factors.empty() || !rope.short_factors.empty())
        rope.scaling = RopeScaling::longrope;
    check(rope, config, keys.file());
    config.sliding_rope = rope;
    if (config.family == "gemma3") {
        config.sliding_rope = RopeSettings();
        config.sliding_rope.dimensions = rope.dimensions;
        config.sliding_rope.base = keys.real({"rope.freq_base_swa"}).value_or(10000);
        check(config.sliding_rope, config, keys.file());
    }
}

DecoderConfig read_gguf(const Checkpoint& checkpoint, const ModelCard& card) {
    const std::string file = checkpoint.path.string();
    const std::string name = Keys(*checkpoint.config, file).text("general.architecture");
    const ArchitectureTraits* traits = find_gguf_architecture(name);
    require_runs(traits, file, name);
    const Keys keys(*checkpoint.config, file, name + ".");
    DecoderConfig config = config_of_card(card, *traits, file);
    config.gguf = true;
    config.family = name;
    config.tied_head = !checkpoint.find("output.weight");
    config.norm_epsilon =
        keys.real({"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"}).value_or(1e-5);
    config.activation = activation_of_gguf(*traits);
    config.attention_softcap = keys.real({"attn_logit_softcapping"}).value_or(0);
    config.logit_softcap = keys.real({"final_logit_softcapping"}).value_or(0);
    config.interleaved_qk = interleaves_qk(name);
    config.attention_scale = attention_scale_of_gguf(config, name);
    if (!config.learned_positions)
        read_gguf_rope(checkpoint, keys, config);
    return config;
}

} // namespace

bool interleaves_qk(std::string_view architecture) {
    return architecture == "llama";
}

Activation activation_of_gguf(const ArchitectureTraits& traits) {
    return traits.norm_offset || traits.learned_positions ? Activation::gelu_tanh : Activation::silu;
}

double attention_scale_of_gguf(const DecoderConfig& config, std::string_view architecture) {
    // Layers of the largest Gemma 2 and 3, which alone scale by √(hidden / heads) rather than by √head_dim; GGUF does
    // not say which (llama.cpp, llama-model.cpp).
    const bool gemma_27b =
        (architecture == "gemma2" && config.layers == 46) || (architecture == "gemma3" && config.layers == 62);
    return 1 / std::sqrt(gemma_27b ? static_cast<double>(config.hidden) / config.heads : config.head_dim);
}

DecoderConfig read_decoder_config(const Checkpoint& checkpoint) {
    const ModelCard card = dimensions_of(checkpoint);
    DecoderConfig config =
        checkpoint.container.starts_with("GGUF") ? read_gguf(checkpoint, card) : read_config_json(checkpoint, card);
    config.vocabulary = rows_of(checkpoint, Role::token_embedding);
    if (config.vocabulary == 0)
        throw Error(checkpoint.path.string(), "has no token embedding");
    // A head that is not there can only be the embedding.
    config.tied_head = config.tied_head || rows_of(checkpoint, Role::lm_head) == 0;
    return config;
}

} // namespace qs
