#pragma once

#include <compare>
#include <string>

#include "core/formats/format_spec.h"
#include "core/methods/activations.h"
#include "core/methods/method_spec.h"

namespace qs {

/// What a quantized model is made with: a format, and the method that chooses its codes.
struct Variant {
    FormatSpec format; ///< a recipe only with rounding to nearest
    MethodSpec method = parse_method("rtn");
    /// How the inputs of the decoder's linear layers are rounded, unless the method itself rounds them.
    Activations activations = Activations::none;

    bool rounds_to_nearest() const { return method.id == "rtn"; }
    /// Whether the method rounds the inputs of layers itself.
    bool rounds_inputs() const;
    /// "nf4", "int4 · gptq", "int4 · inputs int8": rounding to nearest goes without saying.
    std::string text() const;
    auto operator<=>(const Variant&) const = default;
};

/// Whether the method is defined for the format.
bool is_defined(const Variant& variant);

} // namespace qs
