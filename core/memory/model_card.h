#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/formats/recipe.h"

namespace qs {

/// A group of equal weight matrices of a model: what the ledger needs to know of them.
struct WeightGroup {
    Role role = Role::other;
    std::string name;         ///< "attention q", "mlp down", …
    std::uint64_t copies = 1; ///< over layers and experts
    std::uint64_t rows = 0;
    std::uint64_t columns = 0;
    bool matrix = true;                ///< false for norms and biases: vectors, never quantized
    ModelPart part = ModelPart::other; ///< to recipes

    std::uint64_t count() const { return copies * rows * columns; }
};

/// The dimensions of a decoder, from a checkpoint, a config.json, GGUF metadata or a built-in card.
struct ModelCard {
    std::string id; ///< "llama-2-7b"; the nominal "7B", "13B", "70B"
    std::string title;
    std::string source;           ///< where the dimensions come from
    bool nominal = false;         ///< a round number of parameters, as textbooks use it
    std::uint64_t parameters = 0; ///< all weights; for a nominal card the round number
    int layers = 0;
    int hidden = 0;
    int heads = 0;
    int kv_heads = 0;
    int head_dim_k = 0; ///< from the config where it names head_dim, never assumed hidden/heads then
    int head_dim_v = 0;
    int intermediate = 0; ///< of one MLP or one expert
    int vocabulary = 0;
    bool tied_embeddings = false;
    int experts = 0; ///< 0 for a dense model
    int experts_per_token = 0;
    int sliding_window = 0;         ///< tokens; 0 for none
    int sliding_layers = 0;         ///< how many layers use the window
    std::vector<bool> layer_slides; ///< which ones; empty for none
    int max_context = 0;            ///< 0 if unknown
    std::vector<WeightGroup> weights;
    RecipeModel recipe_model; ///< the same weights tensor by tensor, for recipes; empty if there are absurdly many
};

/// Built-in cards (resources/model_cards.json), nominal ones first.
const std::vector<ModelCard>& model_cards();
/// Throws Error naming the id and the nearest known ones. Ids are matched without regard to case.
const ModelCard& model_card(const std::string& id);
/// From a bare config.json. Throws Error naming file and key.
ModelCard card_from_config(const std::filesystem::path& path);
/// From an open checkpoint: weights by its tensors, dimensions by its config or metadata.
ModelCard card_from_checkpoint(const Checkpoint& checkpoint);

} // namespace qs
