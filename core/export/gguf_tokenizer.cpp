#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <span>
#include <unordered_map>
#include <variant>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/export/gguf_plan.h"
#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_precompiled.h"
#include "core/model/tokenizer_readers.h"
#include "core/model/tokenizer_steps.h"
#include "core/model/tokenizer_unicode.h"
#include "core/model/tokenizer_vocabulary.h"

// The keys are those of ggml's docs/gguf.md; which kind of tokenizer becomes which of llama.cpp's follows its
// conversion/base.py. What llama.cpp names rather than describes (pre-tokenizers, treatment of spaces) is chosen so
// that core/model's reader of GGUF tokenizers gives the ids that the source gives.

namespace qs {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t largest_file = std::size_t{512} << 20;

using enum GgufTokenType;

using Value = std::variant<bool, std::uint32_t, std::string, std::vector<std::string>, std::vector<float>,
                           std::vector<std::int32_t>, std::vector<std::uint8_t>>;
using Entries = std::vector<std::pair<std::string, Value>>;

const std::string prefix = "tokenizer.ggml.";

/// Texts that say much about how a tokenizer cuts: numbers, contractions, runs of spaces and line breaks, punctuation,
/// capitals, several scripts, emoji, code.
constexpr std::string_view samples[] = {
    "Hello, World! It's the 1st of 12 months, isn't it? THEY'RE here; I'LL go, we'd wait.",
    "two   spaces\tand\t\ttabs \n\n three\n \n\n\nlines  \r\n\r\n   end ",
    "0 12 345 6789 12345678 3.14159 1,000,000 2nd 4x4 v1.2.3-rc4 0xFF",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; } // done!?... === --> <br/> $x_y = 'z';",
    "Größe, naïve café, Ångström — „Zitat“ … Привет, мир! Γειά σου Κόσμε, שלום, مرحبا 123٤٥٦",
    "你好，世界！今天是2024年。こんにちは、カタカナ。 안녕하세요 สวัสดี नमस्ते",
    "🙂🚀 👩‍👩‍👧 № — camelCaseWord HTTPServer snake_case C++17 #tag @user a'b 'tis rock'n'roll",
};

/// Texts that llama.cpp cuts otherwise than some tokenizers which it takes nevertheless.
struct RareSample {
    std::string_view text, what;
};
constexpr RareSample rare_samples[] = {
    {"  spaces in front", "begin with spaces"},
    {"caf\xCC\x81 e\xCC\x81 \xE1\x84\x80\xE1\x85\xA1", "have decomposed characters"},
    {"ﬁ ² ½ ＡＢＣ\xC2\xA0x ™", "have compatibility characters"},
};

// --- what all kinds have -----------------------------------------------------------------------------------------

struct TokenList {
    std::vector<std::string> texts;
    std::vector<float> scores;
    std::vector<GgufTokenType> types;

    void put(std::size_t id, std::string text, GgufTokenType type, float score = 0) {
        if (id >= texts.size())
            resize(id + 1);
        texts[id] = std::move(text);
        types[id] = type;
        scores[id] = score;
    }
    /// Ids without a token get a name that no text spells.
    void resize(std::size_t size) {
        for (std::size_t id = texts.size(); id < size; ++id)
            texts.push_back(fmt::format("[PAD{}]", id));
        texts.resize(size);
        types.resize(size, unused);
        scores.resize(size, -10000);
    }
};

/// As llama.cpp's converter guesses of added tokens that are not marked as special.
bool looks_special(std::string_view text) {
    const auto within = [&](std::string_view begin, std::string_view end) {
        return text.starts_with(begin) && text.ends_with(end);
    };
    return text == "<pad>" || text == "<mask>" || within("<|", "|>") || within("<｜", "｜>") || within("<unused", ">");
}

void put_added(TokenList& tokens, std::size_t id, std::string text, bool special) {
    const bool is_control = special || looks_special(text);
    if (!is_control)
        replace_all(text, metaspace, " ");
    tokens.put(id, std::move(text), is_control ? control : user_defined, -1000);
}

void put_added(TokenList& tokens, const json& tokenizer) {
    for (const json& entry : tokenizer.value("added_tokens", json::array())) {
        const auto id = entry.at("id").get<std::size_t>();
        if (id >= tokens.types.size() || tokens.types[id] != unknown)
            put_added(tokens, id, entry.at("content").get<std::string>(), field_or(entry, "special", false));
    }
}

