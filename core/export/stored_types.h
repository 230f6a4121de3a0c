#pragma once

#include <optional>
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "core/formats/format_spec.h"

namespace qs {

/// The type that a GGUF file stores a format's blocks as; none for formats that it does not hold.
std::optional<DType> gguf_type_of(const FormatSpec& spec);
/// The other way round: the id of the format; empty for types that are none.
std::string format_of_type(DType type);

} // namespace qs
