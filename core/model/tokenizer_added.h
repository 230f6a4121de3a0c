#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/tokenizer_table.h"
#include "core/model/tokenizer_vocabulary.h"

namespace qs {

/// A token that is found in the text before anything else is done to it.
struct AddedToken {
    TokenId id = 0;
    std::string text;
    bool special = false;     ///< found only where special tokens are wanted
    bool normalized = false;  ///< found in the normalized text
    bool single_word = false; ///< only where no word goes on before or behind it
    bool strip_left = false;  ///< takes the white space before it along
    bool strip_right = false;
};

/// A part of a text: a token, or text between tokens.
struct Segment {
    std::size_t begin;
    std::size_t end;
    std::optional<TokenId> id;
};

/// Finds added tokens: from the left, of those that begin at the same place the longest.
class AddedTokens {
public:
    void add(const AddedToken& token);

    /// Cuts the text into segments, none empty.
    std::vector<Segment> split(std::string_view text, bool special) const;

private:
    std::int32_t longest_at(std::string_view text, std::size_t at, std::size_t& end) const;

    std::vector<AddedToken> tokens_;
    Trie trie_;                      // values: indices of tokens_
    std::array<bool, 256> begins_{}; // whether a token begins with this byte
};

} // namespace qs
