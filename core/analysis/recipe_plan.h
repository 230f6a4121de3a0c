#pragma once

#include <optional>
#include <vector>

#include "core/analysis/report.h"
#include "core/formats/recipe.h"

namespace qs {

/// A checkpoint as llama-quantize sees it once it is a GGUF file: Hugging Face's names mean what llama.cpp's converter
/// makes of them, and the experts of a layer are one tensor.
struct RecipeView {
    RecipeModel model;
    /// For each tensor of the checkpoint its place in `model.tensors`; none for what is no weight of the model.
    std::vector<std::optional<std::size_t>> places;
};
RecipeView recipe_view(const Checkpoint& checkpoint);
/// What a tensor under Hugging Face's name is once it is converted, experts too.
ModelPart converted_part(const TensorInfo& tensor);

/// What the specs of an analysis, recipes among them, are for each tensor of a checkpoint.
class RecipePlan {
public:
    /// With `importance` recipes choose as llama-quantize does when it has an importance matrix.
    RecipePlan(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs, bool importance = false);

    bool has_recipes() const { return has_recipes_; }
    /// The format of each spec for a tensor, without recipes. Throws Error where one chose a format that is not there.
    std::vector<FormatSpec> formats(std::size_t tensor) const;
    /// Turns the result of formats(tensor)[spec] into that of the spec.
    void name(FormatResult& result, std::size_t spec, std::size_t tensor) const;

private:
    const RecipeChoice& choice(std::size_t spec, std::size_t tensor) const;

    const std::vector<FormatSpec>& specs_;
    bool has_recipes_;
    std::vector<std::optional<std::size_t>> places_;
    std::vector<std::vector<RecipeChoice>> choices_; ///< one list a spec; empty for a format
};

} // namespace qs
