#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/model/tokenizer_regex.h"

#include <array>

#include <fmt/format.h>
#include <pcre2.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

// Oniguruma's \w: what PCRE2 takes for one, and marks, connectors, circled letters and the fractions of Latin-1.
constexpr std::string_view word_members = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

/// Writes an expression of Oniguruma so that PCRE2 understands the same.
class Translation {
public:
    Translation(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

    std::string run() {
        for (std::size_t at = 0; at < pattern_.size();) {
            if (pattern_[at] == '\\' && at + 1 < pattern_.size()) {
                escape(pattern_[at + 1]);
                at += 2;
            } else {
                plain(at);
                ++at;
            }
        }
        return std::move(result_);
    }

private:
    [[noreturn]] void refuse(std::string_view what) const {
        throw Error(where_, fmt::format("has the regular expression '{}' with {}, which is not supported",
                                        printable(pattern_), what));
    }

    void escape(char c) {
        if (c == 'w' && in_class_)
            result_ += word_members;
        else if (c == 'w' || (c == 'W' && !in_class_))
            result_ += fmt::format("[{}{}]", c == 'W' ? "^" : "", word_members);
        else if (c == 'W')
            refuse("\\W inside a character class");
        else if (c == 'h' || c == 'H')
            refuse("\\h");
        else
            (result_ += '\\') += c;
    }

    void plain(std::size_t at) {
        const char c = pattern_[at];
        if (in_class_ && c == '[' && pattern_.substr(at, 2) != "[:")
            refuse("a character class inside another");
        if (in_class_ && pattern_.substr(at, 2) == "&&")
            refuse("an intersection of character classes");
        if (in_class_ && c == ']' && !in_posix_name_)
            in_class_ = false;
        else if (!in_class_ && c == '[')
            in_class_ = true;
        in_posix_name_ = in_class_ && (pattern_.substr(at, 2) == "[:" || (in_posix_name_ && c != ']'));
        result_ += c;
    }

    std::string_view pattern_;
    const std::string& where_;
    std::string result_;
    bool in_class_ = false;
    bool in_posix_name_ = false;
};

std::string message_of(int code) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
}

using Context = std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)>;
using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

} // namespace

Regex::Regex(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {
    const std::string translated = Translation(pattern, where).run();
    const Context context(pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    std::size_t offset = 0;
    // Oniguruma's $ ends a line, not the text.
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                     context.get());
    if (code == nullptr)
        throw Error(where, fmt::format("has the regular expression '{}', which is wrong at character {}: {}",
                                       printable(pattern), offset, message_of(error)));
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // where there is no JIT, matching is only slower
    code_.reset(code, [](const pcre2_real_code_8* owned) { pcre2_code_free(const_cast<pcre2_real_code_8*>(owned)); });
}

std::vector<TextSpan> Regex::find_all(std::string_view text) const {
    const MatchData data(pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    std::vector<TextSpan> spans;
    std::size_t at = 0;
    while (at < text.size()) {
        int result = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), nullptr);
        if (result == PCRE2_ERROR_JIT_STACKLIMIT) // the interpreter keeps its stack on the heap
            result = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                                 nullptr);
        if (result == PCRE2_ERROR_NOMATCH)
            break;
        if (result < 0)
            throw Error(where_, fmt::format("has the regular expression '{}', which fails on this text: {}",
                                            printable(pattern_), message_of(result)));
        const std::size_t* found = pcre2_get_ovector_pointer(data.get());
        spans.push_back({found[0], found[1]});
        at = found[1] > found[0] ? found[1] : found[1] + (found[1] < text.size() ? char_length(text[found[1]]) : 1);
    }
    return spans;
}

} // namespace qs
