#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qs {

/// The bytes that a text in base64 stands for. Throws Error(`where`, …) where it is none.
std::string from_base64(std::string_view text, const std::string& where);

/// SentencePiece's compiled table of character replacements (precompiled_charsmap): a Darts double array from what is
/// replaced to a place among the replacements, which end with NUL.
class PrecompiledMap {
public:
    /// Throws Error(`where`, …) if the table is damaged.
    PrecompiledMap(std::string_view blob, const std::string& where);

    /// The whole text replaced as Hugging Face's "Precompiled" does, by grapheme clusters.
    std::string by_graphemes(std::string_view text) const;
    /// The whole text replaced as SentencePiece does, the longest match first.
    std::string by_longest(std::string_view text) const;

private:
    /// What replaces a beginning of the text, and how long that beginning is.
    struct Match {
        std::size_t length;
        std::string_view replacement;
    };
    enum class Choice { shortest, longest };

    bool begins_replacement(std::size_t at) const;
    bool is_sound() const;
    std::optional<Match> search(std::string_view text, Choice choice) const;

    std::vector<std::uint32_t> units_;
    std::string replacements_;
};

} // namespace qs
