#include "core/export/tensor_rules.h"

#include <fnmatch.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/base/nearest.h"
#include "core/checkpoint/gguf_types.h"
#include "core/checkpoint/text.h"
#include "core/export/stored_types.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view space = " \t\r\n";

std::string_view without_space(std::string_view text) {
    const std::size_t begin = std::min(text.find_first_not_of(space), text.size());
    return text.substr(begin, text.find_last_not_of(space) + 1 - begin);
}

TensorTypeRule make_rule(std::string pattern, std::string_view type, bool regex, const std::string& where) {
    TensorTypeRule rule{std::move(pattern), {}, nullptr};
    try {
        rule.format = parse_tensor_type(type);
    } catch (const Error& error) {
        throw Error(where, "rule '" + printable(rule.pattern) + "': " + error.what());
    }
    if (recipe_of(rule.format) != nullptr)
        throw Error(where,
                    "rule '" + printable(rule.pattern) + "' names the recipe " + rule.format.id +
                        ", which is no format of one tensor",
                    "use a format");
    if (regex)
        rule.regex = std::make_shared<const Regex>(rule.pattern, where + ": rule '" + printable(rule.pattern) + "'");
    return rule;
}

TensorTypeRule parse_rule(std::string_view text, const std::string& where) {
    const std::size_t equals = text.rfind('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size())
        throw Error(where, "rule '" + printable(text) + "' is not PATTERN=TYPE", "write, say, attn_v=q6_K");
    return make_rule(std::string(without_space(text.substr(0, equals))), without_space(text.substr(equals + 1)), true,
                     where);
}

std::string_view text_of(const ordered_json& value, const std::string& where, const std::string& entry) {
    if (!value.is_string())
        throw Error(where, "'" + printable(entry) + "' is " + printable(value.dump()) + ", not the name of a format");
    return value.get_ref<const std::string&>();
}

/// Between slashes stands a regular expression.
TensorTypeRule rule_of_json(const std::string& key, const ordered_json& value, const std::string& where) {
    const std::string_view type = text_of(value, where, key);
    if (key.size() > 2 && key.starts_with('/') && key.ends_with('/'))
        return make_rule(key.substr(1, key.size() - 2), type, true, where);
    return make_rule(key, type, false, where);
}

RecipeFile read_json(std::string_view text, const std::string& where) {
    const ordered_json root = ordered_json::parse(text, nullptr, false);
    if (!root.is_object())
        throw Error(where, "is no JSON object, as a recipe is");
    RecipeFile recipe;
    for (const auto& [key, value] : root.items()) {
        if (key == "format") {
            try {
                recipe.format = parse_spec(text_of(value, where, key));
            } catch (const Error& error) {
                throw Error(where, std::string("'format': ") + error.what());
            }
        } else if (key == "tensors") {
            if (!value.is_object())
                throw Error(where, "'tensors' is no object from patterns to formats");
            for (const auto& [pattern, type] : value.items())
                recipe.rules.push_back(rule_of_json(pattern, type, where));
        } else {
            throw Error(where, "has the entry '" + printable(key) + "', which recipes do not have",
                        "they have 'format' and 'tensors'");
        }
    }
    if (!recipe.format && recipe.rules.empty())
        throw Error(where, "names no format", "give 'format', 'tensors' or both");
    return recipe;
}

} // namespace

bool TensorTypeRule::matches(std::string_view name) const {
    if (regex != nullptr)
        return !regex->find_all(name).empty();
    return ::fnmatch(pattern.c_str(), std::string(name).c_str(), 0) == 0;
}

FormatSpec parse_tensor_type(std::string_view text) {
    for (const GgmlType& type : ggml_types())
        if (type.dtype != DType::unsupported && same_word(type.name, text))
            if (const std::string id = format_of_type(type.dtype); !id.empty())
                return parse_spec(id);
    return parse_spec(text);
}

std::vector<TensorTypeRule> parse_tensor_types(std::string_view text, const std::string& where) {
    std::vector<TensorTypeRule> rules;
    while (!text.empty()) {
        std::size_t end = text.find_first_of(",\n");
        // A comma may stand in the expression: "{1,2}".
        while (end < text.size() && text[end] == ',' && !contains(text.substr(0, end), "="))
            end = text.find_first_of(",\n", end + 1);
        end = std::min(end, text.size());
        if (const std::string_view rule = without_space(text.substr(0, end)); !rule.empty())
            rules.push_back(parse_rule(rule, where));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return rules;
}

RecipeFile read_recipe_file(const std::filesystem::path& path) {
    const auto file = MappedFile::open(path);
    const std::string_view text = as_text(file->bytes());
    const std::string where = path.string();
    if (const std::size_t first = text.find_first_not_of(space); first != text.npos && text[first] == '{')
        return read_json(text, where);
    RecipeFile recipe;
    recipe.rules = parse_tensor_types(text, where);
    if (recipe.rules.empty())
        throw Error(where, "holds no recipe", "write {\"format\": …, \"tensors\": {…}} or lines of PATTERN=TYPE");
    return recipe;
}

} // namespace qs
