#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/json_number.h"
#include "core/device/device.h"
#include "core/formats/format_spec.h"

namespace qs::cli {

/// Wrong usage: one sentence naming the option. Exit status 2.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// What the command line chose to do; called once it has been parsed as a whole.
using Action = std::function<void()>;

// Each adds one command and its options to `app`, and sets `action` when it is chosen.
void add_info(CLI::App& app, Action& action);
void add_formats(CLI::App& app, Action& action);
void add_analyze(CLI::App& app, Action& action);
void add_histogram(CLI::App& app, Action& action);
void add_codec(CLI::App& app, Action& action);
void add_memory(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_quantize(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_qat(CLI::App& app, Action& action);
void add_imatrix(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);

/// Runs `find`, turning an Error about the value of `option` into a UsageError that names it.
template <class Find>
decltype(auto) of_option(const std::string& option, Find find) {
    try {
        return find();
    } catch (const Error& error) {
        throw UsageError(option + ": " + error.what());
    }
}

// The value of an option; only the first takes recipes.
std::vector<FormatSpec> parse_formats_or_recipes_option(const std::string& option, const std::string& text);
std::vector<FormatSpec> parse_formats_option(const std::string& option, const std::string& text);
FormatSpec parse_format_option(const std::string& option, const std::string& text);

/// What --formats takes where recipes are allowed.
inline constexpr const char* formats_or_recipes_help =
    "Formats to compare: nf4,int8,q4_K,nf4:block=128,dq; or llama-quantize's mixtures, which choose a format for each "
    "tensor: Q4_K_M, recipe:Q6_K where q6_K is a format (formats --recipes lists them)";

/// What --imatrix takes where weights come from a checkpoint.
inline constexpr const char* imatrix_help =
    "Importance matrix of the model, as llama-imatrix writes it (GGUF, or the older .dat)";

/// --device and --threads of a command.
struct DeviceOptions {
    std::string device = "auto";
    int threads = 0;

    void add_device(CLI::App& command);
    void add_threads(CLI::App& command);
    /// The device, with the CPU to go on should it fail. Throws UsageError where the text is no device, Error where the
    /// device cannot be used.
    std::unique_ptr<Device> make() const;
    /// The device and nothing in its place.
    std::unique_ptr<Device> make_itself() const;
    /// The same, but of several GPUs that work as one only the first.
    std::unique_ptr<Device> make_one() const;
};

/// The device that `option` names; throws as DeviceOptions::make().
std::unique_ptr<Device> make_device_option(const std::string& option, const std::string& text, int threads);

/// "cpu", "cuda:0", or "cuda" for several GPUs.
std::string device_id(const Device& device);

/// Writes the notes of a device (Device::notes) to standard error, and gives them as JSON.
Json tell_notes(const Device& device);

/// Writes to standard output; throws Error when it cannot take it (a full disk).
void print(const std::string& text);
void print(const Json& document);

} // namespace qs::cli
