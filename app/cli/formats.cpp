#include <fmt/format.h>

#include <optional>

#include "app/cli/command.h"
#include "app/cli/table.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"
#include "core/memory/ledger.h"

namespace qs::cli {

namespace {

using Kind = FormatParameter::Kind;

/// The default as JSON knows it: a number, true or false, or text.
Json default_json(const FormatParameter& parameter) {
    switch (parameter.kind) {
    case Kind::integer:
        return std::stoll(parameter.default_value);
    case Kind::real:
        return json_number(std::stod(parameter.default_value));
    case Kind::flag:
        return parameter.default_value == "1";
    case Kind::choice:
        break;
    }
    return parameter.default_value;
}

Json formats_json() {
    Json list = Json::array();
    for (const Format& format : formats()) {
        const FormatSpec spec = parse_spec(format.id);
        Json parameters = Json::object(), help = Json::object();
        for (const FormatParameter& parameter : format.parameters) {
            parameters[parameter.name] = default_json(parameter);
            help[parameter.name] = parameter.help;
        }
        list.push_back({{"id", format.id},
                        {"family", format.family},
                        {"title", format.title},
                        {"block", format.block(spec)},
                        {"bits_per_weight", json_number(format.nominal_bits(spec))},
                        {"parameters", parameters},
                        {"parameter_help", help},
                        {"scale", format.scale},
                        {"source", format.source},
                        {"bit_exact_with", format.bit_exact_with.empty() ? Json() : Json(format.bit_exact_with)}});
    }
    return list;
}

std::string parameters_text(const Format& format) {
    std::string text;
    for (const FormatParameter& parameter : format.parameters) {
        text += text.empty() ? "" : " ";
        text +=
            parameter.kind == Kind::flag ? "[" + parameter.name + "]" : parameter.name + "=" + parameter.default_value;
    }
    return text;
}

/// How many weights share a scale.
std::string block_text(const Format& format, const FormatSpec& spec) {
    const std::size_t block = format.block(spec);
    if (block > 0)
        return block == 1 ? "–" : std::to_string(block);
    for (const char* name : {"scope", "scale"})
        if (spec.parameters.contains(name))
            return spec.choice(name);
    return "row";
}

std::string formats_text() {
    Table table({{"id"}, {"family"}, {"block", true}, {"bits/weight", true}, {"parameters"}, {"bit-exact with"}});
    for (const Format& format : formats()) {
        const FormatSpec spec = parse_spec(format.id);
        table.add({format.id, format.family, block_text(format, spec), fixed(format.nominal_bits(spec), 4),
                   parameters_text(format), format.bit_exact_with});
    }
    return table.text() + "\nParameters follow the id after a colon: nf4:block=128,dq. Bits per weight are those of a "
                          "large matrix of 4096 columns. Recipes over a whole model: formats --recipes.\n";
}

// --- recipes ---------------------------------------------------------------------------------------------------

constexpr const char* example_model = "llama-2-7b";

/// Over a whole model, as recipes have bits per weight in no other way; none where a format is missing.
std::optional<double> example_bits(const Recipe& recipe) {
    const ModelCard& card = model_card(example_model);
    try {
        return 8 * inference_ledger(card, parse_spec(recipe.id), {}).weight_bytes /
               static_cast<double>(card.parameters);
    } catch (const Error&) {
        return std::nullopt;
    }
}

Json recipes_json() {
    Json list = Json::array();
    for (const Recipe& recipe : recipes()) {
        const auto bits = example_bits(recipe);
        list.push_back({{"id", recipe.id},
                        {"family", "recipe"},
                        {"title", recipe.title},
                        {"type", recipe.type},
                        {"bits_per_weight", bits ? json_number(*bits) : Json()},
                        {"bits_per_weight_of", example_model},
                        {"needs_imatrix", recipe.needs_importance}});
    }
    return list;
}

std::string recipes_text() {
    Table table({{"id"}, {"bits/weight", true}, {"imatrix"}, {"formats"}});
    for (const Recipe& recipe : recipes()) {
        const auto bits = example_bits(recipe);
        table.add({recipe.id, bits ? fixed(*bits, 4) : "–", recipe.needs_importance ? "needed" : "", recipe.title});
    }
    return table.text() + fmt::format("\nEach chooses a format for every tensor of a model, as llama-quantize does: "
                                      "heads in q6_K, q5_K or q8_0, norms and routers in fp32.\nBits per weight are "
                                      "those of {}. Names are taken in any case; where a format bears the name too, "
                                      "recipe: stands in front.\n",
                                      example_model);
}

} // namespace

void add_formats(CLI::App& app, Action& action) {
    struct Options {
        bool json = false, recipes = false;
    };
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("formats", "The formats and their parameters");
    command->add_flag("--json", options->json, "Print one JSON document");
    command->add_flag("--recipes", options->recipes, "List llama-quantize's mixtures instead");
    command->callback([options, &action] {
        action = [options] {
            if (options->recipes)
                options->json ? print(recipes_json()) : print(recipes_text());
            else
                options->json ? print(formats_json()) : print(formats_text());
        };
    });
}

} // namespace qs::cli
