#include <algorithm>

#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_steps.h"
#include "core/model/tokenizer_unicode.h"
#include "core/model/tokenizer_vocabulary.h"

namespace qs {

namespace {

using nlohmann::json;

void byte_level(std::vector<std::string>& tokens, bool) {
    for (std::string& token : tokens)
        if (auto bytes = from_byte_alphabet(token))
            token = std::move(*bytes);
}

/// Bytes that together are no UTF-8 become U+FFFD each; a lone token keeps its byte.
void byte_fallback(std::vector<std::string>& tokens, bool whole) {
    std::vector<std::string> result;
    std::string bytes;
    const auto flush = [&] {
        if (!bytes.empty() && (!whole || is_utf8(bytes)))
            result.push_back(bytes);
        else
            result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
        bytes.clear();
    };
    for (std::string& token : tokens) {
        if (const auto byte = byte_of_token(token)) {
            bytes += *byte;
            continue;
        }
        flush();
        result.push_back(std::move(token));
    }
    flush();
    tokens = std::move(result);
}

void fuse(std::vector<std::string>& tokens, bool) {
    std::string all;
    for (const std::string& token : tokens)
        all += token;
    tokens.assign(1, std::move(all));
}

Decoder replace_step(const json& step, const std::string& where) {
    const Normalizer replace = make_normalizer(step, where);
    return [replace](std::vector<std::string>& tokens, bool) {
        for (std::string& token : tokens)
            if (replace)
                replace(token);
    };
}

/// Takes up to `count` copies of `content` off one end.
void strip(std::string& token, const std::string& content, std::size_t count, bool front) {
    for (; count > 0 && (front ? token.starts_with(content) : token.ends_with(content)); --count)
        token.erase(front ? 0 : token.size() - content.size(), content.size());
}

Decoder strip_step(const json& step) {
    const auto content = step.at("content").get<std::string>();
    const auto start = step.at("start").get<std::size_t>();
    const auto stop = step.at("stop").get<std::size_t>();
    return [content, start, stop](std::vector<std::string>& tokens, bool whole) {
        if (!whole || content.empty())
            return;
        for (std::string& token : tokens) {
            strip(token, content, start, true);
            strip(token, content, stop, false);
        }
    };
}

Decoder metaspace_step(const json& step) {
    const auto replacement = field_or(step, "replacement", std::string(metaspace));
    const std::string older_scheme = field_or(step, "add_prefix_space", true) ? "always" : "never";
    const bool prepended = field_or(step, "prepend_scheme", older_scheme) != "never";
    return [replacement, prepended](std::vector<std::string>& tokens, bool whole) {
        for (std::size_t i = 0; i < tokens.size(); ++i)
            replace_all(tokens[i], replacement, whole && prepended && i == 0 ? "" : " ");
    };
}

Decoder suffix_step(const json& step) {
    const auto suffix = field_or(step, "suffix", std::string("</w>"));
    return [suffix](std::vector<std::string>& tokens, bool whole) {
        for (std::size_t i = 0; i < tokens.size() && !suffix.empty(); ++i)
            replace_all(tokens[i], suffix, whole && i + 1 == tokens.size() ? "" : " ");
    };
}

Decoder sequence_step(const json& step, const std::string& where) {
    std::vector<Decoder> steps;
    for (const json& part : step.at("decoders"))
        if (auto built = make_decoder(part, where))
            steps.push_back(std::move(built));
    return [steps](std::vector<std::string>& tokens, bool whole) {
        for (const Decoder& decoder : steps)
            decoder(tokens, whole);
    };
}

Decoder build(const json& step, const std::string& type, const std::string& where) {
    if (type == "Sequence")
        return sequence_step(step, where);
    if (type == "ByteLevel")
        return byte_level;
    if (type == "ByteFallback")
        return byte_fallback;
    if (type == "Fuse")
        return fuse;
    if (type == "Replace")
        return replace_step(step, where);
    if (type == "Strip")
        return strip_step(step);
    if (type == "Metaspace")
        return metaspace_step(step);
    if (type == "BPEDecoder")
        return suffix_step(step);
    refuse_step("decoder", type, where);
}

/// Without a decoder the tokens are words.
void with_spaces(std::vector<std::string>& tokens, bool) {
    for (std::size_t i = 1; i < tokens.size(); ++i)
        tokens[i].insert(0, 1, ' ');
}

} // namespace

Decoder make_decoder(const json& description, const std::string& where) {
    if (description.is_null())
        return with_spaces;
    const std::string type = step_type(description, "decoder", where);
    return read_json_part(where, fmt::format("the decoder '{}'", printable(type)),
                          [&] { return build(description, type, where); });
}

} // namespace qs
