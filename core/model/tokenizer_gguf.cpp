#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/checkpoint/text.h"
#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_pipeline.h"
#include "core/model/tokenizer_precompiled.h"
#include "core/model/tokenizer_readers.h"
#include "core/model/tokenizer_unicode.h"

// Keys and defaults follow ggml's docs/gguf.md and llama.cpp's src/llama-vocab.cpp.

namespace qs {

namespace {

using nlohmann::json;

constexpr std::string_view prefix = "tokenizer.ggml.";
constexpr std::array<std::string_view, 5> arrays = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores",
                                                    "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
                                                    "tokenizer.ggml.precompiled_charsmap"};

using TokenType = GgufTokenType;

/// The metadata of one file, read by the part of the key after "tokenizer.ggml.".
class Fields {
public:
    Fields(const json& short_values, const json& whole_arrays, const std::string& file)
        : values_(short_values), arrays_(whole_arrays), file_(file) {}

    const std::string& file() const { return file_; }

    template <class T>
    T value(std::string_view key, T otherwise) const {
        const std::string full = std::string(prefix) + std::string(key);
        return read_json_part(file_, fmt::format("metadata '{}'", full),
                              [&] { return field_or(values_, full.c_str(), otherwise); });
    }

    /// An array of `count` values, or nothing where it is absent. A count of 0 is any.
    template <class T>
    std::vector<T> array(std::string_view key, std::size_t count = 0) const {
        const std::string full = std::string(prefix) + std::string(key);
        const auto found = arrays_.find(full);
        if (found == arrays_.end())
            return {};
        auto result = read_json_part(file_, fmt::format("metadata '{}'", full),
                                     [&] { return found->template get<std::vector<T>>(); });
        if (count != 0 && result.size() < count)
            throw Error(file_, fmt::format("metadata '{}' has {} values for {} tokens", full, result.size(), count));
        return result;
    }

