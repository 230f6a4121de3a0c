#include "core/formats/format_spec.h"

#include "core/formats/registry.h"

namespace qs {

std::string FormatSpec::text() const {
    if (parameters.empty()) // many formats have none, recipes never do
        return id;
    return spec_text(id, format(id).parameters, parameters);
}

} // namespace qs
