#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/config.h"
#include "core/model/tokenizer.h"
#include "core/model/windows.h"

namespace qs {

/// How a text is cut into the windows that are evaluated.
struct TextCut {
    std::string separator;       ///< of documents, each of which is run on its own; empty: the text is one
    Index context = 0;           ///< tokens of a window, BOS included; 0: usual_context()
    std::size_t most_tokens = 0; ///< that are scored; 0: all
};

/// 512 tokens where a text is one, as in llama.cpp; documents get all that the model takes.
Index usual_context(const DecoderConfig& config, bool documents);

/// "<|endoftext|>" where the text has it, else empty.
std::string usual_separator(std::string_view text);

/// The windows of a text. What spells a special token in it is text like any other, as in llama.cpp's perplexity tool.
std::vector<std::vector<int>> text_windows(const Tokenizer& tokenizer, const DecoderConfig& config,
                                           std::string_view text, const TextCut& cut);

/// What methods that look at the inputs of layers are calibrated on.
struct CalibrationText {
    std::vector<std::vector<int>> windows;
    std::string source;    ///< in words
    bool overlaps = false; ///< with the text that is evaluated
};

/// Tokens that are calibrated on where no other number is asked for.
inline constexpr std::size_t usual_calibration_tokens = 8192;

/// Where there is no text of its own: what follows the first `evaluated` of the windows of a text, or, if that is
/// short, all of the text; of that at most `most_tokens`, 0 for all.
CalibrationText rest_of_text(const std::vector<std::vector<int>>& windows, std::size_t evaluated,
                             std::size_t most_tokens);
/// A text of its own, in windows already; it may be the one that is evaluated.
CalibrationText own_text(std::vector<std::vector<int>> windows, const std::filesystem::path& file,
                         const std::filesystem::path& evaluated_file, std::size_t most_tokens);

/// Keeps the first windows, and of the last of them as many tokens as are still to be scored; 0 keeps all.
void keep_tokens(std::vector<std::vector<int>>& windows, std::size_t most);

/// Tokens that are scored: all but the first of each window.
std::size_t scored_tokens(const std::vector<std::vector<int>>& windows);

} // namespace qs
