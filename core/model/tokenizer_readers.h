#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/base/mapped_file.h"
#include "core/model/tokenizer.h"

// Inside core/model: the readers of each kind of tokenizer file. All throw Error naming the file and what is wrong.

namespace qs {

/// A tokenizer.json of Hugging Face's tokenizers library, with the tokenizer_config.json beside it.
std::unique_ptr<Tokenizer> read_huggingface(const MappedFile& file);
/// GPT-2's older pair: vocab.json, with merges.txt beside it.
std::unique_ptr<Tokenizer> read_vocab_and_merges(const MappedFile& vocab);
/// The tokenizer in the metadata of a GGUF checkpoint.
std::unique_ptr<Tokenizer> read_gguf_tokenizer(const Checkpoint& checkpoint);
/// The same from metadata that need not be in a file yet; `arrays` holds those of any length.
std::unique_ptr<Tokenizer> read_gguf_tokenizer(const nlohmann::json& values, const nlohmann::json& arrays,
                                               const std::string& file);
/// A SentencePiece model, read by the sentencepiece library.
std::unique_ptr<Tokenizer> read_sentencepiece(const MappedFile& file);
/// A tokenizer.bin of llama2.c.
std::unique_ptr<Tokenizer> read_llama2c(const MappedFile& file);
/// What a token is for: llama.cpp's llama_token_type.
enum class GgufTokenType : std::int32_t { undefined, normal, unknown, control, user_defined, unused, byte };

/// What each piece of a SentencePiece model is for (SentencePiece.Type, which has llama.cpp's numbers).
std::vector<GgufTokenType> sentencepiece_types(std::string_view model);
/// The compiled table of character replacements in a SentencePiece model; empty where there is none.
std::string sentencepiece_charsmap(std::string_view model);
/// The tokens of a tokenizer.bin, the special ones under their usual names.
struct Llama2cTokens {
    std::vector<std::string> texts;
    std::vector<float> scores;
};
Llama2cTokens read_llama2c_tokens(const MappedFile& file);
/// The ids that llama2.c takes for granted (karpathy/llama2.c, tokenizer.py and run.c).
inline constexpr TokenId llama2c_unk = 0, llama2c_bos = 1, llama2c_eos = 2;
/// Whether the whole file is made like a tokenizer.bin.
bool is_llama2c(std::span<const std::byte> bytes);

/// How llama.cpp cuts a text for a byte-level BPE: the pre-tokenizer that "tokenizer.ggml.pre" names.
struct GgufPreTokenizer {
    std::string_view names;                 ///< between spaces
    std::vector<std::string_view> patterns; ///< each cuts what the one before has left, and all parts stay
    bool ignore_merges = false;             ///< as in BpeModel
    bool adds_bos = false;                  ///< unless the metadata say otherwise
    bool raw_text = false;                  ///< spaces as U+2581 and unknown characters as bytes, no byte alphabet
};
/// All that are known.
std::span<const GgufPreTokenizer> gguf_pre_tokenizers();
/// Nothing for a name that is not known.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

/// The lines of a merges.txt after its version.
std::vector<std::string_view> merge_lines(std::string_view text);

/// The special tokens of a Hugging Face folder.
struct SpecialTokens {
    std::string bos, eos, unk; ///< empty where not told
    std::optional<bool> adds_bos, adds_eos;
};
/// What tokenizer_config.json and special_tokens_map.json in `folder` say; nothing where they are absent or broken.
SpecialTokens special_tokens_in(const std::filesystem::path& folder);

} // namespace qs