    std::optional<TokenId> id(std::string_view key, std::size_t size, std::optional<TokenId> otherwise) const {
        const auto id = value<std::int64_t>(key, otherwise.value_or(-1));
        return id >= 0 && static_cast<std::uint64_t>(id) < size ? std::optional(static_cast<TokenId>(id))
                                                                : std::nullopt;
    }

private:
    const json& values_;
    const json& arrays_;
    const std::string& file_;
};

/// The tokens of the file, whatever the model does with them.
struct Tokens {
    std::vector<std::string> texts;
    std::vector<float> scores;
    std::vector<TokenType> types;
};

Tokens read_tokens(const Fields& fields) {
    Tokens tokens;
    tokens.texts = fields.array<std::string>("tokens");
    const std::size_t size = tokens.texts.size();
    if (size == 0)
        throw Error(fields.file(), "holds no tokenizer: there is no metadata 'tokenizer.ggml.tokens'");
    tokens.scores = fields.array<float>("scores", size);
    tokens.scores.resize(size, 0.0F);
    tokens.types.resize(size, TokenType::normal);
    const auto types = fields.array<int>("token_type", size);
    for (std::size_t id = 0; id < size && !types.empty(); ++id)
        if (types[id] >= 0 && types[id] <= static_cast<int>(TokenType::byte))
            tokens.types[id] = static_cast<TokenType>(types[id]);
    // As in llama.cpp: a token without a text keeps its id, under a name that no text spells.
    for (std::size_t id = 0; id < size; ++id) {
        if (tokens.texts[id].empty())
            tokens.texts[id] = fmt::format("[EMPTY_{}]", id);
        tokens.texts[id] = to_utf8(tokens.texts[id]);
    }
    return tokens;
}

bool is_special(TokenType type) {
    return type == TokenType::control || type == TokenType::unknown;
}

/// Whether a token is found in the text before anything else is done to it.
bool is_added(TokenType type) {
    return is_special(type) || type == TokenType::user_defined;
}

void find_added(const Tokens& tokens, AddedTokens& added) {
    for (std::size_t id = 0; id < tokens.texts.size(); ++id) {
        const bool special = is_special(tokens.types[id]);
        if (is_added(tokens.types[id]))
            added.add({.id = static_cast<TokenId>(id), .text = tokens.texts[id], .special = special});
    }
}

/// Of each token, whether text may become it by merging.
std::vector<bool> joining(const Tokens& tokens) {
    std::vector<bool> joins;
    for (const TokenType type : tokens.types)
        joins.push_back(type == TokenType::normal || type == TokenType::user_defined || type == TokenType::unused);
    return joins;
}

/// What a kind of tokenizer takes for granted where the metadata are silent.
struct Ends {
    std::optional<TokenId> bos = std::nullopt;
    std::optional<TokenId> eos = std::nullopt;
    std::optional<TokenId> unk = std::nullopt;
    bool adds_bos = false;
    bool adds_eos = false;
};

void read_ends(const Fields& fields, const Tokens& tokens, const Ends& defaults, TokenizerTraits& traits) {
    const std::size_t size = tokens.texts.size();
    traits.bos = fields.id("bos_token_id", size, defaults.bos);
    traits.eos = fields.id("eos_token_id", size, defaults.eos);
    traits.unk = fields.id("unknown_token_id", size, defaults.unk);
    traits.adds_bos = fields.value("add_bos_token", defaults.adds_bos) && traits.bos;
    traits.adds_eos = fields.value("add_eos_token", defaults.adds_eos) && traits.eos;
}

/// Undoes U+2581 and byte tokens, and the space put in front where there was one.
Decoder spelled_decoder(bool space_in_front, const std::string& file) {
    json steps = {{{"type", "Replace"}, {"pattern", {{"String", metaspace}}}, {"content", " "}},
                  {{"type", "ByteFallback"}},
                  {{"type", "Fuse"}}};
    if (space_in_front)
        steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    return make_decoder({{"type", "Sequence"}, {"decoders", steps}}, file);
}

void build_scored(const Fields& fields, Tokens tokens, TokenizerParts& parts) {
    parts.traits.kind = "SentencePiece BPE (GGUF)";
    read_ends(fields, tokens, {.bos = 1, .eos = 2, .unk = 0, .adds_bos = true}, parts.traits);
    const bool space_in_front = fields.value("add_space_prefix", true);
    parts.normalizer = [space_in_front](std::string& text) {
        if (space_in_front)
            text.insert(0, 1, ' ');
        replace_all(text, " ", metaspace);
    };
    parts.decoder = spelled_decoder(space_in_front, fields.file());
    const auto joins = joining(tokens);
    parts.model = std::make_unique<ScoredModel>(Vocabulary(std::move(tokens.texts)), std::move(tokens.scores), joins,
                                                parts.traits.unk);
}

const GgufPreTokenizer& pre_tokenizer_of(const std::string& name, const std::string& file) {
    const GgufPreTokenizer* found = find_gguf_pre_tokenizer(name);
    if (found == nullptr)
        throw Error(file, fmt::format("uses the pre-tokenizer '{}' (tokenizer.ggml.pre), which is not supported",
                                      printable(name)));
    return *found;
}

PreTokenizer steps_of(const GgufPreTokenizer& pre, const std::string& file) {
    std::vector<PreTokenizer> steps;
    for (const std::string_view pattern : pre.patterns)
        steps.push_back(split_isolated(Regex(pattern, file)));
    if (!pre.raw_text)
        steps.push_back(byte_alphabet_step());
    return [steps](std::vector<Piece>& pieces) {
        for (const PreTokenizer& step : steps)
            step(pieces);
    };
}

void add_merges(BpeModel& model, const Fields& fields) {
    const auto merges = fields.array<std::string>("merges");
    if (merges.empty())
        throw Error(fields.file(), "has a BPE tokenizer without merges (tokenizer.ggml.merges)");
    for (const std::string& merge : merges) {
        const std::size_t space = merge.find(' ', 1); // a token may be a space itself
        if (space == std::string::npos)
            throw Error(fields.file(), fmt::format("has the merge '{}', which is not two tokens", printable(merge)));
        model.add_merge(std::string_view(merge).substr(0, space), std::string_view(merge).substr(space + 1),
                        fields.file());
    }
}

/// The texts for a decoder of the byte alphabet, in which added tokens are not written.
std::vector<std::string> alphabet_texts(const Tokens& tokens) {
    std::vector<std::string> texts = tokens.texts;
    for (std::size_t id = 0; id < texts.size(); ++id)
        if (is_added(tokens.types[id]))
            texts[id] = to_byte_alphabet(texts[id]);
    return texts;
}

void build_bpe(const Fields& fields, Tokens tokens, bool gemma, TokenizerParts& parts) {
    const auto name = gemma ? std::string("gemma4") : fields.value("pre", std::string("default"));
    const GgufPreTokenizer& pre = pre_tokenizer_of(name, fields.file());
    parts.traits.kind = fmt::format("BPE {} (GGUF)", name);
    read_ends(fields, tokens, {.adds_bos = pre.adds_bos}, parts.traits);
    parts.pre_tokenizer = steps_of(pre, fields.file());
    if (pre.raw_text) {
        parts.normalizer = [](std::string& text) { replace_all(text, " ", metaspace); };
        parts.decoder = spelled_decoder(false, fields.file());
    } else {
        parts.decoder = make_decoder({{"type", "ByteLevel"}}, fields.file());
        parts.texts = alphabet_texts(tokens);
    }
    BpeModel::Options options;
    options.ignore_merges = pre.ignore_merges;
    options.byte_fallback = pre.raw_text;
    auto model = std::make_unique<BpeModel>(Vocabulary(std::move(tokens.texts)), std::move(options));
    add_merges(*model, fields);
    parts.model = std::move(model);
}

/// SentencePiece's treatment of white space in a unigram model.
struct SpaceRules {
    bool in_front;
    bool remove_extra;
    bool as_suffix;

