#pragma once

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qs {

/// A parameter that a format or a method lets the user choose.
struct Parameter {
    enum class Kind { integer, real, flag, choice };
    std::string name;
    Kind kind;
    std::string default_value;        ///< "0" or "1" for a flag
    std::vector<std::string> choices; ///< the values to offer; for Kind::integer the only ones allowed if not empty
    double minimum = 0;               ///< for integer and real
    double maximum = 0;
    std::string help; ///< one sentence for a tooltip
};

/// Every parameter of a spec, with its value in its one spelling.
using ParameterValues = std::map<std::string, std::string>;

/// The values that `options` (`:name=value[,name=value|flag]…`, or nothing) gives, the defaults of the others, and
/// which were given. Throws Error naming `where`, the option and what is allowed.
struct ParsedParameters {
    ParameterValues values;
    std::set<std::string> given;
};
ParsedParameters parse_parameters(const std::string& where, std::span<const Parameter> parameters,
                                  std::string_view options);

/// Canonical text: the id, then after a colon the parameters that differ from their defaults.
std::string spec_text(const std::string& id, std::span<const Parameter> parameters, const ParameterValues& values);

std::string_view trimmed(std::string_view text);

/// Cuts a comma-separated list of specs apart; a comma followed by something that is not known continues the parameters
/// of the spec before it.
std::vector<std::string> split_specs(std::string_view text, const std::function<bool(const std::string&)>& known);

} // namespace qs
