#include <algorithm>

#include "core/checkpoint/text.h"
#include "core/model/tokenizer_json.h"
#include "core/model/tokenizer_pipeline.h"
#include "core/model/tokenizer_readers.h"

namespace qs {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t largest_file = std::size_t{512} << 20;

/// Ids run from 0 without large holes; one far beyond would only make the table of texts huge.
std::size_t checked_id(const json& id, std::size_t tokens, std::string_view text, const std::string& where) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= 4 * tokens + 65536)
        throw Error(where, fmt::format("token '{}' has the id {}, which no vocabulary of {} tokens can have",
                                       printable(text), printable(id.dump()), tokens));
    return id.get<std::size_t>();
}

void put(std::vector<std::string>& texts, std::size_t id, const std::string& text) {
    if (id >= texts.size())
        texts.resize(id + 1);
    texts[id] = text;
}

/// A vocabulary written as text → id.
std::vector<std::string> texts_of(const json& vocab, const std::string& where) {
    if (!vocab.is_object())
        throw Error(where, "has a vocabulary that does not map texts to ids");
    std::vector<std::string> texts;
    for (const auto& [text, id] : vocab.items()) {
        const std::size_t number = checked_id(id, vocab.size(), text, where);
        if (number < texts.size() && !texts[number].empty())
            throw Error(where, fmt::format("tokens '{}' and '{}' have the same id {}", printable(texts[number]),
                                           printable(text), number));
        put(texts, number, text);
    }
    return texts;
}

/// A merge is "a b" or, since tokens may hold spaces, ["a", "b"].
void add_merge(BpeModel& model, const json& merge, const std::string& where) {
    if (merge.is_array() && merge.size() == 2)
        return model.add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), where);
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || space != text.rfind(' '))
        throw Error(where, fmt::format("has the merge '{}', which is not two tokens", printable(text)));
    model.add_merge(std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1), where);
}

std::optional<TokenId> find_optional(const Vocabulary& vocabulary, const std::string& text) {
    return text.empty() ? std::nullopt : vocabulary.find(text);
}

std::unique_ptr<const TokenModel> bpe_model(const json& model, TokenizerTraits& traits) {
    Vocabulary vocabulary(texts_of(model.at("vocab"), traits.file));
    BpeModel::Options options;
    options.unk = find_optional(vocabulary, field_or(model, "unk_token", std::string()));
    options.fuse_unk = field_or(model, "fuse_unk", false);
    options.byte_fallback = field_or(model, "byte_fallback", false);
    options.ignore_merges = field_or(model, "ignore_merges", false);
    options.prefix = field_or(model, "continuing_subword_prefix", std::string());
    options.suffix = field_or(model, "end_of_word_suffix", std::string());
    traits.unk = options.unk;
    auto bpe = std::make_unique<BpeModel>(std::move(vocabulary), std::move(options));
    for (const json& merge : model.at("merges"))
        add_merge(*bpe, merge, traits.file);
    return bpe;
}

std::unique_ptr<const TokenModel> unigram_model(const json& model, TokenizerTraits& traits) {
    const json& vocab = model.at("vocab");
    std::vector<std::string> texts;
    std::vector<double> scores;
    for (const json& entry : vocab) {
        texts.push_back(entry.at(0).get<std::string>());
        scores.push_back(entry.at(1).get<double>());
    }
    const auto unk = model.find("unk_id");
    if (unk != model.end() && !unk->is_null() && unk->get<std::uint64_t>() >= texts.size())
        throw Error(traits.file, fmt::format("has the unk_id {}, but only {} tokens", unk->dump(), texts.size()));
    if (unk != model.end() && !unk->is_null())
        traits.unk = unk->get<TokenId>();
    const std::vector<bool> joins(texts.size(), true);
    return std::make_unique<UnigramModel>(Vocabulary(std::move(texts)), std::move(scores), joins,
                                          UnigramModel::Options{traits.unk, field_or(model, "byte_fallback", false)});
}

/// The "type" of the model, which older files leave out.
std::string model_type(const json& model) {
    const auto type = field_or(model, "type", std::string());
    if (!type.empty())
        return type;
    return model.contains("merges") ? "BPE" : model.at("vocab").is_array() ? "Unigram" : "WordPiece";
}

