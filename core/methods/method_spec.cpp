#include "core/methods/method_spec.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/formats/registry.h"
#include "core/methods/activations.h"
#include "core/methods/rounding.h"

namespace qs {

namespace {

using Kind = Parameter::Kind;

// --- formats ---------------------------------------------------------------------------------------------------

bool any_format(const FormatSpec&) {
    return true;
}

bool is_integer(const FormatSpec& spec) {
    return format(spec.id).family == "integer";
}

/// Integers whose scales lie within a row.
bool is_row_integer(const FormatSpec& spec) {
    return is_integer(spec) && spec.choice("scope") != "tensor";
}

bool is_solvable(const FormatSpec& spec) {
    return is_row_integer(spec) || spec.id == "nf4" || spec.id == "fp4";
}

bool is_int8(const FormatSpec& spec) {
    return spec.id == "int8";
}

/// Without outliers of the weights: those of the inputs are kept.
bool is_llm_int8(const FormatSpec& spec) {
    return spec.id == "llm_int8" && spec.real("threshold") == 0;
}

bool is_weighted(const FormatSpec& spec) {
    return format(spec.id).importance != Importance::unused;
}

constexpr const char* solvable = "int8, int4, int3, int2 by channel or group; nf4, fp4";

// --- parameters ------------------------------------------------------------------------------------------------

Parameter real(std::string name, std::string value, double minimum, double maximum, std::string help) {
    return {std::move(name), Kind::real, std::move(value), {}, minimum, maximum, std::move(help)};
}

Parameter integer(std::string name, std::string value, double minimum, double maximum, std::string help) {
    return {std::move(name), Kind::integer, std::move(value), {}, minimum, maximum, std::move(help)};
}

Parameter flag(std::string name, bool value, std::string help) {
    return {std::move(name), Kind::flag, value ? "1" : "0", {}, 0, 0, std::move(help)};
}

std::vector<Parameter> gptq_parameters() {
    return {flag("act_order", false, "Takes the columns with the largest inputs first."),
            flag("static_groups", false, "Fits all scales to the weights as they were before any was rounded."),
            real("damp", "0.01", 0, 1, "Added to the Hessian's diagonal, as a part of its mean."),
            integer("columns", "128", 1, 65536, "Columns after which the rest of the matrix is brought up to date."),
            {"fit",
             Kind::choice,
             "gptq",
             {"gptq", "format"},
             0,
             0,
             "Whose integer scale: the reference's, if symmetric 2·absmax / (2ⁿ − 1), or the format's, absmax / (2ⁿ⁻¹ "
             "− 1)."}};
}

std::vector<Parameter> awq_parameters() {
    return {integer("steps", "20", 1, 1000, "Exponents of the inputs' mean magnitude that are tried, from 0 up."),
            flag("clip", true, "Searches for how far each group is clipped; the reference leaves q and k unclipped."),
            flag("duo", false, "Divides the powers by those of the columns' mean magnitude, as AutoAWQ does."),
            {"fit",
             Kind::choice,
             "awq",
             {"awq", "format"},
             0,
             0,
             "Whose affine integer scale: the reference's, (max − min) / (2ⁿ − 1), or the format's, whose range holds "
             "0."}};
}

std::vector<Parameter> hqq_parameters() {
    return {
        real("p", "0.7", 0.1, 1, "The norm of the error: below 1 it spares outliers."),
        real("beta", "10", 0.001, 1e6, "How strongly the error is held to its shrunk form."),
        real("kappa", "1", 1, 10, "By which beta grows in each iteration; the reference's other solvers take 1.01."),
        integer("iterations", "20", 1, 1000, "At most so many."),
        flag("early_stop", true, "Stops where the mean error no longer falls.")};
}

std::vector<Parameter> smoothquant_parameters() {
    return {real("alpha", "0.5", 0, 1, "How much of the difficulty goes from the inputs to the weights."),
            {"activations", Kind::choice, "int8", activation_names(), 0, 0,
             "How the inputs are rounded: by token, by tensor as they come, or by the calibration's range."}};
}

// --- the table -------------------------------------------------------------------------------------------------

std::vector<Method> make_table() {
    return {
        {"rtn", "rounding to nearest", {}, "all", "the format's own definition", false, any_format, apply_rtn},
        {"imatrix",
         "rounding that weighs columns by their inputs' mean squares",
         {},
         "ggml's that take importances",
         "ggml-org/llama.cpp 006e7ef9, tools/imatrix; 0a32c5ee, tools/quantize",
         true,
         is_weighted,
         apply_imatrix},
        {"gptq", "GPTQ: each column's error is made good in those after it", gptq_parameters(), solvable,
         "Frantar et al., GPTQ (2022); IST-DASLab/gptq 2d65066e, gptq.py", true, is_solvable, apply_gptq},
        {"awq", "AWQ: columns with large inputs are scaled up before rounding", awq_parameters(), solvable,
         "Lin et al., AWQ (2023); mit-han-lab/llm-awq d6e797a4, auto_scale.py and auto_clip.py", true, is_solvable,
         apply_awq},
        {"hqq", "HQQ: zero points that spare the outliers of the error", hqq_parameters(),
         "int8, int4, int3, int2 by channel or group",
         "Badri and Shaji, Half-Quadratic Quantization (2023); mobiusml/hqq e0b1d00e, hqq/core/optimize.py", false,
         is_row_integer, apply_hqq},
        {"smoothquant", "SmoothQuant: inputs and weights in 8 bits, outliers shared between them",
         smoothquant_parameters(), "int8",
         "Xiao et al., SmoothQuant (2022); mit-han-lab/smoothquant c61476d7, smooth.py", true, is_int8,
         apply_smoothquant},
        {"llm_int8",
         "LLM.int8(): inputs and weights in 8 bits, columns with outliers in 16",
         {real("threshold", "6", 0.001, 65504, "Inputs of at least this magnitude are outliers.")},
         "llm_int8 without a threshold of its own",
         "Dettmers et al., LLM.int8() (2022)",
         true,
         is_llm_int8,
         apply_llm_int8},
    };
}

} // namespace

std::string MethodSpec::text() const {
    return spec_text(id, method(id).parameters, parameters);
}

std::span<const Method> methods() {
    static const std::vector<Method> table = make_table();
    return table;
}

const Method& method(std::string_view id) {
    std::vector<std::string> known;
    for (const Method& entry : methods()) {
        if (entry.id == id)
            return entry;
        known.push_back(entry.id);
    }
    throw Error("method '" + std::string(id) + "'", "is not known", did_you_mean(id, known));
}

MethodSpec parse_method(std::string_view text) {
    text = trimmed(text);
    const std::size_t colon = std::min(text.find(':'), text.size());
    const Method& entry = method(text.substr(0, colon));
    return {entry.id, parse_parameters("method " + entry.id, entry.parameters, text.substr(colon)).values};
}

std::vector<MethodSpec> parse_methods(std::string_view text) {
    const auto known = [](const std::string& part) {
        return std::ranges::find(methods(), part.substr(0, part.find(':')), &Method::id) != methods().end();
    };
    std::vector<MethodSpec> parsed;
    for (const std::string& part : split_specs(text, known))
        if (MethodSpec next = parse_method(part); std::ranges::find(parsed, next) == parsed.end())
            parsed.push_back(std::move(next));
    return parsed;
}

void require_takes(const MethodSpec& spec, const FormatSpec& format) {
    const Method& entry = method(spec.id);
    if (!entry.takes(format))
        throw Error("method " + spec.id, "is not defined for the format " + format.text(), "it takes " + entry.formats);
}

} // namespace qs
