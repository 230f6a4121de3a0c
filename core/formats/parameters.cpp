#include "core/formats/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/error.h"

namespace qs {

namespace {

using Kind = Parameter::Kind;

std::string join(const std::vector<std::string>& words, const char* between) {
    std::string text;
    for (const std::string& word : words)
        text += (text.empty() ? "" : between) + word;
    return text;
}

Error bad_value(const std::string& where, const Parameter& parameter, const std::string& value,
                const std::string& allowed) {
    return {where, "'" + value + "' is not a value of " + parameter.name, "use " + allowed};
}

std::string range_text(const Parameter& parameter) {
    return fmt::format("{} to {}", parameter.minimum, parameter.maximum);
}

/// The value in its one spelling; throws Error where it is not allowed.
std::string checked_value(const std::string& where, const Parameter& parameter, const std::string& value) {
    const char* end = value.data() + value.size();
    switch (parameter.kind) {
    case Kind::flag:
        if (value.empty() || value == "1" || value == "true")
            return "1";
        if (value == "0" || value == "false")
            return "0";
        throw bad_value(where, parameter, value, "0 or 1");
    case Kind::choice:
        if (std::find(parameter.choices.begin(), parameter.choices.end(), value) == parameter.choices.end())
            throw bad_value(where, parameter, value, join(parameter.choices, ", "));
        return value;
    case Kind::integer: {
        long long number = 0;
        const auto parsed = std::from_chars(value.data(), end, number);
        const bool in_range =
            parsed.ec == std::errc() && parsed.ptr == end && number >= parameter.minimum && number <= parameter.maximum;
        const std::string text = std::to_string(number);
        const auto& allowed = parameter.choices;
        if (!in_range || (!allowed.empty() && std::find(allowed.begin(), allowed.end(), text) == allowed.end()))
            throw bad_value(where, parameter, value, allowed.empty() ? range_text(parameter) : join(allowed, ", "));
        return text;
    }
    case Kind::real: {
        double number = 0;
        const auto parsed = std::from_chars(value.data(), end, number);
        if (parsed.ec != std::errc() || parsed.ptr != end || !(number >= parameter.minimum) ||
            !(number <= parameter.maximum))
            throw bad_value(where, parameter, value, range_text(parameter));
        char text[32];
        const auto written = std::to_chars(std::begin(text), std::end(text), number);
        return {text, written.ptr};
    }
    }
    return value;
}

/// The parts between commas, without the blanks around them.
std::vector<std::string> split_at_commas(std::string_view text) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        parts.emplace_back(trimmed(text.substr(begin, end - begin)));
        begin = end + 1;
    }
    return parts;
}

const Parameter& parameter_of(const std::string& where, std::span<const Parameter> parameters,
                              const std::string& name) {
    std::vector<std::string> names;
    for (const Parameter& parameter : parameters) {
        if (parameter.name == name)
            return parameter;
        names.push_back(parameter.name);
    }
    throw Error(where, "has no parameter '" + name + "'", names.empty() ? "it takes none" : "use " + join(names, ", "));
}

} // namespace

std::string_view trimmed(std::string_view text) {
    const std::size_t begin = std::min(text.find_first_not_of(' '), text.size());
    return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

ParsedParameters parse_parameters(const std::string& where, std::span<const Parameter> parameters,
                                  std::string_view options) {
    ParsedParameters parsed;
    for (const Parameter& parameter : parameters)
        parsed.values[parameter.name] = parameter.default_value;
    if (options.empty())
        return parsed;
    for (const std::string& option : split_at_commas(options.substr(1))) {
        const std::size_t equals = std::min(option.find('='), option.size());
        const std::string name = option.substr(0, equals);
        const Parameter& parameter = parameter_of(where, parameters, name);
        if (equals == option.size() && parameter.kind != Kind::flag)
            throw Error(where, name + " needs a value", "write " + name + "=" + parameter.default_value);
        parsed.values[name] = checked_value(where, parameter, equals == option.size() ? "" : option.substr(equals + 1));
        if (!parsed.given.insert(name).second)
            throw Error(where, name + " is given twice");
    }
    return parsed;
}

std::string spec_text(const std::string& id, std::span<const Parameter> parameters, const ParameterValues& values) {
    std::string options;
    for (const Parameter& parameter : parameters) {
        const std::string& value = values.at(parameter.name);
        if (value == parameter.default_value)
            continue;
        options += options.empty() ? ":" : ",";
        const bool set_flag = parameter.kind == Kind::flag && value == "1";
        options += set_flag ? parameter.name : parameter.name + "=" + value;
    }
    return id + options;
}

std::vector<std::string> split_specs(std::string_view text, const std::function<bool(const std::string&)>& known) {
    std::vector<std::string> specs;
    for (const std::string& part : split_at_commas(text)) {
        const bool continues = !specs.empty() && specs.back().find(':') != std::string::npos &&
                               part.find(':') == std::string::npos && !known(part);
        if (continues)
            specs.back() += "," + part;
        else
            specs.push_back(part);
    }
    return specs;
}

} // namespace qs
