#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/checkpoint/cursor.h"
#include "core/model/tokenizer_pipeline.h"
#include "core/model/tokenizer_readers.h"

namespace qs {

namespace {

constexpr std::size_t first_text_id = 3;

/// The longest length, then score, length and text of each token until the file ends.
Llama2cTokens read_contents(std::span<const std::byte> bytes, const std::string& file) {
    Cursor cursor(bytes, file);
    const auto longest = cursor.number<std::uint32_t>("the length of the longest token");
    Llama2cTokens contents;
    while (cursor.remaining() > 0) {
        const std::string what = fmt::format("token {}", contents.texts.size());
        contents.scores.push_back(cursor.number<float>(what));
        const auto length = cursor.number<std::uint32_t>(what);
        if (length > longest)
            throw Error(file, fmt::format("{} has {} bytes, more than the longest, {}", what, length, longest));
        contents.texts.emplace_back(as_text(cursor.take(length, what)));
    }
    if (contents.texts.size() <= first_text_id)
        throw Error(file, fmt::format("holds {} tokens, too few for a tokenizer", contents.texts.size()));
    return contents;
}

Decoder decoder_of(const std::string& file) {
    return make_decoder({{"type", "Sequence"},
                         {"decoders",
                          {{{"type", "ByteFallback"}},
                           {{"type", "Fuse"}},
                           {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}},
                        file);
}

} // namespace

bool is_llama2c(std::span<const std::byte> bytes) {
    try {
        read_contents(bytes, "");
        return true;
    } catch (const Error&) {
        return false;
    }
}

Llama2cTokens read_llama2c_tokens(const MappedFile& file) {
    Llama2cTokens tokens = read_contents(file.bytes(), file.path().string());
    // The special tokens stand in the file with line breaks around them, for printing.
    tokens.texts[llama2c_unk] = "<unk>";
    tokens.texts[llama2c_bos] = "<s>";
    tokens.texts[llama2c_eos] = "</s>";
    return tokens;
}

std::unique_ptr<Tokenizer> read_llama2c(const MappedFile& file) {
    const std::string path = file.path().string();
    Llama2cTokens tokens = read_llama2c_tokens(file);
    TokenizerParts parts;
    parts.traits = {.kind = "SentencePiece BPE (llama2.c)",
                    .file = path,
                    .bos = llama2c_bos,
                    .eos = llama2c_eos,
                    .unk = llama2c_unk,
                    .adds_bos = true};
    std::vector<bool> joins(tokens.texts.size(), true);
    std::fill_n(joins.begin(), first_text_id, false);
    for (const TokenId id : {llama2c_unk, llama2c_bos, llama2c_eos})
        parts.raw_added.add({.id = id, .text = tokens.texts[static_cast<std::size_t>(id)], .special = true});
    parts.normalizer = make_normalizer({{"type", "Prepend"}, {"prepend", " "}}, path);
    parts.decoder = decoder_of(path);
    parts.texts = tokens.texts;
    parts.model = std::make_unique<ScoredModel>(Vocabulary(std::move(tokens.texts)), std::move(tokens.scores),
                                                std::move(joins), llama2c_unk);
    return assemble(std::move(parts));
}

} // namespace qs
