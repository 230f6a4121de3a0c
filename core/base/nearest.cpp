#include "core/base/nearest.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <numeric>

namespace qs {

namespace {

bool same_letter(char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

/// Levenshtein distance, one row of the table at a time.
std::size_t edits(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (same_letter(a[i], b[j]) ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

} // namespace

bool same_word(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, same_letter);
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& known) {
    std::string nearest;
    std::size_t fewest = std::numeric_limits<std::size_t>::max();
    for (const std::string& candidate : known)
        if (const std::size_t distance = edits(word, candidate); distance < fewest) {
            fewest = distance;
            nearest = candidate;
        }
    return nearest;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
    std::string list;
    for (const std::string& candidate : known)
        list += (list.empty() ? "" : ", ") + candidate;
    return "did you mean " + nearest_word(word, known) + "? known are " + list;
}

} // namespace qs
