#include <algorithm>
#include <cstdio>
#include <new>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "core/base/error.h"

namespace {

constexpr int failed = 1, wrong_usage = 2, interrupted = 128;

/// Every error is one line.
int report(int status, std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    std::fprintf(stderr, "error: %s\n", text.c_str());
    return status;
}

void add_commands(CLI::App& app, qs::cli::Action& action) {
    using namespace qs::cli;
    for (const auto add : {add_info, add_formats, add_analyze, add_histogram, add_codec, add_quantize, add_eval,
                           add_imatrix, add_qat, add_memory, add_bench, add_devices})
        add(app, action);
}

/// CLI11 says only that a command is needed; people want to read what was wrong with theirs.
std::string parse_error_text(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
        return std::string("'") + argv[1] + "' is not a command";
    return error.what();
}

std::string help_hint(const CLI::App& app) {
    const auto chosen = app.get_subcommands();
    return "; see quantoscope-cli " + (chosen.empty() ? "" : chosen.front()->get_name() + " ") + "--help";
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Quantizes the weights of a language model in every format and measures what each costs and saves.",
                 "quantoscope-cli");
    app.set_version_flag("--version", "quantoscope-cli " QUANTOSCOPE_VERSION, "Print the version and leave");
    app.set_help_flag("-h,--help", "Print this help and leave");
    app.require_subcommand(1);
    qs::cli::Action action;
    add_commands(app, action);

    try {
        app.parse(argc, argv);
        action();
        return 0;
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0)
            return app.exit(error);
        return report(wrong_usage, parse_error_text(app, error, argc, argv) + help_hint(app));
    } catch (const qs::cli::UsageError& error) {
        return report(wrong_usage, error.what());
    } catch (const qs::Cancelled&) {
        return report(interrupted + qs::cli::interrupting_signal(), "interrupted; nothing was written");
    } catch (const std::bad_alloc&) {
        return report(failed, "there is not enough memory for this");
    } catch (const std::exception& error) {
        return report(failed, error.what());
    }
}
