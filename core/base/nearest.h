#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qs {

/// Equal without regard to case.
bool same_word(std::string_view a, std::string_view b);

/// The known word that takes the fewest edits to become `word`, without regard to case; empty if `known` is.
std::string nearest_word(std::string_view word, const std::vector<std::string>& known);

/// "did you mean X? known are A, B, C" for an error's remedy.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

} // namespace qs
