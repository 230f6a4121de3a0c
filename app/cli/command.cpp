#include "app/cli/command.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "core/device/discovery.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"

namespace qs::cli {

namespace {

/// Throws Error for a recipe.
void require_format(const FormatSpec& spec) {
    format(spec.id);
}

} // namespace

std::vector<FormatSpec> parse_formats_or_recipes_option(const std::string& option, const std::string& text) {
    return of_option(option, [&] { return parse_specs(text); });
}

std::vector<FormatSpec> parse_formats_option(const std::string& option, const std::string& text) {
    return of_option(option, [&] {
        std::vector<FormatSpec> specs = parse_specs(text);
        std::ranges::for_each(specs, require_format);
        return specs;
    });
}

FormatSpec parse_format_option(const std::string& option, const std::string& text) {
    return of_option(option, [&] {
        FormatSpec spec = parse_spec(text);
        require_format(spec);
        return spec;
    });
}

void DeviceOptions::add_device(CLI::App& command) {
    command
        .add_option("--device", device,
                    "auto (all usable GPUs, else the CPU), cpu, cuda (all usable GPUs) or cuda:N (one)")
        ->type_name("DEVICE")
        ->capture_default_str();
}

void DeviceOptions::add_threads(CLI::App& command) {
    command.add_option("--threads", threads, "CPU threads (default: all)")->type_name("N")->check(CLI::Range(1, 1024));
}

namespace {

bool is_device_name(const std::string& text) {
    if (text == "auto" || text == "cpu" || text == "cuda")
        return true;
    const std::string digits = text.starts_with("cuda:") ? text.substr(5) : "";
    return !digits.empty() && digits.size() <= 3 && digits.find_first_not_of("0123456789") == std::string::npos;
}

void require_device_name(const std::string& option, const std::string& text) {
    if (!is_device_name(text))
        throw UsageError(option + ": '" + text + "' is not known; use auto, cpu, cuda or cuda:N");
}

} // namespace

std::unique_ptr<Device> make_device_option(const std::string& option, const std::string& text, int threads) {
    require_device_name(option, text);
    return make_device(text, threads);
}

std::unique_ptr<Device> DeviceOptions::make_itself() const {
    return make_device_option("--device", device, threads);
}

std::unique_ptr<Device> DeviceOptions::make_one() const {
    require_device_name("--device", device);
    return make_device(single_device(list_devices(), device), threads);
}

std::unique_ptr<Device> DeviceOptions::make() const {
    return with_cpu_fallback(make_itself(), threads);
}

std::string device_id(const Device& device) {
    return device.info().id;
}

Json tell_notes(const Device& device) {
    const std::vector<std::string> notes = device.notes();
    for (const std::string& note : notes)
        std::fprintf(stderr, "note: %s\n", note.c_str());
    return notes;
}

void print(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        throw Error("standard output", std::string("cannot be written: ") + std::strerror(errno));
}

void print(const Json& document) {
    print(json_text(document) + "\n");
}

} // namespace qs::cli
