#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/checkpoint/cursor.h"
#include "core/model/tokenizer_pipeline.h"
#include "core/model/tokenizer_readers.h"

namespace qs {

namespace {

// The ids that llama2.c takes for granted (karpathy/llama2.c, tokenizer.py and run.c).
constexpr TokenId unk_id = 0;
constexpr TokenId bos_id = 1;
constexpr TokenId eos_id = 2;
constexpr std::size_t first_text_id = 3;

struct Contents {
    std::vector<std::string> texts;
    std::vector<float> scores;
};

/// The longest length, then score, length and text of each token until the file ends.
Contents read_contents(std::span<const std::byte> bytes, const std::string& file) {
    Cursor cursor(bytes, file);
    const auto longest = cursor.number<std::uint32_t>("the length of the longest token");
    Contents contents;
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

std::unique_ptr<Tokenizer> read_llama2c(const MappedFile& file) {
    const std::string path = file.path().string();
    Contents contents = read_contents(file.bytes(), path);
    TokenizerParts parts;
    parts.traits = {.kind = "SentencePiece BPE (llama2.c)",
                    .file = path,
                    .bos = bos_id,
                    .eos = eos_id,
                    .unk = unk_id,
                    .adds_bos = true};
    std::vector<bool> joins(contents.texts.size(), true);
    std::fill_n(joins.begin(), first_text_id, false);
    // The special tokens stand in the file with line breaks around them, for printing.
    for (const auto& [id, text] : {std::pair{unk_id, "<unk>"}, {bos_id, "<s>"}, {eos_id, "</s>"}}) {
        contents.texts[static_cast<std::size_t>(id)] = text;
        parts.raw_added.add({.id = id, .text = text, .special = true});
    }
    parts.normalizer = make_normalizer({{"type", "Prepend"}, {"prepend", " "}}, path);
    parts.decoder = decoder_of(path);
    parts.texts = contents.texts;
    parts.model = std::make_unique<ScoredModel>(Vocabulary(std::move(contents.texts)), std::move(contents.scores),
                                                std::move(joins), unk_id);
    return assemble(std::move(parts));
}

} // namespace qs
