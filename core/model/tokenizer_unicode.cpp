#include "core/model/tokenizer_unicode.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include <utf8proc.h>

namespace qs {

namespace {

bool is_ascii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

utf8proc_category_t category(char32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool prints(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct ByteAlphabet {
    std::array<std::string, 256> characters;
    std::array<int, 0x144> bytes; // by code point; -1 where it stands for no byte

    ByteAlphabet() {
        bytes.fill(-1);
        char32_t next = 0x100;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const char32_t stand_in = prints(byte) ? byte : next++;
            append_utf8(characters[byte], stand_in);
            bytes[stand_in] = static_cast<int>(byte);
        }
    }
};

const ByteAlphabet& byte_alphabet() {
    static const ByteAlphabet alphabet;
    return alphabet;
}

int form_options(UnicodeForm form) {
    switch (form) {
    case UnicodeForm::nfc:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case UnicodeForm::nfd:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case UnicodeForm::nfkc:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case UnicodeForm::nfkd:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
    }
    return 0;
}

} // namespace

char32_t code_point(std::string_view text, std::size_t at) {
    utf8proc_int32_t result = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                     static_cast<utf8proc_ssize_t>(text.size() - at), &result);
    return static_cast<char32_t>(result);
}

std::size_t last_character(std::string_view text) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U)
        --at;
    return at;
}

char32_t last_code_point(std::string_view text) {
    return code_point(text, last_character(text));
}

void append_utf8(std::string& text, char32_t c) {
    std::array<utf8proc_uint8_t, 4> bytes;
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes.data());
    text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length));
}

bool is_white_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_number(char32_t c) {
    const auto kind = category(c);
    return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_mark(char32_t c) {
    const auto kind = category(c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_ME;
}

bool is_punctuation(char32_t c) {
    if (c < 0x80)
        return c > 0x20 && c < 0x7F && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z');
    const auto kind = category(c);
    return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool is_word(char32_t c) {
    const auto kind = category(c);
    return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL) || kind == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D;
}

std::string normalized(std::string_view text, UnicodeForm form) {
    if (is_ascii(text))
        return std::string(text);
    utf8proc_uint8_t* raw = nullptr;
    const auto length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &raw, static_cast<utf8proc_option_t>(form_options(form)));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
    if (length < 0) // the text is well-formed, so memory is all that can be missing
        throw std::bad_alloc();
    return {reinterpret_cast<const char*>(raw), static_cast<std::size_t>(length)};
}

std::string lower_case(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t at = 0; at < text.size(); at += char_length(text[at])) {
        const char32_t c = code_point(text, at);
        append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
        if (c == 0x130) // the one character whose lower case is two: i and a dot above
            append_utf8(result, 0x307);
    }
    return result;
}

std::size_t grapheme_end(std::string_view text, std::size_t at) {
    utf8proc_int32_t state = 0;
    auto previous = static_cast<utf8proc_int32_t>(code_point(text, at));
    at += char_length(text[at]);
    while (at < text.size()) {
        const auto next = static_cast<utf8proc_int32_t>(code_point(text, at));
        if (utf8proc_grapheme_break_stateful(previous, next, &state))
            break;
        previous = next;
        at += char_length(text[at]);
    }
    return at;
}

std::string to_byte_alphabet(std::string_view bytes) {
    std::string result;
    result.reserve(bytes.size() * 2);
    for (const char byte : bytes)
        result += byte_alphabet().characters[static_cast<unsigned char>(byte)];
    return result;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
    const auto& bytes = byte_alphabet().bytes;
    std::string result;
    for (std::size_t at = 0; at < text.size(); at += char_length(text[at])) {
        const char32_t c = code_point(text, at);
        if (c >= bytes.size() || bytes[c] < 0)
            return std::nullopt;
        result += static_cast<char>(bytes[c]);
    }
    return result;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    std::string result;
    std::size_t begin = 0;
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, begin)) {
        result.append(text, begin, at - begin).append(to);
        begin = at + from.size();
    }
    if (begin != 0)
        text = std::move(result.append(text, begin));
}

} // namespace qs
