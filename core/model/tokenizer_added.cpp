#include "core/model/tokenizer_added.h"

#include <utility>

#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

/// Where the white space that ends at `end` begins, not before `limit`.
std::size_t space_before(std::string_view text, std::size_t limit, std::size_t end) {
    while (end > limit && is_white_space(last_code_point(text.substr(0, end))))
        end = last_character(text.substr(0, end));
    return end;
}

std::size_t space_behind(std::string_view text, std::size_t begin) {
    while (begin < text.size() && is_white_space(code_point(text, begin)))
        begin += char_length(text[begin]);
    return begin;
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
    return (begin == 0 || !is_word(last_code_point(text.substr(0, begin)))) &&
           (end == text.size() || !is_word(code_point(text, end)));
}

} // namespace

void AddedTokens::add(const AddedToken& token) {
    if (token.text.empty())
        return;
    trie_.insert(token.text, static_cast<std::int32_t>(tokens_.size()));
    begins_[static_cast<unsigned char>(token.text.front())] = true;
    tokens_.push_back(token);
}

/// The longest token at a place, or Trie::none.
std::int32_t AddedTokens::longest_at(std::string_view text, std::size_t at, std::size_t& end) const {
    std::int32_t longest = Trie::none;
    std::uint32_t node = Trie::root;
    for (std::size_t i = at; i < text.size();) {
        const auto next = trie_.step(node, text[i++]);
        if (!next)
            break;
        node = *next;
        if (trie_.value(node) != Trie::none) {
            longest = trie_.value(node);
            end = i;
        }
    }
    return longest;
}

std::vector<Segment> AddedTokens::split(std::string_view text, bool special) const {
    std::vector<Segment> segments;
    std::size_t done = 0;
    const auto text_until = [&](std::size_t begin) {
        if (begin > done)
            segments.push_back({done, begin, std::nullopt});
    };
    for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
        std::size_t end = at + 1;
        const std::int32_t found =
            begins_[static_cast<unsigned char>(text[at])] ? longest_at(text, at, end) : Trie::none;
        if (found == Trie::none) {
            ++at;
            continue;
        }
        const AddedToken& token = tokens_[static_cast<std::size_t>(found)];
        const std::size_t found_at = std::exchange(at, end);
        if ((token.special && !special) || (token.single_word && !is_single_word(text, found_at, end)))
            continue;
        const std::size_t begin = token.strip_left ? space_before(text, done, found_at) : found_at;
        text_until(begin);
        done = at = token.strip_right ? space_behind(text, end) : end;
        segments.push_back({begin, done, token.id});
    }
    text_until(text.size());
    return segments;
}

} // namespace qs
