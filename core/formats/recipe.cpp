#include "core/formats/recipe.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/formats/registry.h"

// The rules are those of ggml-org/llama.cpp 007dbbf3, src/llama-quant.cpp (llama_tensor_get_type), the names those of
// its tools/quantize/quantize.cpp.

namespace qs {

namespace {

using enum Mixture;

constexpr std::string_view prefix = "recipe:";

std::vector<Recipe> make_table() {
    return {
        {"recipe:Q2_K", q2_K, "q2_K", "q2_K; q3_K or q4_K for attention v, q3_K for its output and MLP down"},
        {"Q2_K_S", q2_K_S, "q2_K", "q2_K; q4_K for the first MLP down", true},
        {"Q3_K_S", q3_K_S, "q3_K", "q3_K"},
        {"Q3_K_M", q3_K_M, "q3_K", "q3_K; q4_K for attention v, its output and MLP down, q5_K in the first layers"},
        {"Q3_K_L", q3_K_L, "q3_K", "q3_K; q5_K for attention v, its output and MLP down"},
        {"Q4_K_S", q4_K_S, "q4_K", "q4_K; q5_K for the first attention v and MLP down"},
        {"Q4_K_M", q4_K_M, "q4_K", "q4_K; q6_K for half of attention v and MLP down"},
        {"Q5_K_S", q5_K_S, "q5_K", "q5_K"},
        {"Q5_K_M", q5_K_M, "q5_K", "q5_K; q6_K for half of attention v and MLP down"},
        {"recipe:Q6_K", q6_K, "q6_K", "q6_K"},
        {"recipe:Q1_0", q1_0, "q1_0", "q1_0"},
        {"recipe:Q2_0", q2_0, "q2_0", "q2_0; q4_K for the embedding"},
        {"recipe:Q4_0", q4_0, "q4_0", "q4_0"},
        {"recipe:Q4_1", q4_1, "q4_1", "q4_1"},
        {"recipe:Q5_0", q5_0, "q5_0", "q5_0"},
        {"recipe:Q5_1", q5_1, "q5_1", "q5_1"},
        {"recipe:Q8_0", q8_0, "q8_0", "q8_0, the head too"},
        {"recipe:IQ1_S", iq1_s, "iq1_s", "iq1_s; q2_K or q4_K for attention v, iq2_xxs for its output", true},
        {"recipe:IQ1_M", iq1_m, "iq1_m", "iq1_m; q2_K or q4_K for attention v, iq2_xxs for its output", true},
        {"recipe:IQ2_XXS", iq2_xxs, "iq2_xxs", "iq2_xxs; q2_K or q4_K for attention v, q2_K for the first MLP down",
         true},
        {"recipe:IQ2_XS", iq2_xs, "iq2_xs", "iq2_xs; q2_K or q4_K for attention v, q2_K for the first MLP down", true},
        {"recipe:IQ2_S", iq2_s, "iq2_xs", "iq2_xs; iq3_s for attention v, its output and the first MLP down", true},
        {"IQ2_M", iq2_m, "iq2_s", "iq2_s; iq3_s for attention v, its output and the first MLP down", true},
        {"recipe:IQ3_XXS", iq3_xxs, "iq3_xxs", "iq3_xxs; iq2_s for attention q and k, iq3_s for its output", true},
        {"IQ3_XS", iq3_xs, "iq3_s", "iq3_s; iq3_xxs for attention q and k and the middle layers' MLP gate and up",
         true},
        {"recipe:IQ3_S", iq3_s, "iq3_s", "iq3_s; q4_K for attention v of grouped queries"},
        {"IQ3_M", iq3_m, "iq3_s", "iq3_s; q4_K for attention v, its output and the first MLP down"},
        {"recipe:IQ4_NL", iq4_nl, "iq4_nl", "iq4_nl; q5_K for the first MLP down"},
        {"recipe:IQ4_XS", iq4_xs, "iq4_xs", "iq4_xs; q5_K for the first MLP down"},
        {"recipe:TQ1_0", tq1_0, "tq1_0", "tq1_0; q4_K for the embedding"},
        {"recipe:TQ2_0", tq2_0, "tq2_0", "tq2_0; q4_K for the embedding"},
        {"MXFP4_MOE", mxfp4_moe, "mxfp4_ggml", "mxfp4_ggml for experts, q8_0 for everything else"},
    };
}

/// llama-quantize takes the names of some types for their medium mixture.
std::string_view without_alias(std::string_view name) {
    if (same_word(name, "Q3_K"))
        return "Q3_K_M";
    if (same_word(name, "Q4_K"))
        return "Q4_K_M";
    return same_word(name, "Q5_K") ? "Q5_K_M" : name;
}

// --- the rules -------------------------------------------------------------------------------------------------

bool one_of(Mixture mixture, std::initializer_list<Mixture> list) {
    return std::ranges::find(list, mixture) != list.end();
}

bool is_falcon(const std::string& architecture) {
    return architecture == "falcon" || architecture == "RefinedWeb" || architecture == "RefinedWebModel";
}

/// Whether llama.cpp calls the model a 70B (its src/models/, load_arch_hparams).
bool counts_as_70b(const RecipeModel& model) {
    const std::string& architecture = model.architecture;
    if (architecture == "llama" || architecture == "mistral" || architecture == "mixtral")
        return model.layers == 80 && model.queries_per_key != 1 && model.experts != 8;
    if (architecture == "qwen2" || architecture == "olmo" || architecture == "deci" || architecture == "nemotron-nas")
        return model.layers == 80;
    return architecture == "jais2" && model.layers == 68;
}

/// The first and the last eighth of the layers, and every third between them.
bool has_more_bits(int layer, int layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/// Goes over the tensors of one model in order: some rules count those before.
class Chooser {
public:
    Chooser(const Recipe& recipe, const RecipeModel& model, bool importance)
        : mixture_(recipe.mixture), main_(recipe.type), model_(model), importance_(importance),
          falcon_(is_falcon(model.architecture)), grouped_(model.queries_per_key >= 4), eight_(model.experts == 8) {
        for (const RecipeTensor& tensor : model.tensors) {
            tied_ = tied_ && tensor.part != ModelPart::head;
            values_ += tensor.part == ModelPart::attention_v;
        }
    }

    RecipeChoice choose(const RecipeTensor& tensor) {
        return tensor.kept.empty() ? RecipeChoice{type_of(tensor), {}} : RecipeChoice{tensor.kept_in, tensor.kept};
    }

private:
    std::string type_of(const RecipeTensor& tensor) {
        const bool embedding = tensor.part == ModelPart::token_embedding;
        if (tensor.part == ModelPart::head || (embedding && tied_))
            return head(tensor);
        if (mixture_ == mxfp4_moe)
            return stacked(tensor) ? "mxfp4_ggml" : "q8_0";
        if (embedding)
            return token_embedding();
        return is_low() ? of_low_mixture(tensor) : of_usual_mixture(tensor);
    }

    bool is_low() const { return one_of(mixture_, {iq1_s, iq1_m, iq2_xxs, iq2_xs, iq2_s, iq2_m}); }

    std::string head(const RecipeTensor& tensor) const {
        if (mixture_ == mxfp4_moe || mixture_ == q8_0 || falcon_)
            return "q8_0";
        if (is_low() || mixture_ == iq3_xxs) // a shape that does not allow q6_K makes q8_0 of it anyway
            return tensor.columns % 256 == 0 ? "q5_K" : "q8_0";
        return "q6_K";
    }

    /// Whether it is of experts; Bailing's latent attention has stacked matrices too.
    bool stacked(const RecipeTensor& tensor) const {
        const bool mlp = tensor.part == ModelPart::ffn_up || tensor.part == ModelPart::ffn_gate ||
                         tensor.part == ModelPart::ffn_down;
        return tensor.matrices > 1 && (mlp || model_.architecture != "bailingmoe3");
    }

    std::string token_embedding() const {
        if (one_of(mixture_, {iq1_s, iq1_m, iq2_xxs, iq2_xs}))
            return "q2_K";
        if (one_of(mixture_, {iq2_s, iq2_m, iq3_xxs}))
            return "iq3_s";
        return one_of(mixture_, {tq1_0, tq2_0, q2_0}) ? "q4_K" : main_;
    }

    std::string of_low_mixture(const RecipeTensor& tensor) {
        const bool larger = mixture_ == iq2_s || mixture_ == iq2_m;
        const std::string more = larger ? "iq3_s" : "q2_K";
        switch (tensor.part) {
        case ModelPart::attention_v:
            return grouped_ || model_.experts >= 4 ? "q4_K" : more;
        case ModelPart::attention_k:
            return eight_ ? "q4_K" : main_;
        case ModelPart::ffn_down:
            return downs_++ < model_.layers / 8 ? more : main_;
        case ModelPart::attention_output:
            if (eight_)
                return "q5_K";
            if (mixture_ == iq1_s || mixture_ == iq1_m)
                return "iq2_xxs";
            return larger ? "iq3_s" : main_;
        default:
            return main_;
        }
    }

    std::string of_usual_mixture(const RecipeTensor& tensor) {
        switch (tensor.part) {
        case ModelPart::attention_v:
            return attention_v();
        case ModelPart::attention_k:
            return eight_ ? "q8_0" : attention_q();
        case ModelPart::attention_q:
            return attention_q();
        case ModelPart::attention_output:
            if (falcon_)
                return mixture_ == q3_K_L ? "q4_K" : main_;
            return eight_ ? attention_output_of_eight() : attention_output();
        case ModelPart::ffn_down:
            return ffn_down(layer_of(tensor, downs_));
        case ModelPart::ffn_gate:
            return ffn_gate_up(layer_of(tensor, gates_));
        case ModelPart::ffn_up:
            return ffn_gate_up(layer_of(tensor, ups_));
        default:
            return main_;
        }
    }

    /// How many came before, which in a dense model is the layer; models of experts have several in a layer.
    int layer_of(const RecipeTensor& tensor, int& before) const {
        const int count = before++;
        return model_.experts > 1 && tensor.layer >= 0 ? tensor.layer : count;
    }

    std::string attention_v() {
        std::string type = attention_v_of(before_v_++);
        if (counts_as_70b(model_) && (type == "q3_K" || type == "q4_K"))
            type = "q5_K";
        return eight_ ? "q8_0" : type;
    }

    std::string attention_v_of(int index) const {
        switch (mixture_) {
        case q2_K:
            return grouped_ ? "q4_K" : "q3_K";
        case q2_K_S:
        case iq3_xs:
        case iq3_s:
            return grouped_ ? "q4_K" : main_;
        case iq3_xxs:
            return grouped_ ? "q4_K" : importance_ ? "iq3_xxs" : "iq3_s";
        case iq3_m:
            return "q4_K";
        case q3_K_M:
            return index < 2 ? "q5_K" : "q4_K";
        case q3_K_L:
            return "q5_K";
        case iq4_nl:
        case iq4_xs:
            return grouped_ ? "q5_K" : main_;
        case q4_K_M:
        case q5_K_M:
            return has_more_bits(index, values_) ? "q6_K" : main_;
        case q4_K_S:
            return index < 4 ? "q5_K" : main_;
        default:
            return main_;
        }
    }

    /// And k, unless there are eight experts.
    std::string attention_q() const {
        if (mixture_ == iq3_xs)
            return "iq3_xxs";
        return mixture_ == iq3_xxs ? "iq2_s" : main_;
    }

    std::string attention_output() const {
        switch (mixture_) {
        case q2_K:
            return "q3_K";
        case iq3_xxs:
            return "iq3_s";
        case q3_K_M:
        case iq3_m:
            return "q4_K";
        case q3_K_L:
            return "q5_K";
        default:
            return main_;
        }
    }

    std::string attention_output_of_eight() const {
        const bool more =
            one_of(mixture_, {q2_K, q3_K_S, q3_K_M, q4_K_S, q4_K_M, iq3_xxs, iq3_xs, iq3_s, iq3_m, iq4_nl, iq4_xs});
        return more ? "q5_K" : main_;
    }

    std::string ffn_down(int layer) const {
        const bool first = layer < model_.layers / 8, very_first = layer < model_.layers / 16;
        const bool more = has_more_bits(layer, model_.layers);
        switch (mixture_) {
        case q2_K:
            return "q3_K";
        case q2_K_S:
            return first ? "q4_K" : main_;
        case iq3_xxs:
            return importance_ ? main_ : first ? "q4_K" : "q3_K";
        case iq3_m:
            return first || (eight_ && more) ? "q4_K" : main_;
        case q3_K_M:
            return very_first ? "q5_K" : !falcon_ || more ? "q4_K" : main_;
        case q3_K_L:
            return falcon_ ? "q4_K" : "q5_K";
        case q4_K_M:
            if (falcon_)
                return very_first ? "q6_K" : more ? "q5_K" : main_;
            return more ? "q6_K" : main_;
        case q5_K_M:
            return more ? "q6_K" : main_;
        case q4_K_S:
            return first && !falcon_ ? "q5_K" : main_;
        case iq4_nl:
        case iq4_xs:
            return first && !importance_ ? "q5_K" : main_;
        case q4_0:
            return first && importance_ ? "q4_1" : main_;
        case q5_0:
            return first && importance_ ? "q5_1" : main_;
        default:
            return main_;
        }
    }

    std::string ffn_gate_up(int layer) const {
        const bool middle = layer >= model_.layers / 8 && layer < 7 * model_.layers / 8;
        return mixture_ == iq3_xs && middle ? "iq3_xxs" : main_;
    }

    Mixture mixture_;
    std::string main_;
    const RecipeModel& model_;
    bool importance_;
    bool falcon_, grouped_, eight_;
    bool tied_ = true;
    int values_ = 0; ///< tensors with attention v
    int before_v_ = 0, downs_ = 0, gates_ = 0, ups_ = 0;
};

} // namespace

std::string_view Recipe::name() const {
    const std::string_view text = id;
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

std::span<const Recipe> recipes() {
    static const std::vector<Recipe> table = make_table();
    return table;
}

const Recipe* find_recipe(std::string_view text) {
    const bool prefixed = same_word(text.substr(0, prefix.size()), prefix);
    const std::string_view name = prefixed ? without_alias(text.substr(prefix.size())) : text;
    const auto found = std::ranges::find_if(recipes(), [&](const Recipe& recipe) {
        return same_word(name, prefixed ? recipe.name() : std::string_view(recipe.id));
    });
    if (found != recipes().end())
        return &*found;
    if (!prefixed)
        return nullptr;
    std::vector<std::string> known;
    for (const Recipe& recipe : recipes())
        known.emplace_back(recipe.name());
    throw Error("recipe '" + std::string(name) + "'", "is not known", did_you_mean(name, known));
}

const Recipe* recipe_of(const FormatSpec& spec) {
    const auto found = std::ranges::find(recipes(), spec.id, &Recipe::id);
    return found == recipes().end() ? nullptr : &*found;
}

ModelPart part_of(Role role) {
    switch (role) {
    case Role::token_embedding:
        return ModelPart::token_embedding;
    case Role::attention_q:
        return ModelPart::attention_q;
    case Role::attention_k:
        return ModelPart::attention_k;
    case Role::attention_v:
    case Role::attention_qkv:
        return ModelPart::attention_v;
    case Role::attention_o:
        return ModelPart::attention_output;
    case Role::mlp_gate:
        return ModelPart::ffn_gate;
    case Role::mlp_up:
    case Role::mlp_gate_up: // llama.cpp's converter calls it ffn_up
        return ModelPart::ffn_up;
    case Role::mlp_down:
        return ModelPart::ffn_down;
    case Role::lm_head:
        return ModelPart::head;
    default:
        return ModelPart::other;
    }
}

std::vector<RecipeChoice> choose(const Recipe& recipe, const RecipeModel& model, bool importance) {
    Chooser chooser(recipe, model, importance);
    std::vector<RecipeChoice> choices;
    choices.reserve(model.tensors.size());
    for (const RecipeTensor& tensor : model.tensors)
        choices.push_back(chooser.choose(tensor));
    return choices;
}

FormatSpec spec_of(const Recipe& recipe, const RecipeChoice& choice) {
    const auto known = std::ranges::find(formats(), choice.format, &Format::id);
    if (known == formats().end())
        throw Error("recipe " + std::string(recipe.name()),
                    "takes the format " + choice.format + ", which this version does not have");
    return parse_spec(choice.format);
}

} // namespace qs