    std::string apply(std::string_view text) const {
        std::string result;
        bool in_word = false;
        bool put_in_front = !in_front || as_suffix;
        for (const char c : text) {
            if (c != ' ' && !in_word && (remove_extra || !std::exchange(put_in_front, true)))
                result += metaspace;
            in_word = c != ' ';
            if (c != ' ')
                result += c;
            else if (!remove_extra)
                result += metaspace;
        }
        if (in_front && as_suffix)
            result += metaspace;
        return result;
    }
};

Normalizer unigram_normalizer(const Fields& fields) {
    const SpaceRules rules{fields.value("add_space_prefix", false), fields.value("remove_extra_whitespaces", false),
                           fields.value("treat_whitespace_as_suffix", false)};
    const auto bytes = fields.array<int>("precompiled_charsmap");
    if (bytes.empty())
        return [rules](std::string& text) { text = rules.apply(text); };
    std::string blob;
    for (const int byte : bytes)
        blob += static_cast<char>(byte);
    const auto map = std::make_shared<const PrecompiledMap>(blob, fields.file());
    return [rules, map](std::string& text) { text = rules.apply(map->by_longest(text)); };
}

void build_unigram(const Fields& fields, Tokens tokens, TokenizerParts& parts) {
    parts.traits.kind = "Unigram (GGUF)";
    read_ends(fields, tokens, {.eos = 1, .unk = 2, .adds_eos = true}, parts.traits);
    parts.normalizer = unigram_normalizer(fields);
    parts.decoder = spelled_decoder(fields.value("add_space_prefix", false), fields.file());
    std::vector<double> scores(tokens.scores.begin(), tokens.scores.end());
    for (std::size_t id = 0; id < scores.size(); ++id)
        if (tokens.types[id] == TokenType::user_defined)
            scores[id] = 0; // a log probability of 0: always preferred
    const auto joins = joining(tokens);
    parts.model = std::make_unique<UnigramModel>(Vocabulary(std::move(tokens.texts)), std::move(scores), joins,
                                                 UnigramModel::Options{parts.traits.unk, false});
}

} // namespace

std::unique_ptr<Tokenizer> read_gguf_tokenizer(const Checkpoint& checkpoint) {
    return read_gguf_tokenizer(*checkpoint.config, gguf_metadata(checkpoint, arrays),
                               checkpoint.files.front()->path().string());
}

std::unique_ptr<Tokenizer> read_gguf_tokenizer(const json& values, const json& whole_arrays, const std::string& file) {
    TokenizerParts parts;
    parts.traits.file = file;
    const Fields fields(values, whole_arrays, file);
    const auto model = fields.value("model", std::string());
    Tokens tokens = read_tokens(fields);
    parts.texts = tokens.texts;
    find_added(tokens, parts.raw_added);
    if (model == "llama")
        build_scored(fields, std::move(tokens), parts);
    else if (model == "gpt2" || model == "gemma4")
        build_bpe(fields, std::move(tokens), model == "gemma4", parts);
    else if (model == "t5")
        build_unigram(fields, std::move(tokens), parts);
    else
        throw Error(file, fmt::format("has a tokenizer of the kind '{}' (tokenizer.ggml.model), which is not supported",
                                      printable(model)));
    return assemble(std::move(parts));
}

} // namespace qs
