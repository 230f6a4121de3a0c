#include <algorithm>
#include <iterator>

#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_steps.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

using nlohmann::json;

/// `\w+|[^\w\s]+` as Rust's regex crate reads it.
constexpr std::string_view rust_words = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+)"
                                        R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)";

/// What becomes of the matches of a splitting pre-tokenizer, by tokenizer.json's names.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// A part of a piece, and whether the pattern of the split matched it.
struct Part {
    std::size_t begin;
    std::size_t end;
    bool matched;
};

/// Finds the parts of a text, in order and without gaps; empty matches are parts too.
using Pattern = std::function<std::vector<Part>(std::string_view text)>;

std::vector<Part> with_gaps(std::string_view text, const std::vector<TextSpan>& spans) {
    std::vector<Part> parts;
    std::size_t done = 0;
    for (const TextSpan& span : spans) {
        if (span.begin > done)
            parts.push_back({done, span.begin, false});
        parts.push_back({span.begin, span.end, true});
        done = span.end;
    }
    if (done < text.size())
        parts.push_back({done, text.size(), false});
    return parts;
}

Pattern regex_pattern(const Regex& regex) {
    return [regex](std::string_view text) { return with_gaps(text, regex.find_all(text)); };
}

Pattern literal_pattern(const std::string& literal) {
    return [literal](std::string_view text) {
        std::vector<TextSpan> spans;
        if (!literal.empty())
            for (std::size_t at = text.find(literal); at != std::string_view::npos;
                 at = text.find(literal, at + literal.size()))
                spans.push_back({at, at + literal.size()});
        return with_gaps(text, spans);
    };
}

/// Each character of a kind is a match of its own.
Pattern character_pattern(bool (*is_of_kind)(char32_t)) {
    return [is_of_kind](std::string_view text) {
        std::vector<TextSpan> spans;
        for (std::size_t at = 0; at < text.size(); at += char_length(text[at]))
            if (is_of_kind(code_point(text, at)))
                spans.push_back({at, at + char_length(text[at])});
        return with_gaps(text, spans);
    };
}

/// Joins each run of parts of one kind.
std::vector<Part> contiguous(const std::vector<Part>& parts) {
    std::vector<Part> result;
    for (const Part& part : parts)
        if (!result.empty() && result.back().matched == part.matched)
            result.back().end = part.end;
        else
            result.push_back(part);
    return result;
}

/// Joins a match to the part before it, unless that is a match too.
std::vector<Part> merged_with_previous(const std::vector<Part>& parts) {
    std::vector<Part> result;
    bool after_match = false;
    for (const Part& part : parts) {
        if (part.matched && !after_match && !result.empty())
            result.back().end = part.end;
        else
            result.push_back(part);
        after_match = part.matched;
    }
    return result;
}

std::vector<Part> merged_with_next(const std::vector<Part>& parts) {
    std::vector<Part> result; // from the end
    bool before_match = false;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->matched && !before_match && !result.empty())
            result.back().begin = part->begin;
        else
            result.push_back(*part);
        before_match = part->matched;
    }
    std::ranges::reverse(result);
    return result;
}

std::vector<Part> arranged(std::vector<Part> parts, SplitBehavior behavior) {
    switch (behavior) {
    case SplitBehavior::removed:
        std::erase_if(parts, [](const Part& part) { return part.matched; });
        return parts;
    case SplitBehavior::isolated:
        return parts;
    case SplitBehavior::contiguous:
        return contiguous(parts);
    case SplitBehavior::merged_with_previous:
        return merged_with_previous(parts);
    case SplitBehavior::merged_with_next:
        return merged_with_next(parts);
    }
    return parts;
}

PreTokenizer split_step(const Pattern& pattern, SplitBehavior behavior, bool invert = false) {
    return [pattern, behavior, invert](std::vector<Piece>& pieces) {
        std::vector<Piece> result;
        result.reserve(pieces.size());
        for (Piece& piece : pieces) {
            std::vector<Part> parts = pattern(piece.text);
            for (Part& part : parts)
                part.matched ^= invert;
            for (const Part& part : arranged(std::move(parts), behavior))
                if (part.end > part.begin)
                    result.push_back(
                        {piece.text.substr(part.begin, part.end - part.begin), piece.at_start && part.begin == 0});
        }
        pieces = std::move(result);
    };
}

/// Runs one step after the other.
PreTokenizer chain(std::vector<PreTokenizer> steps) {
    return [steps = std::move(steps)](std::vector<Piece>& pieces) {
        for (const PreTokenizer& step : steps)
            step(pieces);
    };
}

