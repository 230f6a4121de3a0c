#include "core/base/resources.h"

#include <cstdlib>

#include "core/base/error.h"

namespace qs {

std::filesystem::path executable_dir() {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    return error ? std::filesystem::current_path() : self.parent_path();
}

namespace {

std::filesystem::path locate_resources() {
    if (const char* chosen = std::getenv("QUANTOSCOPE_RESOURCES"); chosen != nullptr && *chosen != '\0')
        return chosen;
    const auto installed = executable_dir() / "../share/quantoscope";
    if (std::filesystem::exists(installed / "gpus.json"))
        return std::filesystem::weakly_canonical(installed);
    throw Error(installed.string(), "the program's resources are missing",
                "reinstall it, or set QUANTOSCOPE_RESOURCES to their folder");
}

} // namespace

const std::filesystem::path& resource_dir() {
    static const std::filesystem::path found = locate_resources();
    return found;
}

} // namespace qs
