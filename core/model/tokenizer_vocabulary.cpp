#include "core/model/tokenizer_vocabulary.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace qs {

Vocabulary::Vocabulary(std::vector<std::string> texts) : texts_(std::move(texts)) {
    ids_.reserve(texts_.size());
    for (std::size_t id = 0; id < texts_.size(); ++id)
        if (!texts_[id].empty())
            ids_.try_emplace(texts_[id], static_cast<TokenId>(id));
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

ByteTokens::ByteTokens(const Vocabulary& vocabulary) {
    for (unsigned byte = 0; byte < 256; ++byte)
        ids_[byte] = vocabulary.find(fmt::format("<0x{:02X}>", byte));
}

bool ByteTokens::spell(std::string_view text, std::vector<TokenId>& ids) const {
    const auto id_of = [&](char c) { return ids_[static_cast<unsigned char>(c)]; };
    if (!std::all_of(text.begin(), text.end(), [&](char c) { return id_of(c).has_value(); }))
        return false;
    for (const char c : text)
        ids.push_back(*id_of(c));
    return true;
}

std::optional<char> byte_of_token(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>')
        return std::nullopt;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, value, 16);
    return error == std::errc{} && end == text.data() + 5 ? std::optional(static_cast<char>(value)) : std::nullopt;
}

} // namespace qs
