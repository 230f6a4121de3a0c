#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/formats/format_spec.h"

namespace qs {

/// llama-quantize's file types: one name for a choice of type for every tensor of a model.
enum class Mixture : std::uint8_t {
    q1_0,
    q2_0,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_K,
    q2_K_S,
    q3_K_S,
    q3_K_M,
    q3_K_L,
    q4_K_S,
    q4_K_M,
    q5_K_S,
    q5_K_M,
    q6_K,
    iq1_s,
    iq1_m,
    iq2_xxs,
    iq2_xs,
    iq2_s,
    iq2_m,
    iq3_xxs,
    iq3_xs,
    iq3_s,
    iq3_m,
    iq4_nl,
    iq4_xs,
    tq1_0,
    tq2_0,
    mxfp4_moe
};

/// One row of the table of recipes. A FormatSpec whose id is a recipe's stands for another format in each tensor.
struct Recipe {
    std::string id; ///< "Q4_K_M"; "recipe:Q6_K" where a format bears the name too
    Mixture mixture;
    std::string type;              ///< id of the format of tensors that no rule is about
    std::string title;             ///< one line for people
    bool needs_importance = false; ///< llama-quantize makes it with an importance matrix only

    std::string_view name() const; ///< llama-quantize's: the id without "recipe:"
};

/// The one table of recipes, in the order in which people read it.
std::span<const Recipe> recipes();
/// By llama-quantize's name, without regard to case; names that formats bear too need "recipe:" in front. Null where
/// there is none. Throws Error for an unknown name after "recipe:".
const Recipe* find_recipe(std::string_view text);
/// The recipe that a spec stands for; null where it is a format.
const Recipe* recipe_of(const FormatSpec& spec);

/// What the rules tell apart; `attention_v` is every matrix that v is in, fused ones too.
enum class ModelPart : std::uint8_t {
    token_embedding,
    attention_q,
    attention_k,
    attention_v,
    attention_output,
    ffn_up,
    ffn_gate,
    ffn_down,
    head,
    other
};
ModelPart part_of(Role role);

/// A tensor as llama.cpp stores it: the experts of a layer are one.
struct RecipeTensor {
    Role role = Role::other;
    ModelPart part = ModelPart::other;
    int layer = -1;
    std::uint64_t matrices = 1; ///< the experts
    std::uint64_t rows = 0;     ///< of one matrix
    std::uint64_t columns = 0;
    bool matrix = true;           ///< false for norms and biases
    std::string kept;             ///< why llama-quantize leaves it as it is; empty where it does not
    std::string kept_in = "fp32"; ///< the format that it then has
};

/// What the rules need to know of a model. The tensors are in the order in which llama.cpp goes over them: those
/// outside the layers, then layer by layer.
struct RecipeModel {
    std::string architecture; ///< as llama.cpp or Hugging Face calls it; may be empty
    int layers = 0;
    int queries_per_key = 1; ///< heads over KV heads, of the first layer
    int experts = 0;
    std::vector<RecipeTensor> tensors;
};

/// What a recipe gives one tensor, before its shape is looked at (effective_spec).
struct RecipeChoice {
    std::string format; ///< id
    std::string kept;   ///< why it is not quantized; empty where it is
};

/// The choice for each tensor of the model. With `importance` as llama-quantize chooses when it has an importance
/// matrix.
std::vector<RecipeChoice> choose(const Recipe& recipe, const RecipeModel& model, bool importance);
/// Throws Error where the table of formats lacks what was chosen.
FormatSpec spec_of(const Recipe& recipe, const RecipeChoice& choice);

} // namespace qs
