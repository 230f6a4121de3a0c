#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace qs {

/// A part of a text: [begin, end).
struct TextSpan {
    std::size_t begin;
    std::size_t end;
};

/// A regular expression over UTF-8 in the dialect of tokenizer files (Oniguruma's), run by PCRE2.
class Regex {
public:
    /// Throws Error(`where`, …) if the expression is wrong or uses what PCRE2 reads differently.
    Regex(std::string_view pattern, const std::string& where);

    /// All matches from left to right, none inside another; empty ones too.
    std::vector<TextSpan> find_all(std::string_view text) const;

private:
    std::shared_ptr<const pcre2_real_code_8> code_;
    std::string pattern_;
    std::string where_;
};

} // namespace qs
