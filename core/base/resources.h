#pragma once

#include <filesystem>

namespace qs {

/// The folder of installed or source resources: $QUANTOSCOPE_RESOURCES, `../share/quantoscope` beside the
/// executable's folder, or `resources` in a build tree. Throws Error when none exists.
const std::filesystem::path& resource_dir();
/// The folder of the running executable.
std::filesystem::path executable_dir();

} // namespace qs
