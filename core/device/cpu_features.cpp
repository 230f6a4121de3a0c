#include "core/device/cpu_features.h"

#include <unistd.h>

#include <fstream>
#include <string>

#include <hwy/targets.h>

namespace qs {

namespace {

/// The "model name" line of /proc/cpuinfo; other architectures than x86 have none.
std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name"))
            if (const auto colon = line.find(": "); colon != std::string::npos)
                return line.substr(colon + 2);
    return "CPU";
}

/// The best instruction set that there is code for, by the name that people know.
std::string best_instructions() {
    const auto targets = hwy::SupportedTargets();
    // Highway numbers better targets with lower bits.
    const auto best = targets & -targets;
    if (best <= HWY_AVX3)
        return "avx512";
    if (best <= HWY_AVX2)
        return "avx2";
    return hwy::TargetName(best);
}

} // namespace

DeviceInfo cpu_info() {
    DeviceInfo info;
    info.id = "cpu";
    info.name = cpu_name();
    info.kind = "cpu";
    info.memory_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
    info.instructions = best_instructions();
    info.usable = true;
    return info;
}

} // namespace qs
