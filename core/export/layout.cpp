#include "core/export/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/export/integer_grid.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

bool has_method(const Variant& variant, std::initializer_list<const char*> ids) {
    return std::ranges::find(ids, variant.method.id) != ids.end();
}

bool takes_bitsandbytes(const Variant& variant) {
    const FormatSpec& format = variant.format;
    if (format.id == "llm_int8")
        return format.real("threshold") == 0 && has_method(variant, {"rtn", "llm_int8"});
    return (format.id == "nf4" || format.id == "fp4") && has_method(variant, {"rtn", "gptq"});
}

bool takes_awq(const Variant& variant) {
    return variant.format.id == "int4" && is_grid_format(variant.format) && has_method(variant, {"awq", "rtn", "gptq"});
}

/// HQQ's own zero points are fractions, which the others do not store.
bool takes_hqq(const Variant& variant) {
    return is_grid_format(variant.format) && has_method(variant, {"hqq", "rtn"});
}

bool takes_gptq(const Variant& variant) {
    return is_grid_format(variant.format) && has_method(variant, {"gptq", "rtn", "awq"});
}

bool takes_compressed_tensors(const Variant& variant) {
    constexpr const char* ids[] = {"fp8_e4m3", "nvfp4", "mxfp4", "mxfp8_e4m3"};
    return std::ranges::find(ids, variant.format.id) != std::end(ids) && has_method(variant, {"rtn"});
}

std::vector<LayoutEntry> make_table() {
    return {
        {"bitsandbytes", "nf4 and fp4 by rtn or gptq, llm_int8", "transformers with bitsandbytes", false, false, true,
         takes_bitsandbytes, make_bitsandbytes_layout},
        {"gptq", "int8, int4, int3 and int2 by channel or group, by rtn, gptq or awq", "transformers with GPTQModel",
         true, true, true, takes_gptq, make_gptq_layout},
        {"awq", "int4 by channel or group, by awq, rtn or gptq without act_order", "transformers with GPTQModel", true,
         true, false, takes_awq, make_awq_layout},
        {"hqq", "int8, int4, int3 and int2 by channel or group, by hqq or rtn", "transformers 4 with hqq", true, false,
         false, takes_hqq, make_hqq_layout},
        {"compressed-tensors", "fp8_e4m3, nvfp4, mxfp4 and mxfp8_e4m3 by rtn", "transformers with compressed-tensors",
         false, false, false, takes_compressed_tensors, make_compressed_tensors_layout},
    };
}

/// What is meant for the variant, of the layouts that take it.
std::string usual_layout(const Variant& variant) {
    if (variant.method.id == "awq" && takes_awq(variant))
        return "awq";
    const auto found = std::ranges::find_if(layouts(), [&](const LayoutEntry& entry) { return entry.takes(variant); });
    if (found != layouts().end())
        return found->id;
    if (recipe_of(variant.format) != nullptr || format(variant.format.id).family == "ggml")
        throw Error(variant.text(), "is written as GGUF", "name the output OUT.gguf");
    std::string all;
    for (const LayoutEntry& entry : layouts())
        all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", entry.id, entry.stores);
    throw Error(variant.text(), fmt::format("is stored in none of the layouts of safetensors ({})", all));
}

} // namespace

std::span<const LayoutEntry> layouts() {
    static const std::vector<LayoutEntry> table = make_table();
    return table;
}

const LayoutEntry& layout_for(const std::string& id, const Variant& variant) {
    const std::string wanted = id == "auto" ? usual_layout(variant) : id;
    const auto found = std::ranges::find(layouts(), wanted, &LayoutEntry::id);
    if (found == layouts().end()) {
        std::vector<std::string> known{"auto"};
        for (const LayoutEntry& entry : layouts())
            known.push_back(entry.id);
        throw Error("layout '" + wanted + "'", "is not known", did_you_mean(wanted, known));
    }
    if (!found->takes(variant))
        throw Error("layout " + wanted, fmt::format("cannot store {}: it stores {}", variant.text(), found->stores),
                    "leave the layout to be chosen");
    return *found;
}

std::string module_name(const LinearTensor& tensor) {
    return tensor.name.substr(0, tensor.name.size() - std::string_view(".weight").size());
}

} // namespace qs