/// What converting one kind of tokenizer gives: entries, and the sets of others that may go with them.
struct Conversion {
    Entries entries;
    TokenList tokens;
    bool scored = false;
    std::vector<Entries> candidates = {{}};
};

/// llama.cpp's way with spaces of a scored vocabulary.
std::vector<Entries> space_candidates() {
    return {{{prefix + "add_space_prefix", true}}, {{prefix + "add_space_prefix", false}}};
}

std::vector<Entries> unigram_candidates() {
    std::vector<Entries> candidates;
    for (const bool in_front : {true, false})
        for (const bool remove : {true, false})
            candidates.push_back({{prefix + "model", std::string("t5")},
                                  {prefix + "add_space_prefix", in_front},
                                  {prefix + "remove_extra_whitespaces", remove}});
    return candidates;
}

// --- tokenizer.json ----------------------------------------------------------------------------------------------

/// The expressions by which a pre-tokenizer of byte-level BPE cuts, in order; nothing where it does something else.
std::optional<std::vector<std::string>> patterns_of(const json& step) {
    if (step.is_null())
        return std::vector<std::string>{};
    const std::string type = step.at("type");
    if (type == "Sequence") {
        std::vector<std::string> all;
        for (const json& part : step.at("pretokenizers")) {
            const auto patterns = patterns_of(part);
            if (!patterns)
                return std::nullopt;
            all.insert(all.end(), patterns->begin(), patterns->end());
        }
        return all;
    }
    if (type == "ByteLevel")
        return field_or(step, "use_regex", true) ? std::vector{std::string(gpt2_words)} : std::vector<std::string>{};
    if (type == "Digits" && field_or(step, "individual_digits", false))
        return std::vector<std::string>{R"(\p{N})"};
    if (type == "Split" && step.at("pattern").contains("Regex"))
        return std::vector{step.at("pattern").at("Regex").get<std::string>()};
    return std::nullopt;
}

Entries named(const GgufPreTokenizer& pre) {
    return {{prefix + "pre", std::string(pre.names.substr(0, pre.names.find(' ')))}};
}

/// llama.cpp's names for a way of cutting, those with the same expressions first.
std::vector<Entries> pre_candidates(const json& tokenizer) {
    const auto patterns = patterns_of(tokenizer.value("pre_tokenizer", json()));
    const bool ignore_merges = field_or(tokenizer.at("model"), "ignore_merges", false);
    std::vector<Entries> same, others;
    for (const GgufPreTokenizer& pre : gguf_pre_tokenizers()) {
        if (pre.raw_text)
            continue;
        const bool equal =
            patterns && pre.ignore_merges == ignore_merges && std::ranges::equal(pre.patterns, *patterns);
        (equal ? same : others).push_back(named(pre));
    }
    same.insert(same.end(), others.begin(), others.end());
    return same;
}

/// A merge as its two parts.
std::pair<std::string, std::string> parts_of(const json& merge) {
    if (merge.is_array())
        return {merge.at(0).get<std::string>(), merge.at(1).get<std::string>()};
    const std::string text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    return {text.substr(0, space), text.substr(space + 1)};
}

Conversion byte_level_bpe(const json& vocabulary, const json& merges, const json& tokenizer) {
    Conversion conversion;
    for (const auto& [text, id] : vocabulary.items())
        conversion.tokens.put(id.get<std::size_t>(), text, normal);
    put_added(conversion.tokens, tokenizer);
    std::vector<std::string> joined;
    for (const json& merge : merges) {
        const auto [left, right] = parts_of(merge);
        joined.push_back(left + ' ' + right);
    }
    conversion.entries = {{prefix + "model", std::string("gpt2")}, {prefix + "merges", std::move(joined)}};
    return conversion;
}

GgufTokenType type_of(const std::string& text, const std::string& unk) {
    if (text == unk)
        return unknown;
    return byte_of_token(text) ? byte : normal;
}

