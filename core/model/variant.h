#pragma once

#include <compare>
#include <map>
#include <memory>
#include <string>

#include "core/formats/format_spec.h"
#include "core/methods/activations.h"
#include "core/methods/method_spec.h"
#include "core/model/matrix.h"

namespace qs {

/// Weights that training has made for a format: what the format makes of them.
struct TrainedWeights {
    std::string name;                      ///< as a method's: "qat"; one format's differ in it
    std::map<std::size_t, Matrix> weights; ///< by LinearTensor::tensor
    double bits_per_weight = 0;
};

/// What a quantized model is made with: a format, and the method that chooses its codes.
struct Variant {
    FormatSpec format; ///< a recipe only with rounding to nearest
    MethodSpec method = parse_method("rtn");
    /// How the inputs of the decoder's linear layers are rounded, unless the method itself rounds them.
    Activations activations = Activations::none;
    /// In place of what the method, then rounding to nearest, makes of the checkpoint's weights; or null.
    std::shared_ptr<const TrainedWeights> trained = nullptr;

    bool rounds_to_nearest() const { return method.id == "rtn"; }
    /// Whether what is made depends on a calibration text.
    bool calibrates() const { return qs::method(method.id).calibrates; }
    /// Whether the method rounds the inputs of layers itself.
    bool rounds_inputs() const;
    /// The method's text, or the name of what was trained.
    std::string method_text() const { return trained ? trained->name : method.text(); }
    /// "nf4", "int4 · gptq", "int4 · inputs int8": rounding to nearest goes without saying.
    std::string text() const;
    auto operator<=>(const Variant&) const = default;
};

/// Whether the method is defined for the format.
bool is_defined(const Variant& variant);

} // namespace qs
