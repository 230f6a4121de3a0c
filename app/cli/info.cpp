#include <fmt/format.h>

#include "app/cli/command.h"
#include "app/cli/table.h"
#include "core/analysis/report_json.h"

namespace qs::cli {

namespace {

struct Options {
    std::string checkpoint;
    bool json = false;
};

Json info_json(const Checkpoint& checkpoint) {
    Json document{{"checkpoint", checkpoint.path.string()},
                  {"container", checkpoint.container},
                  {"architecture", checkpoint.architecture},
                  {"parameters", checkpoint.parameters()},
                  {"bytes", checkpoint.bytes()},
                  {"files", Json::array()},
                  {"tensors", Json::array()},
                  {"notes", checkpoint.notes}};
    for (const auto& file : checkpoint.files)
        document["files"].push_back(file->path().string());
    for (const TensorInfo& tensor : checkpoint.tensors)
        document["tensors"].push_back(tensor_json(checkpoint, tensor));
    return document;
}

std::string info_text(const Checkpoint& checkpoint) {
    const auto parameters = static_cast<double>(checkpoint.parameters());
    std::string text = fmt::format("{}\n", checkpoint.path.string());
    text += fmt::format("container     {}{}\n", checkpoint.container,
                        checkpoint.files.size() > 1 ? fmt::format(" in {} files", checkpoint.files.size()) : "");
    text += fmt::format("architecture  {}\n", checkpoint.architecture.empty() ? "not told" : checkpoint.architecture);
    text += fmt::format("parameters    {} ({})\n", si(parameters), checkpoint.parameters());
    text += fmt::format("bytes         {}\n", bytes_text(static_cast<double>(checkpoint.bytes())));
    for (const std::string& note : checkpoint.notes)
        text += fmt::format("note          {}\n", note);

    Table table({{"tensor"}, {"dtype"}, {"shape"}, {"role"}, {"layer", true}, {"parameters", true}, {"bytes", true}});
    for (const TensorInfo& tensor : checkpoint.tensors)
        table.add({tensor.name, tensor.dtype_name, shape_text(tensor.shape), std::string(to_string(tensor.role)),
                   tensor.layer ? std::to_string(*tensor.layer) : "", si(static_cast<double>(tensor.elements())),
                   bytes_text(static_cast<double>(tensor.bytes))});
    return text + "\n" + table.text();
}

} // namespace

void add_info(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("info", "What a checkpoint holds: container, architecture, tensors");
    command->add_option("CHECKPOINT", options->checkpoint, "File or folder of the model")->required();
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const auto checkpoint = open_checkpoint(options->checkpoint);
            options->json ? print(info_json(*checkpoint)) : print(info_text(*checkpoint));
        };
    });
}

} // namespace qs::cli
