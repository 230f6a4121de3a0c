#include "app/cli/command.h"
#include "app/cli/table.h"

namespace qs::cli {

namespace {

Json device_json(const DeviceInfo& info) {
    Json json{{"id", info.id}, {"name", info.name}, {"kind", info.kind}, {"memory_bytes", info.memory_bytes}};
    json["members"] = info.members;
    if (info.kind == "cpu") {
        json["instructions"] = info.instructions;
        json["threads"] = info.threads;
    } else {
        json["compute_capability"] = info.compute_capability.empty() ? Json() : Json(info.compute_capability);
    }
    json["usable"] = info.usable;
    json["reason"] = info.reason.empty() ? Json() : Json(info.reason);
    return json;
}

Json devices_json(const std::vector<DeviceInfo>& devices) {
    Json document{{"devices", Json::array()}};
    for (const DeviceInfo& info : devices)
        document["devices"].push_back(device_json(info));
    return document;
}

std::string devices_text(const std::vector<DeviceInfo>& devices) {
    Table table({{"id"}, {"name"}, {"memory", true}, {"can do"}, {"usable"}});
    for (const DeviceInfo& info : devices) {
        const std::string abilities = info.kind == "cpu"
                                          ? info.instructions + ", " + std::to_string(info.threads) + " threads"
                                          : info.compute_capability;
        const std::string name =
            info.members == 1 ? info.name : "all " + std::to_string(info.members) + " GPUs: " + info.name;
        table.add({info.id, name, info.memory_bytes == 0 ? "" : bytes_text(static_cast<double>(info.memory_bytes)),
                   abilities, info.usable ? "yes" : "no: " + info.reason});
    }
    return table.text();
}

} // namespace

void add_devices(CLI::App& app, Action& action) {
    const auto json = std::make_shared<bool>(false);
    CLI::App* command = app.add_subcommand("devices", "The processors, and why one is not used");
    command->add_flag("--json", *json, "Print one JSON document");
    command->callback([json, &action] {
        action = [json] { *json ? print(devices_json(list_devices())) : print(devices_text(list_devices())); };
    });
}

} // namespace qs::cli
