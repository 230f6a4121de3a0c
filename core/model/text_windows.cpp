#include "core/model/text_windows.h"

#include <algorithm>
#include <iterator>

namespace qs {

namespace {

/// Fewer tokens are no text to calibrate on where there is another.
constexpr std::size_t least_calibration_tokens = 2048;

} // namespace

Index usual_context(const DecoderConfig& config, bool documents) {
    constexpr Index usual = 512;
    const Index most = config.max_context > 0 ? config.max_context : usual;
    return documents ? most : std::min(most, usual);
}

std::string usual_separator(std::string_view text) {
    constexpr std::string_view separator = "<|endoftext|>";
    return text.find(separator) == std::string_view::npos ? std::string() : std::string(separator);
}

std::vector<std::vector<int>> text_windows(const Tokenizer& tokenizer, const DecoderConfig& config,
                                           std::string_view text, const TextCut& cut) {
    const bool whole = cut.separator.empty();
    const Index context = cut.context > 0 ? cut.context : usual_context(config, !whole);
    const std::vector<int> front = tokenizer.encode("", {.bos = true, .special = false});
    const auto documents = whole ? std::vector<std::string_view>{text} : split_documents(text, cut.separator);
    std::vector<std::vector<int>> windows;
    for (const std::string_view document : documents)
        std::ranges::move(cut_windows(tokenizer.encode(document, {.special = false}), front, context),
                          std::back_inserter(windows));
    keep_tokens(windows, cut.most_tokens);
    return windows;
}

CalibrationText rest_of_text(const std::vector<std::vector<int>>& windows, std::size_t evaluated,
                             std::size_t most_tokens) {
    CalibrationText text{{windows.begin() + static_cast<std::ptrdiff_t>(evaluated), windows.end()},
                         "what follows the evaluated text",
                         false};
    const std::size_t enough =
        most_tokens > 0 ? std::min(most_tokens, least_calibration_tokens) : least_calibration_tokens;
    if (scored_tokens(text.windows) < enough)
        text = {windows, "the evaluated text itself", true};
    keep_tokens(text.windows, most_tokens);
    return text;
}

CalibrationText own_text(std::vector<std::vector<int>> windows, const std::filesystem::path& file,
                         const std::filesystem::path& evaluated_file, std::size_t most_tokens) {
    std::error_code absent;
    CalibrationText text{std::move(windows), file.string(), std::filesystem::equivalent(file, evaluated_file, absent)};
    keep_tokens(text.windows, most_tokens);
    return text;
}

void keep_tokens(std::vector<std::vector<int>>& windows, std::size_t most) {
    for (std::size_t i = 0; i < windows.size() && most > 0; ++i) {
        const std::size_t scored = windows[i].size() - 1;
        if (scored >= most) {
            windows[i].resize(most + 1);
            windows.resize(i + 1);
            return;
        }
        most -= scored;
    }
}

std::size_t scored_tokens(const std::vector<std::vector<int>>& windows) {
    std::size_t tokens = 0;
    for (const auto& window : windows)
        tokens += window.size() - 1;
    return tokens;
}

} // namespace qs