std::unique_ptr<const TokenModel> make_model(const json& model, TokenizerTraits& traits) {
    return read_json_part(traits.file, "the model", [&]() -> std::unique_ptr<const TokenModel> {
        const std::string type = model_type(model);
        traits.kind = fmt::format("{} (tokenizer.json)", printable(type));
        if (type == "BPE")
            return bpe_model(model, traits);
        if (type == "Unigram")
            return unigram_model(model, traits);
        refuse_step("model", type, traits.file);
    });
}

void add_tokens(const json& list, TokenizerParts& parts) {
    const std::string& where = parts.traits.file;
    read_json_part(where, "the list of added tokens", [&] {
        for (const json& entry : list) {
            const auto text = entry.at("content").get<std::string>();
            const std::size_t id = checked_id(entry.at("id"), parts.texts.size() + list.size(), text, where);
            const bool is_special = field_or(entry, "special", false);
            AddedToken token{.id = static_cast<TokenId>(id),
                             .text = text,
                             .special = is_special,
                             .normalized = field_or(entry, "normalized", !is_special),
                             .single_word = field_or(entry, "single_word", false),
                             .strip_left = field_or(entry, "lstrip", false),
                             .strip_right = field_or(entry, "rstrip", false)};
            if (token.normalized && parts.normalizer)
                parts.normalizer(token.text);
            put(parts.texts, id, token.text);
            (token.normalized ? parts.normalized_added : parts.raw_added).add(token);
        }
    });
}

/// The ids of a template's special token.
std::vector<TokenId> template_ids(const json& processor, const json& item, const TokenizerParts& parts) {
    const auto& name = item.at("SpecialToken").at("id").get_ref<const std::string&>();
    std::vector<TokenId> ids;
    for (const json& id : processor.at("special_tokens").at(name).at("ids")) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= parts.texts.size())
            throw Error(parts.traits.file, fmt::format("the post-processor puts token {} around a text, but there are "
                                                       "only {} tokens",
                                                       printable(id.dump()), parts.texts.size()));
        ids.push_back(id.get<TokenId>());
    }
    return ids;
}

void read_template(const json& processor, TokenizerParts& parts) {
    bool behind = false;
    for (const json& item : processor.at("single")) {
        if (item.contains("Sequence")) {
            behind = true;
            continue;
        }
        std::vector<TokenId>& side = behind ? parts.back : parts.front;
        for (const TokenId id : template_ids(processor, item, parts))
            side.push_back(id);
    }
}

/// Bert's and Roberta's processors name a token and its id.
TokenId named_id(const json& pair, const TokenizerParts& parts) {
    const std::size_t id =
        checked_id(pair.at(1), parts.texts.size(), pair.at(0).get_ref<const std::string&>(), parts.traits.file);
    if (id >= parts.texts.size())
        throw Error(parts.traits.file, fmt::format("the post-processor uses token {}, which there is not", id));
    return static_cast<TokenId>(id);
}

void read_post_processor(const json& processor, TokenizerParts& parts) {
    if (processor.is_null())
        return;
    const std::string& where = parts.traits.file;
    const std::string type = step_type(processor, "post-processor", where);
    read_json_part(where, fmt::format("the post-processor '{}'", printable(type)), [&] {
        if (type == "Sequence") {
            for (const json& part : processor.at("processors"))
                read_post_processor(part, parts);
        } else if (type == "TemplateProcessing") {
            read_template(processor, parts);
        } else if (type == "RobertaProcessing" || type == "BertProcessing") {
            parts.front.push_back(named_id(processor.at("cls"), parts));
            parts.back.push_back(named_id(processor.at("sep"), parts));
        } else if (type != "ByteLevel") { // which only trims offsets
            refuse_step("post-processor", type, where);
        }
    });
}

std::optional<TokenId> id_of(const std::string& text, const std::vector<std::string>& texts) {
    const auto found = std::ranges::find(texts, text);
    if (text.empty() || found == texts.end())
        return std::nullopt;
    return static_cast<TokenId>(found - texts.begin());
}

/// What the configuration beside the tokenizer says of BOS and EOS, over what the post-processor does.
void apply_config(const SpecialTokens& config, TokenizerParts& parts) {
    TokenizerTraits& traits = parts.traits;
    traits.bos = id_of(config.bos, parts.texts);
    traits.eos = id_of(config.eos, parts.texts);
    if (const auto unk = id_of(config.unk, parts.texts); unk && !traits.unk)
        traits.unk = unk;
    if (!traits.bos && !parts.front.empty())
        traits.bos = parts.front.front();
    if (!traits.eos && !parts.back.empty())
        traits.eos = parts.back.back();
    traits.adds_bos = config.adds_bos.value_or(!parts.front.empty()) && traits.bos;
    traits.adds_eos = config.adds_eos.value_or(!parts.back.empty()) && traits.eos;
}

