#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/model/tokenizer.h"

namespace qs {

/// The strings of a model, by id and by text.
class Vocabulary {
public:
    /// `texts` by id; an empty one is no token. Of equal texts the first counts.
    explicit Vocabulary(std::vector<std::string> texts);
    Vocabulary(Vocabulary&&) = default;
    Vocabulary& operator=(Vocabulary&&) = default;

    std::optional<TokenId> find(std::string_view text) const;
    const std::vector<std::string>& texts() const { return texts_; }

private:
    std::vector<std::string> texts_;
    std::unordered_map<std::string_view, TokenId> ids_;
};

/// The tokens "<0x00>" to "<0xFF>", which spell what the vocabulary has no token for.
class ByteTokens {
public:
    explicit ByteTokens(const Vocabulary& vocabulary);

    /// Appends a token for each byte; false, and nothing is appended, if one has none.
    bool spell(std::string_view text, std::vector<TokenId>& ids) const;

private:
    std::array<std::optional<TokenId>, 256> ids_;
};

/// The byte that a token "<0x0A>" stands for.
std::optional<char> byte_of_token(std::string_view text);

} // namespace qs
