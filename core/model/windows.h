#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/matrix.h"

namespace qs {

/// Cuts the ids of a text into windows of at most `context` tokens, each run on its own with `front` (the BOS token, or
/// nothing) before it. The windows are consecutive and do not overlap. Of each, every token but the first is scored:
/// with a BOS token that is every token of the text; without one the first token of each window only serves as context.
/// A last window with nothing to score is left out.
std::vector<std::vector<int>> cut_windows(std::span<const int> ids, std::span<const int> front, Index context);

/// The pieces of a text between occurrences of `separator`, stripped of white space, without empty ones.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

/// Token ids as text: numbers between white space or commas, which are one text; or a JSON array of arrays, each a
/// document of its own. Throws Error naming `file`.
std::vector<std::vector<int>> parse_ids(std::string_view text, const std::string& file);

} // namespace qs
