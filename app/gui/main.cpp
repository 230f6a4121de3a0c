#include <QApplication>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "app/gui/MainWindow.h"

namespace {

constexpr const char* usage = "Usage: quantoscope [CHECKPOINT]\n"
                              "\n"
                              "Opens a checkpoint (.safetensors, .gguf, a *.index.json or a Hugging Face folder) and\n"
                              "shows what quantization does to its weights. Without one it opens the demo model.\n"
                              "\n"
                              "  -h, --help     show this text\n"
                              "  --version      show the version\n"
                              "\n"
                              "Without a screen use quantoscope-cli.\n";

bool given(std::span<char*> arguments, const char* option) {
    return std::ranges::any_of(arguments, [option](const char* each) { return std::strcmp(each, option) == 0; });
}

/// Qt ends the program by a signal where there is no screen; this says what to do instead.
bool has_screen(std::span<char*> arguments) {
    const auto set = [](const char* name) {
        const char* value = std::getenv(name);
        return value != nullptr && *value != '\0';
    };
    return set("DISPLAY") || set("WAYLAND_DISPLAY") || set("QT_QPA_PLATFORM") || given(arguments, "-platform");
}

int wrong_usage(const QString& message) {
    std::fprintf(stderr, "error: %s\n\n%s", qPrintable(message), usage);
    return 2;
}

} // namespace

int main(int argc, char** argv) {
    const std::span<char*> arguments(argv + 1, static_cast<std::size_t>(std::max(0, argc - 1)));
    if (given(arguments, "--help") || given(arguments, "-h")) {
        std::fputs(usage, stdout);
        return 0;
    }
    if (given(arguments, "--version")) {
        std::puts("quantoscope " QUANTOSCOPE_VERSION);
        return 0;
    }
    if (!has_screen(arguments)) {
        std::fputs("error: there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set); use quantoscope-cli\n",
                   stderr);
        return 1;
    }

    QApplication::setStyle("Fusion");
    QApplication application(argc, argv);
    QApplication::setOrganizationName("quantoscope");
    QApplication::setApplicationName("quantoscope");
    QApplication::setApplicationDisplayName("Quantoscope");
    QApplication::setApplicationVersion(QUANTOSCOPE_VERSION);
    QApplication::setDesktopFileName("quantoscope");

    // What Qt understands is gone from the arguments by now.
    QStringList rest = QApplication::arguments().mid(1);
    for (const QString& argument : rest)
        if (argument.startsWith('-') && argument.size() > 1)
            return wrong_usage("unknown option " + argument);
    if (rest.size() > 1)
        return wrong_usage("more than one checkpoint: " + rest.join(' '));

    qs::gui::MainWindow window;
    window.show();
    if (rest.isEmpty())
        window.openDemo();
    else
        window.open(rest.front());
    return QApplication::exec();
}
