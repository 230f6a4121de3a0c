#include "core/model/variant.h"

#include "core/formats/recipe.h"

namespace qs {

bool Variant::rounds_inputs() const {
    return method.id == "llm_int8" || (method.id == "smoothquant" && method.choice("activations") != "none");
}

std::string Variant::text() const {
    std::string text = format.text();
    if (!rounds_to_nearest() || trained)
        text += " · " + method_text();
    if (activations != Activations::none && !rounds_inputs())
        text += " · inputs " + to_string(activations);
    return text;
}

bool is_defined(const Variant& variant) {
    if (variant.rounds_to_nearest())
        return true;
    return recipe_of(variant.format) == nullptr && method(variant.method.id).takes(variant.format);
}

} // namespace qs
