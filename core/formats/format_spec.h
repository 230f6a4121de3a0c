#pragma once

#include <compare>
#include <map>
#include <string>

namespace qs {

/// A format with all its parameters chosen, e.g. `nf4:block=128,dq`, or a recipe, e.g. `Q4_K_M`. Made by parse_spec()
/// (registry.h), which fills in defaults and rejects what the format does not have, so equal specs compare equal: it is
/// the key of a result.
struct FormatSpec {
    std::string id;
    std::map<std::string, std::string> parameters; ///< every parameter of the format, with its value

    int integer(const std::string& name) const { return std::stoi(parameters.at(name)); }
    double real(const std::string& name) const { return std::stod(parameters.at(name)); }
    bool flag(const std::string& name) const { return parameters.at(name) == "1"; }
    const std::string& choice(const std::string& name) const { return parameters.at(name); }

    /// Canonical text: the id, then after a colon the parameters that differ from their defaults.
    std::string text() const;

    auto operator<=>(const FormatSpec&) const = default;
};

} // namespace qs
