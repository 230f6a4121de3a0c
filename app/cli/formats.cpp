#include <fmt/format.h>

#include "app/cli/command.h"
#include "app/cli/table.h"
#include "core/formats/registry.h"

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
                          "large matrix of 4096 columns.\n";
}

} // namespace

void add_formats(CLI::App& app, Action& action) {
    const auto json = std::make_shared<bool>(false);
    CLI::App* command = app.add_subcommand("formats", "The formats and their parameters");
    command->add_flag("--json", *json, "Print one JSON document");
    command->callback([json, &action] { action = [json] { *json ? print(formats_json()) : print(formats_text()); }; });
}

} // namespace qs::cli