/// A token in a configuration is its text or an object with "content".
std::string token_text(const json& config, const char* name) {
    const auto found = config.find(name);
    if (found == config.end())
        return {};
    const json& value = found->is_object() && found->contains("content") ? found->at("content") : *found;
    return value.is_string() ? value.get<std::string>() : std::string();
}

std::optional<bool> optional_flag(const json& config, const char* name) {
    const auto found = config.find(name);
    return found != config.end() && found->is_boolean() ? std::optional(found->get<bool>()) : std::nullopt;
}

} // namespace

std::vector<std::string_view> merge_lines(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r'))
            line.remove_suffix(1);
        if (!line.empty() && !line.starts_with("#version"))
            lines.push_back(line);
    }
    return lines;
}

SpecialTokens special_tokens_in(const fs::path& folder) {
    SpecialTokens tokens;
    const auto take = [&](const json& config) {
        for (auto [name, text] :
             {std::pair{"bos_token", &tokens.bos}, {"eos_token", &tokens.eos}, {"unk_token", &tokens.unk}})
            if (text->empty())
                *text = token_text(config, name);
        if (!tokens.adds_bos)
            tokens.adds_bos = optional_flag(config, "add_bos_token");
        if (!tokens.adds_eos)
            tokens.adds_eos = optional_flag(config, "add_eos_token");
    };
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
        if (fs::exists(folder / name)) {
            try {
                take(read_config(folder / name, largest_file));
            } catch (const Error&) { // the tokenizer itself tells enough
            }
        }
    return tokens;
}

std::unique_ptr<Tokenizer> read_huggingface(const MappedFile& file) {
    const json root = read_config(file.path(), largest_file);
    TokenizerParts parts;
    const std::string& where = parts.traits.file = file.path().string();
    const auto part = [&](const char* name) { return root.value(name, json()); };
    if (!root.contains("model"))
        throw Error(where, "is a JSON file without a 'model', so it is no tokenizer.json");
    parts.model = make_model(root.at("model"), parts.traits);
    parts.normalizer = make_normalizer(part("normalizer"), where);
    parts.pre_tokenizer = make_pre_tokenizer(part("pre_tokenizer"), where);
    parts.decoder = make_decoder(part("decoder"), where);
    parts.texts = parts.model->vocabulary().texts();
    add_tokens(part("added_tokens"), parts);
    read_post_processor(part("post_processor"), parts);
    apply_config(special_tokens_in(file.path().parent_path()), parts);
    return assemble(std::move(parts));
}

std::unique_ptr<Tokenizer> read_vocab_and_merges(const MappedFile& vocab) {
    TokenizerParts parts;
    const std::string& where = parts.traits.file = vocab.path().string();
    const fs::path folder = vocab.path().parent_path();
    const std::string name = vocab.path().filename().string();
    const fs::path merges_path = folder / (name.substr(0, name.rfind("vocab.json")) + "merges.txt");
    if (!fs::exists(merges_path))
        throw Error(where, fmt::format("needs {} beside it", merges_path.filename().string()));
    const auto merges = MappedFile::open(merges_path);
    auto model = std::make_unique<BpeModel>(Vocabulary(texts_of(read_config(vocab.path(), largest_file), where)),
                                            BpeModel::Options{});
    for (const std::string_view line : merge_lines(as_text(merges->bytes())))
        add_merge(*model, json(line), merges_path.string());
    parts.traits.kind = "BPE (vocab.json and merges.txt)";
    parts.pre_tokenizer = make_pre_tokenizer({{"type", "ByteLevel"}, {"add_prefix_space", false}}, where);
    parts.decoder = make_decoder({{"type", "ByteLevel"}}, where);
    parts.texts = model->vocabulary().texts();
    parts.model = std::move(model);
    apply_config(special_tokens_in(folder), parts);
    if (!parts.traits.eos) // GPT-2's own files do not say it
        parts.traits.eos = parts.traits.bos = id_of("<|endoftext|>", parts.texts);
    for (const auto id : {parts.traits.bos, parts.traits.eos, parts.traits.unk})
        if (id)
            parts.raw_added.add({.id = *id, .text = parts.texts[static_cast<std::size_t>(*id)], .special = true});
    return assemble(std::move(parts));
}

} // namespace qs
