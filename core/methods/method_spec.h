#pragma once

#include <compare>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/format_spec.h"
#include "core/formats/parameters.h"

namespace qs {

struct MethodInput;
struct MethodResult;

/// A way to choose the codes of a weight, with all its parameters, e.g. `gptq:act_order,damp=0.05`. Made by
/// parse_method(), so equal specs compare equal: with the FormatSpec it is the key of a result.
struct MethodSpec {
    std::string id;
    ParameterValues parameters; ///< every parameter of the method, with its value

    int integer(const std::string& name) const { return std::stoi(parameters.at(name)); }
    double real(const std::string& name) const { return std::stod(parameters.at(name)); }
    bool flag(const std::string& name) const { return parameters.at(name) == "1"; }
    const std::string& choice(const std::string& name) const { return parameters.at(name); }

    /// Canonical text: the id, then after a colon the parameters that differ from their defaults.
    std::string text() const;

    auto operator<=>(const MethodSpec&) const = default;
};

/// One row of the table of methods. Everything that lists methods walks methods().
struct Method {
    std::string id;
    std::string title; ///< one line for people
    std::vector<Parameter> parameters;
    std::string formats; ///< those that it is defined for, in words
    std::string source;  ///< where the definition comes from
    bool calibrates;     ///< whether it looks at the inputs of the layer
    bool (*takes)(const FormatSpec&);
    /// Fills in what the method decides; what follows from it is measured by apply_method() (apply.h).
    void (*apply)(const MethodInput&, MethodResult&);
};

/// The one table of methods, in the order in which people read it.
std::span<const Method> methods();
/// Throws Error naming the id and the nearest known ones.
const Method& method(std::string_view id);

/// Parses `id[:name=value[,name=value|flag]…]`; throws Error naming the option and what is allowed.
MethodSpec parse_method(std::string_view text);
/// Parses a comma-separated list, each method once; as in parse_specs() a comma may also part parameters.
std::vector<MethodSpec> parse_methods(std::string_view text);

/// Throws Error, saying which formats there are, where the method is not defined for the format.
void require_takes(const MethodSpec& method, const FormatSpec& format);

} // namespace qs
