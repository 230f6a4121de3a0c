#include "core/methods/activations.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/formats/integer.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

/// The format whose rows are tokens; null for those that are not a format.
const char* format_of(Activations activations) {
    switch (activations) {
    case Activations::int8:
        return "int8:scope=channel,scales=fp32";
    case Activations::int8_tensor:
        return "int8:scope=tensor,scales=fp32";
    case Activations::fp8:
        return "fp8_e4m3:scale=channel";
    case Activations::mxfp8:
        return "mxfp8_e4m3";
    case Activations::none:
    case Activations::int8_static:
        break;
    }
    return nullptr;
}

} // namespace

const std::vector<std::string>& activation_names() {
    static const std::vector<std::string> names{"none", "int8", "int8_tensor", "int8_static", "fp8", "mxfp8"};
    return names;
}

const std::string& to_string(Activations activations) {
    return activation_names()[static_cast<std::size_t>(activations)];
}

Activations parse_activations(std::string_view text) {
    const auto& names = activation_names();
    const auto name = std::ranges::find(names, text);
    if (name == names.end())
        throw Error("activations '" + std::string(text) + "'", "are not known", did_you_mean(text, names));
    return static_cast<Activations>(name - names.begin());
}

void round_activations(Activations activations, float* values, std::size_t tokens, std::size_t columns, float absmax) {
    const std::size_t count = tokens * columns;
    if (activations == Activations::int8_static) {
        constexpr SymmetricIntCodec codec{{Scope::Kind::tensor, 0}, 8, false, 256};
        const auto scale = codec.fit({absmax});
        std::transform(values, values + count, values,
                       [&](float value) { return codec.decode(codec.encode(value, scale), scale); });
    }
    const char* format = format_of(activations);
    if (format == nullptr || count == 0)
        return;
    const auto codec = bind_codec(parse_spec(format), {tokens, columns});
    if (codec->needs_scan()) {
        codec->scan(values, 0, count);
        codec->finish_scan();
    }
    codec->quantize(values, 0, count, nullptr, values);
}

} // namespace qs