/// A vocabulary of SentencePiece's, whose scores the order of merges tells: the sooner a token is made the better.
Conversion scored_bpe(const json& tokenizer) {
    const json& model = tokenizer.at("model");
    const auto unk = field_or(model, "unk_token", std::string());
    std::unordered_map<std::string, float> scores;
    for (const json& merge : model.at("merges")) {
        const auto [left, right] = parts_of(merge);
        scores.try_emplace(left + right, -static_cast<float>(scores.size() + 1));
    }
    Conversion conversion;
    for (const auto& [text, id] : model.at("vocab").items()) {
        const auto score = scores.find(text);
        conversion.tokens.put(id.get<std::size_t>(), text, type_of(text, unk),
                              score == scores.end() ? 0 : score->second);
    }
    put_added(conversion.tokens, tokenizer);
    conversion.entries = {{prefix + "model", std::string("llama")}, {prefix + "pre", std::string("default")}};
    conversion.scored = true;
    conversion.candidates = space_candidates();
    return conversion;
}

/// The compiled table among the normalizer's steps; empty where there is none.
std::string charsmap_of(const json& normalizer, const std::string& where) {
    if (normalizer.is_null())
        return {};
    if (normalizer.at("type") == "Precompiled")
        return from_base64(normalizer.at("precompiled_charsmap").get<std::string>(), where);
    for (const json& part : normalizer.value("normalizers", json::array()))
        if (const std::string map = charsmap_of(part, where); !map.empty())
            return map;
    return {};
}

void set_charsmap(Conversion& conversion, const std::string& map) {
    if (!map.empty())
        conversion.entries.emplace_back(prefix + "precompiled_charsmap",
                                        std::vector<std::uint8_t>(map.begin(), map.end()));
}

Conversion unigram(const json& tokenizer, const std::string& where) {
    const json& model = tokenizer.at("model");
    const auto unk = field_or(model, "unk_id", std::int64_t{-1});
    Conversion conversion;
    std::int64_t id = 0;
    for (const json& entry : model.at("vocab")) {
        const auto text = entry.at(0).get<std::string>();
        conversion.tokens.put(static_cast<std::size_t>(id), text, id == unk ? unknown : type_of(text, {}),
                              entry.at(1).get<float>());
        ++id;
    }
    put_added(conversion.tokens, tokenizer);
    conversion.scored = true;
    conversion.candidates = unigram_candidates();
    set_charsmap(conversion, charsmap_of(tokenizer.value("normalizer", json()), where));
    return conversion;
}

// --- SentencePiece -----------------------------------------------------------------------------------------------

/// `tokenizer` is the tokenizer.json beside it, or null: it tells of tokens that were added later.
Conversion sentencepiece_model(const fs::path& path, const json& tokenizer) {
    const auto file = MappedFile::open(path);
    read_sentencepiece(*file); // which checks what the library does not
    sentencepiece::SentencePieceProcessor processor;
    if (!processor.LoadFromSerializedProto(as_text(file->bytes())).ok())
        throw Error(path.string(), "is refused by the sentencepiece library");
    Conversion conversion;
    const auto types = sentencepiece_types(as_text(file->bytes()));
    for (std::size_t id = 0; id < types.size(); ++id) {
        const int piece = static_cast<int>(id);
        conversion.tokens.put(id, processor.IdToPiece(piece), types[id], processor.GetScore(piece));
    }
    if (tokenizer.is_object())
        put_added(conversion.tokens, tokenizer);
    conversion.entries = {{prefix + "model", std::string("llama")}, {prefix + "pre", std::string("default")}};
    conversion.scored = true;
    conversion.candidates = space_candidates();
    for (Entries& candidate : unigram_candidates())
        conversion.candidates.push_back(std::move(candidate));
    set_charsmap(conversion, sentencepiece_charsmap(as_text(file->bytes())));
    return conversion;
}

// --- llama2.c ----------------------------------------------------------------------------------------------------

Conversion llama2c(const MappedFile& file) {
    const Llama2cTokens contents = read_llama2c_tokens(file);
    Conversion conversion;
    for (std::size_t id = 0; id < contents.texts.size(); ++id) {
        std::string text = contents.texts[id];
        const bool special = id <= static_cast<std::size_t>(llama2c_eos);
        const GgufTokenType type = id == llama2c_unk ? unknown : special ? control : type_of(text, {});
        if (type == normal)
            replace_all(text, " ", metaspace);
        conversion.tokens.put(id, std::move(text), type, contents.scores[id]);
    }
    conversion.entries = {{prefix + "model", std::string("llama")}, {prefix + "pre", std::string("default")}};
    conversion.scored = true;
    conversion.candidates = space_candidates();
    return conversion;
}

