#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace qs {

/// Bytes of the character that begins with `lead`, in well-formed UTF-8.
inline std::size_t char_length(char lead) {
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The code point that begins at `text[at]`; the text is well-formed UTF-8.
char32_t code_point(std::string_view text, std::size_t at);
/// Where the last character of a text begins that is not empty.
std::size_t last_character(std::string_view text);
/// The last code point of a text that is not empty.
char32_t last_code_point(std::string_view text);
void append_utf8(std::string& text, char32_t code_point);

bool is_white_space(char32_t c); ///< the property White_Space
bool is_number(char32_t c);      ///< general category N
bool is_mark(char32_t c);        ///< general category M
bool is_punctuation(char32_t c); ///< general category P, and ASCII's other symbols
bool is_word(char32_t c);        ///< a part of a word: \w of regular expressions

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };
/// The text in one of Unicode's normalization forms.
std::string normalized(std::string_view text, UnicodeForm form);
/// Each character in lower case, without regard to its neighbours.
std::string lower_case(std::string_view text);
/// Where the grapheme cluster that begins at `at` ends.
std::size_t grapheme_end(std::string_view text, std::size_t at);

/// GPT-2's printable stand-ins for the 256 bytes (openai/gpt-2, src/encoder.py): bytes that print stand for
/// themselves, the others for U+0100 and up.
std::string to_byte_alphabet(std::string_view bytes);
/// The bytes behind such a text; nothing if a character stands for no byte.
std::optional<std::string> from_byte_alphabet(std::string_view text);

/// Replaces every occurrence of `from`, which is not empty.
void replace_all(std::string& text, std::string_view from, std::string_view to);

/// The block that SentencePiece writes for a space: U+2581.
inline constexpr std::string_view metaspace = "\xE2\x96\x81";

} // namespace qs
