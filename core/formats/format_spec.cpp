#include "core/formats/format_spec.h"

#include "core/formats/registry.h"

namespace qs {

std::string FormatSpec::text() const {
    if (parameters.empty()) // many formats have none, recipes never do
        return id;
    std::string options;
    for (const FormatParameter& parameter : format(id).parameters) {
        const std::string& value = parameters.at(parameter.name);
        if (value == parameter.default_value)
            continue;
        options += options.empty() ? ":" : ",";
        const bool set_flag = parameter.kind == FormatParameter::Kind::flag && value == "1";
        options += set_flag ? parameter.name : parameter.name + "=" + value;
    }
    return id + options;
}

} // namespace qs
