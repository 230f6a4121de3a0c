#include "core/export/stored_types.h"

#include <algorithm>
#include <array>

#include "core/checkpoint/gguf_types.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

struct TypeOfFormat {
    const char* format;
    DType type;
};

/// Formats whose ids are not the names of their types.
constexpr std::array other_names = {TypeOfFormat{"fp32", DType::f32}, TypeOfFormat{"fp16", DType::f16},
                                    TypeOfFormat{"mxfp4_ggml", DType::mxfp4}, TypeOfFormat{"nvfp4_ggml", DType::nvfp4}};

} // namespace

std::string format_of_type(DType type) {
    const auto other = std::ranges::find(other_names, type, &TypeOfFormat::type);
    const std::string id(other != other_names.end() ? other->format : to_string(type));
    const auto known = std::ranges::find(formats(), id, &Format::id);
    return known != formats().end() && (known->family == "ggml" || known->family == "float") ? id : std::string();
}

std::optional<DType> gguf_type_of(const FormatSpec& spec) {
    for (const GgmlType& type : ggml_types())
        if (type.dtype != DType::unsupported && format_of_type(type.dtype) == spec.id)
            return type.dtype;
    return std::nullopt;
}

} // namespace qs