// --- all kinds ---------------------------------------------------------------------------------------------------

Conversion of_tokenizer_json(const fs::path& path) {
    const json tokenizer = read_config(path, largest_file);
    const json& model = tokenizer.at("model");
    if (model.at("vocab").is_array())
        return unigram(tokenizer, path.string());
    const fs::path pieces = path.parent_path() / "tokenizer.model";
    if (field_or(model, "byte_fallback", false))
        return fs::exists(pieces) ? sentencepiece_model(pieces, tokenizer) : scored_bpe(tokenizer);
    Conversion conversion = byte_level_bpe(model.at("vocab"), model.at("merges"), tokenizer);
    conversion.candidates = pre_candidates(tokenizer);
    return conversion;
}

/// GPT-2's two files; its special tokens have no list.
Conversion of_vocab_json(const fs::path& path, const TokenizerTraits& traits) {
    const std::string name = path.filename().string();
    const auto file = MappedFile::open(path.parent_path() / (name.substr(0, name.rfind("vocab.json")) + "merges.txt"));
    json merges = json::array();
    for (const std::string_view line : merge_lines(as_text(file->bytes())))
        merges.emplace_back(line);
    Conversion conversion = byte_level_bpe(read_config(path, largest_file), merges, json::object());
    for (const auto id : {traits.bos, traits.eos, traits.unk})
        if (id)
            conversion.tokens.types[static_cast<std::size_t>(*id)] = control;
    conversion.candidates = {{{prefix + "pre", std::string("gpt-2")}}};
    return conversion;
}

Conversion convert(const Tokenizer& tokenizer) {
    const fs::path path = tokenizer.traits().file;
    const auto file = MappedFile::open(path);
    const std::string_view text = as_text(file->bytes());
    return read_json_part(path.string(), "the tokenizer", [&] {
        if (path.filename().string().ends_with("vocab.json"))
            return of_vocab_json(path, tokenizer.traits());
        if (text.find_first_not_of(" \t\r\n") != text.npos && text[text.find_first_not_of(" \t\r\n")] == '{')
            return of_tokenizer_json(path);
        return path.extension() == ".bin" ? llama2c(*file) : sentencepiece_model(path, json());
    });
}

/// The id of a special token that only the configuration names.
std::optional<std::uint32_t> configured_id(const fs::path& folder, const char* name, const TokenList& tokens) {
    if (!fs::exists(folder / "tokenizer_config.json"))
        return std::nullopt;
    const json config = read_config(folder / "tokenizer_config.json", largest_file);
    const json token = config.value(name, json());
    const json text = token.is_object() ? token.value("content", json()) : token;
    const auto found =
        text.is_string() ? std::ranges::find(tokens.texts, text.get_ref<const std::string&>()) : tokens.texts.end();
    return found == tokens.texts.end() ? std::nullopt
                                       : std::optional(static_cast<std::uint32_t>(found - tokens.texts.begin()));
}

/// A chat template is a text, or one of several by names, or a file of its own.
std::string chat_template_in(const fs::path& folder) {
    if (const fs::path own = folder / "chat_template.jinja"; fs::exists(own))
        return std::string(as_text(MappedFile::open(own)->bytes()));
    if (!fs::exists(folder / "tokenizer_config.json"))
        return {};
    const json config = read_config(folder / "tokenizer_config.json", largest_file);
    const json value = config.value("chat_template", json());
    if (value.is_string())
        return value.get<std::string>();
    for (const json& item : value)
        if (item.is_object() && item.value("name", "") == "default")
            return item.value("template", "");
    return {};
}

/// A special token's id: the tokenizer's own, or what the model's config says.
std::optional<std::uint32_t> id_of(const char* key, std::optional<TokenId> own, const Checkpoint& checkpoint) {
    if (own)
        return static_cast<std::uint32_t>(*own);
    if (checkpoint.config == nullptr)
        return std::nullopt;
    const json value = decoder_config(*checkpoint.config).value(key, json());
    const json& first = value.is_array() && !value.empty() ? value.front() : value; // a model may have several ends
    return first.is_number_unsigned() ? std::optional(first.get<std::uint32_t>()) : std::nullopt;
}

