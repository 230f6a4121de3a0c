#include "core/model/variants.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

/// Results after this part of a text, but never so few tokens that quantizing the layers anew outweighs running them.
constexpr std::size_t parts = 8;
constexpr std::size_t least_group_tokens = 1024;

std::vector<FormatSpec> formats_of(const std::vector<Variant>& variants) {
    std::vector<FormatSpec> formats;
    for (const Variant& variant : variants) {
        if (const std::string reason = why_not(variant); !reason.empty())
            throw Error(variant.text(), reason);
        formats.push_back(variant.format);
    }
    return formats;
}

std::size_t group_tokens(const std::vector<std::vector<int>>& windows, std::size_t most) {
    std::size_t tokens = 0;
    for (const auto& window : windows)
        tokens += window.size();
    return std::clamp(tokens / parts, least_group_tokens, most);
}

} // namespace

std::vector<MethodSpec> runnable_methods() {
    return {parse_method("rtn")};
}

std::vector<Variant> combine(const std::vector<FormatSpec>& formats, const std::vector<MethodSpec>& methods) {
    std::vector<Variant> variants;
    for (const FormatSpec& format : formats)
        for (const MethodSpec& chosen : methods)
            if (Variant variant{format, chosen}; is_defined(variant))
                variants.push_back(std::move(variant));
    return variants;
}

std::string why_not(const Variant& variant) {
    const std::vector<MethodSpec> runnable = runnable_methods();
    if (std::ranges::find(runnable, variant.method.id, &MethodSpec::id) == runnable.end())
        return "is made by a method that does not run over a decoder";
    if (format(variant.format.id).importance == Importance::required)
        return "needs an importance matrix";
    return {};
}

VariantResults evaluate_variants(const Decoder& decoder, const std::vector<Variant>& variants,
                                 const std::vector<std::vector<int>>& windows, Device& device, JobControl& job,
                                 const std::function<void(const VariantResults&)>& on_progress) {
    EvaluationRequest request;
    request.windows = windows;
    request.variants = variants;
    request.group_tokens = group_tokens(windows, request.group_tokens);
    return evaluate(decoder, request, device, job, on_progress);
}

VariantWeights::VariantWeights(const Decoder& decoder, const std::vector<Variant>& variants, Device& device,
                               JobControl& job)
    : formats_(formats_of(variants)), weights_(decoder.weights().checkpoint(), formats_, device, job) {}

} // namespace qs
