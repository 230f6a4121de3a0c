#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/text.h"

namespace qs {

/// Runs `build`, in which a field of the wrong type or a missing one becomes an Error that begins with `subject`.
template <class Build>
auto read_json_part(const std::string& where, const std::string& subject, const Build& build) {
    try {
        return build();
    } catch (const nlohmann::json::exception& error) {
        std::string_view text = error.what(); // "[json.exception.out_of_range.403] key 'x' not found"
        text.remove_prefix(text.starts_with('[') ? text.find("] ") + 2 : 0);
        throw Error(where, fmt::format("{} is wrong: {}", subject, printable(text)));
    }
}

/// The "type" of a step of a tokenizer.json; `kind` is what people call such steps.
inline std::string step_type(const nlohmann::json& step, std::string_view kind, const std::string& where) {
    return read_json_part(where, fmt::format("a {}", kind), [&] { return step.at("type").get<std::string>(); });
}

[[noreturn]] inline void refuse_step(std::string_view kind, const std::string& type, const std::string& where) {
    throw Error(where, fmt::format("uses the {} '{}', which is not supported", kind, printable(type)));
}

/// A field, or `otherwise` where it is absent or null.
template <class T>
T field_or(const nlohmann::json& object, const char* name, T otherwise) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? otherwise : found->get<T>();
}

} // namespace qs
