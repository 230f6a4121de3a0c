#include "core/model/tokenizer_precompiled.h"

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

// The bits of a unit of Darts-clone's double array (s-yata/darts-clone, include/darts.h).
bool has_leaf(std::uint32_t unit) {
    return (unit >> 8 & 1U) != 0;
}
std::uint32_t value(std::uint32_t unit) {
    return unit & 0x7FFFFFFFU;
}
std::uint32_t label(std::uint32_t unit) {
    return unit & 0x800000FFU;
}
std::uint32_t offset(std::uint32_t unit) {
    return (unit >> 10) << ((unit & 0x200U) >> 6);
}

std::uint32_t little_endian(const char* bytes) {
    std::uint32_t result = 0;
    for (int i = 3; i >= 0; --i)
        result = result << 8 | static_cast<unsigned char>(bytes[i]);
    return result;
}

bool ends_character(std::string_view text, std::size_t end) {
    return end == text.size() || (static_cast<unsigned char>(text[end]) & 0xC0U) != 0x80U;
}

// A longer cluster is not looked up as a whole (huggingface's spm_precompiled).
constexpr std::size_t longest_looked_up = 5;

[[noreturn]] void refuse(const std::string& where) {
    throw Error(where, "has a damaged table of character replacements (precompiled_charsmap)");
}

} // namespace

PrecompiledMap::PrecompiledMap(std::string_view blob, const std::string& where) {
    const std::uint32_t bytes = blob.size() < 4 ? 0 : little_endian(blob.data());
    if (bytes == 0 || bytes % 4 != 0 || bytes > blob.size() - 4 || blob.back() != '\0')
        refuse(where);
    units_.resize(bytes / 4);
    for (std::size_t i = 0; i < units_.size(); ++i)
        units_[i] = little_endian(blob.data() + 4 + 4 * i);
    replacements_ = blob.substr(4 + bytes);
    if (!is_utf8(replacements_) || !is_sound())
        refuse(where);
}

bool PrecompiledMap::begins_replacement(std::size_t at) const {
    return at < replacements_.size() && (at == 0 || replacements_[at - 1] == '\0');
}

/// Follows every edge of the table: no search may leave it.
bool PrecompiledMap::is_sound() const {
    std::vector<bool> seen(units_.size());
    std::vector<std::size_t> open{offset(units_[0])};
    while (!open.empty()) {
        const std::size_t base = open.back();
        open.pop_back();
        if ((base | 0xFFU) >= units_.size()) // a search looks at base ^ byte for any byte
            return false;
        if (seen[base])
            continue;
        seen[base] = true;
        for (std::size_t byte = 1; byte < 256; ++byte) {
            const std::uint32_t unit = units_[base ^ byte];
            if (label(unit) != byte)
                continue;
            open.push_back(base ^ byte ^ offset(unit));
            if (has_leaf(unit) && (open.back() >= units_.size() || !begins_replacement(value(units_[open.back()]))))
                return false;
        }
    }
    return true;
}

std::optional<PrecompiledMap::Match> PrecompiledMap::search(std::string_view text, Choice choice) const {
    std::optional<Match> best;
    std::size_t at = offset(units_[0]);
    for (std::size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        at ^= byte;
        const std::uint32_t unit = units_[at];
        if (label(unit) != byte)
            break;
        at ^= offset(unit);
        if (!has_leaf(unit) || !ends_character(text, i + 1))
            continue;
        best = Match{i + 1, replacements_.c_str() + value(units_[at])};
        if (choice == Choice::shortest)
            break;
    }
    return best;
}

std::string PrecompiledMap::by_graphemes(std::string_view text) const {
    std::string result;
    const auto append = [&](std::string_view part) {
        const auto match = search(part, Choice::shortest);
        if (match)
            result += match->replacement;
        return match.has_value();
    };
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = grapheme_end(text, begin);
        if (end - begin > longest_looked_up || !append(text.substr(begin, end - begin)))
            for (std::size_t at = begin; at < end; at += char_length(text[at])) {
                const std::string_view character = text.substr(at, char_length(text[at]));
                if (!append(character))
                    result += character;
            }
        begin = end;
    }
    return result;
}

std::string PrecompiledMap::by_longest(std::string_view text) const {
    std::string result;
    while (!text.empty()) {
        const auto match = search(text, Choice::longest);
        const std::size_t length = match ? match->length : char_length(text.front());
        result += match ? match->replacement : text.substr(0, length);
        text.remove_prefix(length);
    }
    return result;
}

} // namespace qs
