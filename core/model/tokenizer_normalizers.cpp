#include <cstdint>
#include <memory>

#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_precompiled.h"
#include "core/model/tokenizer_steps.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

using nlohmann::json;

Normalizer form_step(UnicodeForm form) {
    return [form](std::string& text) { text = normalized(text, form); };
}

Normalizer prepend_step(const json& step) {
    return [prefix = step.at("prepend").get<std::string>()](std::string& text) {
        if (!text.empty())
            text.insert(0, prefix);
    };
}

void replace_matches(std::string& text, const Regex& regex, const std::string& content) {
    std::string result;
    std::size_t done = 0;
    for (const TextSpan& span : regex.find_all(text)) {
        result.append(text, done, span.begin - done).append(content);
        done = span.end;
    }
    text = std::move(result.append(text, done));
}

Normalizer replace_step(const json& step, const std::string& where) {
    const auto content = step.at("content").get<std::string>();
    const json& pattern = step.at("pattern");
    if (pattern.contains("Regex")) {
        const Regex regex(pattern.at("Regex").get<std::string>(), where);
        return [regex, content](std::string& text) { replace_matches(text, regex, content); };
    }
    const auto from = pattern.at("String").get<std::string>();
    if (from.empty())
        return {};
    return [from, content](std::string& text) { replace_all(text, from, content); };
}

Normalizer strip_step(const json& step) {
    const bool left = step.at("strip_left").get<bool>();
    const bool right = step.at("strip_right").get<bool>();
    return [left, right](std::string& text) {
        std::size_t begin = 0;
        while (left && begin < text.size() && is_white_space(code_point(text, begin)))
            begin += char_length(text[begin]);
        text.erase(0, begin);
        while (right && !text.empty() && is_white_space(last_code_point(text)))
            text.resize(last_character(text));
    };
}

void strip_accents(std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size(); at += char_length(text[at]))
        if (!is_mark(code_point(text, at)))
            result.append(text, at, char_length(text[at]));
    text = std::move(result);
}

} // namespace

std::string from_base64(std::string_view text, const std::string& where) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string result;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : text.substr(0, text.find_last_not_of('=') + 1)) {
        const std::size_t digit = digits.find(c);
        if (digit == std::string_view::npos)
            throw Error(where, "has a table of character replacements that is not base64");
        bits = bits << 6 | static_cast<std::uint32_t>(digit);
        count += 6;
        if (count >= 8)
            result += static_cast<char>(bits >> (count -= 8) & 0xFFU);
    }
    return result;
}

namespace {

Normalizer precompiled_step(const json& step, const std::string& where) {
    const auto text = field_or(step, "precompiled_charsmap", std::string());
    if (text.empty())
        return {};
    const auto map = std::make_shared<const PrecompiledMap>(from_base64(text, where), where);
    return [map](std::string& normalized_text) { normalized_text = map->by_graphemes(normalized_text); };
}

Normalizer sequence_step(const json& step, const std::string& where) {
    std::vector<Normalizer> steps;
    for (const json& part : step.at("normalizers"))
        if (auto built = make_normalizer(part, where))
            steps.push_back(std::move(built));
    return [steps](std::string& text) {
        for (const Normalizer& normalizer : steps)
            normalizer(text);
    };
}

Normalizer build(const json& step, const std::string& type, const std::string& where) {
    if (type == "Sequence")
        return sequence_step(step, where);
    if (type == "NFC")
        return form_step(UnicodeForm::nfc);
    if (type == "NFD")
        return form_step(UnicodeForm::nfd);
    if (type == "NFKC")
        return form_step(UnicodeForm::nfkc);
    if (type == "NFKD")
        return form_step(UnicodeForm::nfkd);
    if (type == "Lowercase")
        return [](std::string& text) { text = lower_case(text); };
    if (type == "Prepend")
        return prepend_step(step);
    if (type == "Replace")
        return replace_step(step, where);
    if (type == "Strip")
        return strip_step(step);
    if (type == "StripAccents")
        return strip_accents;
    if (type == "Precompiled")
        return precompiled_step(step, where);
    if (type == "ByteLevel")
        return [](std::string& text) { text = to_byte_alphabet(text); };
    refuse_step("normalizer", type, where);
}

} // namespace

Normalizer make_normalizer(const json& description, const std::string& where) {
    if (description.is_null())
        return {};
    const std::string type = step_type(description, "normalizer", where);
    return read_json_part(where, fmt::format("the normalizer '{}'", printable(type)),
                          [&] { return build(description, type, where); });
}

} // namespace qs