Entries entries_of(Conversion& conversion, const TokenizerTraits& traits, const Checkpoint& checkpoint) {
    Entries entries = conversion.entries;
    const fs::path folder = fs::path(traits.file).parent_path();
    const auto padding = configured_id(folder, "pad_token", conversion.tokens);
    entries.emplace_back(prefix + "tokens", std::move(conversion.tokens.texts));
    if (conversion.scored)
        entries.emplace_back(prefix + "scores", std::move(conversion.tokens.scores));
    std::vector<std::int32_t> types;
    for (const GgufTokenType type : conversion.tokens.types)
        types.push_back(static_cast<std::int32_t>(type));
    entries.emplace_back(prefix + "token_type", std::move(types));
    for (const auto& [key, own] : {std::pair{"bos_token_id", traits.bos}, {"eos_token_id", traits.eos}})
        if (const auto id = id_of(key, own, checkpoint))
            entries.emplace_back(prefix + key, *id);
    if (traits.unk)
        entries.emplace_back(prefix + "unknown_token_id", static_cast<std::uint32_t>(*traits.unk));
    if (padding)
        entries.emplace_back(prefix + "padding_token_id", *padding);
    entries.emplace_back(prefix + "add_bos_token", traits.adds_bos);
    entries.emplace_back(prefix + "add_eos_token", traits.adds_eos);
    return entries;
}

/// The metadata as the reader of GGUF files has them.
json as_json(const Entries& entries) {
    json result = json::object();
    for (const auto& [key, value] : entries)
        std::visit([&, &key = key](const auto& content) { result[key] = content; }, value);
    return result;
}

/// The tokenizer of the file, made with the first candidate that cuts as the source does.
struct Fitting {
    const Entries* candidate = nullptr; ///< null where none does
    std::unique_ptr<Tokenizer> tokenizer;
};

Fitting fitting_candidate(const Entries& entries, const std::vector<Entries>& candidates, const Tokenizer& source) {
    const json metadata = as_json(entries);
    for (const Entries& candidate : candidates) {
        json all = metadata;
        all.update(as_json(candidate));
        auto made = read_gguf_tokenizer(all, all, source.traits().file);
        const auto alike = [&](std::string_view text) { return made->encode(text) == source.encode(text); };
        if (std::ranges::all_of(samples, alike))
            return {&candidate, std::move(made)};
    }
    return {};
}

void set(GgufHeader& header, const Entries& entries) {
    for (const auto& [key, value] : entries)
        std::visit([&, &key = key](const auto& content) { header.set(key, content); }, value);
}

void add_tokenizer(GgufPlan& plan, const Checkpoint& checkpoint, int vocabulary) {
    const auto source = open_tokenizer(checkpoint);
    const fs::path file = source->traits().file;
    Conversion conversion = convert(*source);
    const auto size = static_cast<std::size_t>(vocabulary);
    // Added tokens of a larger relative, for which this model has no embeddings.
    if (conversion.tokens.texts.size() > size)
        plan.notes.push_back(fmt::format("{} tokens beyond the {} that the model embeds are left out",
                                         conversion.tokens.texts.size() - size, vocabulary));
    conversion.tokens.resize(size);
    const Entries entries = entries_of(conversion, source->traits(), checkpoint);
    const Fitting fitting = fitting_candidate(entries, conversion.candidates, *source);
    if (fitting.candidate == nullptr)
        throw Error(file.string(), "cuts texts in a way that llama.cpp has no name for");
    set(plan.header, entries);
    set(plan.header, *fitting.candidate);
    if (const std::string text = chat_template_in(file.parent_path()); !text.empty())
        plan.header.set("tokenizer.chat_template", text);
    for (const RareSample& rare : rare_samples)
        if (fitting.tokenizer->encode(rare.text) != source->encode(rare.text))
            plan.notes.push_back(
                fmt::format("llama.cpp cuts texts that {} otherwise than {}", rare.what, file.filename().string()));
}

} // namespace

void add_tokenizer_metadata(GgufPlan& plan, const Checkpoint& checkpoint, int vocabulary) {
    try {
        add_tokenizer(plan, checkpoint, vocabulary);
    } catch (const Error& error) {
        plan.header.set(prefix + "model", "none");
        plan.notes.push_back(fmt::format("the file has no tokenizer: {}", error.what()));
    }
}

} // namespace qs
