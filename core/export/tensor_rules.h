#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/format_spec.h"
#include "core/model/tokenizer_regex.h"

namespace qs {

/// The format of the tensors whose names fit a pattern.
struct TensorTypeRule {
    std::string pattern;
    FormatSpec format;
    std::shared_ptr<const Regex>
        regex; ///< to be found anywhere in the name; null: the pattern is a glob over all of it

    bool matches(std::string_view name) const;
};

/// A format: by its spec, or by ggml's name of the type ("Q4_K", "f16").
FormatSpec parse_tensor_type(std::string_view text);

/// Rules as llama-quantize's --tensor-type has them: PATTERN=TYPE, one a line or between commas, the pattern a regular
/// expression. Throws Error(`where`, …) naming the rule and what is wrong.
std::vector<TensorTypeRule> parse_tensor_types(std::string_view text, const std::string& where);

/// What a recipe file says.
struct RecipeFile {
    std::optional<FormatSpec> format;  ///< of the tensors that no rule is about; may be a recipe
    std::vector<TensorTypeRule> rules; ///< the first that matches decides
};

/// Reads {"format": FORMAT, "tensors": {PATTERN: FORMAT, …}}, each part of which may be left out, a pattern being a
/// glob or, between slashes, a regular expression; or a file of llama-quantize's --tensor-type-file. Throws Error
/// naming file and entry.
RecipeFile read_recipe_file(const std::filesystem::path& path);

} // namespace qs
