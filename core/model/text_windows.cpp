#include "core/model/text_windows.h"

#include <algorithm>
#include <iterator>

namespace qs {

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