SplitBehavior behavior_of(const json& name) {
    const auto text = name.get<std::string>();
    if (text == "Removed")
        return SplitBehavior::removed;
    if (text == "Isolated")
        return SplitBehavior::isolated;
    if (text == "MergedWithPrevious")
        return SplitBehavior::merged_with_previous;
    if (text == "MergedWithNext")
        return SplitBehavior::merged_with_next;
    if (text == "Contiguous")
        return SplitBehavior::contiguous;
    throw json::other_error::create(501, fmt::format("the behavior '{}' is unknown", printable(text)), nullptr);
}

Pattern pattern_of(const json& pattern, const std::string& where) {
    if (pattern.contains("Regex"))
        return regex_pattern(Regex(pattern.at("Regex").get<std::string>(), where));
    return literal_pattern(pattern.at("String").get<std::string>());
}

PreTokenizer byte_level_step(const json& step, const std::string& where) {
    std::vector<PreTokenizer> steps;
    if (field_or(step, "add_prefix_space", true))
        steps.push_back([](std::vector<Piece>& pieces) {
            for (Piece& piece : pieces)
                if (!piece.text.starts_with(' '))
                    piece.text.insert(0, 1, ' ');
        });
    if (field_or(step, "use_regex", true))
        steps.push_back(split_isolated(Regex(gpt2_words, where)));
    steps.push_back(byte_alphabet_step());
    return chain(std::move(steps));
}

PreTokenizer metaspace_step(const json& step) {
    const auto replacement = field_or(step, "replacement", std::string(metaspace));
    const std::string older_scheme = field_or(step, "add_prefix_space", true) ? "always" : "never";
    const auto scheme = field_or(step, "prepend_scheme", older_scheme);
    const auto mark = [replacement, scheme](std::vector<Piece>& pieces) {
        for (Piece& piece : pieces) {
            replace_all(piece.text, " ", replacement);
            const bool wanted = scheme == "always" || (scheme == "first" && piece.at_start);
            if (wanted && !piece.text.starts_with(replacement))
                piece.text.insert(0, replacement);
        }
    };
    if (!field_or(step, "split", true))
        return mark;
    return chain({mark, split_step(literal_pattern(replacement), SplitBehavior::merged_with_next)});
}

PreTokenizer sequence_step(const json& step, const std::string& where) {
    std::vector<PreTokenizer> steps;
    for (const json& part : step.at("pretokenizers"))
        if (auto built = make_pre_tokenizer(part, where))
            steps.push_back(std::move(built));
    return chain(std::move(steps));
}

PreTokenizer build(const json& step, const std::string& type, const std::string& where) {
    if (type == "Sequence")
        return sequence_step(step, where);
    if (type == "ByteLevel")
        return byte_level_step(step, where);
    if (type == "Split")
        return split_step(pattern_of(step.at("pattern"), where), behavior_of(step.at("behavior")),
                          field_or(step, "invert", false));
    if (type == "Whitespace")
        return split_step(regex_pattern(Regex(rust_words, where)), SplitBehavior::removed, true);
    if (type == "WhitespaceSplit")
        return split_step(character_pattern(is_white_space), SplitBehavior::removed);
    if (type == "Digits")
        return split_step(character_pattern(is_number), field_or(step, "individual_digits", false)
                                                            ? SplitBehavior::isolated
                                                            : SplitBehavior::contiguous);
    if (type == "Punctuation")
        return split_step(character_pattern(is_punctuation), behavior_of(step.value("behavior", json("Isolated"))));
    if (type == "CharDelimiterSplit")
        return split_step(literal_pattern(step.at("delimiter").get<std::string>()), SplitBehavior::removed);
    if (type == "Metaspace")
        return metaspace_step(step);
    refuse_step("pre-tokenizer", type, where);
}

} // namespace

PreTokenizer split_isolated(const Regex& regex) {
    return split_step(regex_pattern(regex), SplitBehavior::isolated);
}

PreTokenizer byte_alphabet_step() {
    return [](std::vector<Piece>& pieces) {
        for (Piece& piece : pieces)
            piece.text = to_byte_alphabet(piece.text);
    };
}

PreTokenizer make_pre_tokenizer(const json& description, const std::string& where) {
    if (description.is_null())
        return {};
    const std::string type = step_type(description, "pre-tokenizer", where);
    return read_json_part(where, fmt::format("the pre-tokenizer '{}'", printable(type)),
                          [&] { return build(description, type, where); });
}

} // namespace qs
