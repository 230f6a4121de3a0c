#include <algorithm>
#include <cctype>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/resources.h"
#include "core/memory/ledger.h"

namespace qs {

namespace {

constexpr double gib = 0x1p30;

std::vector<Gpu> read_gpus() {
    const auto path = resource_dir() / "gpus.json";
    try {
        std::ifstream file(path);
        std::vector<Gpu> gpus;
        for (const nlohmann::json& entry : nlohmann::json::parse(file))
            gpus.push_back({entry.at("name"), entry.at("gib").get<double>() * gib, entry.at("kind"),
                            entry.at("bandwidth_gbps"), entry.at("source")});
        return gpus;
    } catch (const nlohmann::json::exception& error) {
        throw Error(path.string(), error.what(), "reinstall the program");
    }
}

/// Letters and digits only, without the words that vendors put in front.
std::string plain(std::string_view name) {
    std::string text;
    for (const char c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (const std::string_view prefix : {"nvidia", "amd", "intel", "apple", "geforce", "radeon", "instinct"})
        if (text.starts_with(prefix))
            text.erase(0, prefix.size());
    return text;
}

} // namespace

const std::vector<Gpu>& gpu_catalogue() {
    static const std::vector<Gpu> gpus = read_gpus();
    return gpus;
}

const Gpu& find_gpu(const std::string& name) {
    const std::string wanted = plain(name);
    const Gpu* shortest = nullptr;
    std::vector<std::string> known;
    for (const Gpu& gpu : gpu_catalogue()) {
        const std::string candidate = plain(gpu.name);
        if (candidate == wanted)
            return gpu;
        // "4090" is the RTX 4090, "T4" the Tesla T4.
        if (wanted.size() >= 2 && candidate.ends_with(wanted) &&
            (shortest == nullptr || gpu.name.size() < shortest->name.size()))
            shortest = &gpu;
        known.push_back(candidate);
    }
    if (shortest != nullptr)
        return *shortest;
    const std::string nearest = nearest_word(wanted, known);
    const auto place = static_cast<std::size_t>(std::ranges::find(known, nearest) - known.begin());
    throw Error("GPU '" + name + "'", "is not in the catalogue",
                "did you mean " + gpu_catalogue()[place].name + "? without a name all of them are listed");
}

} // namespace qs
