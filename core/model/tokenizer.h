#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/checkpoint.h"

namespace qs {

using TokenId = std::int32_t;

/// What encode() does beside cutting the text up.
struct EncodeOptions {
    bool bos = false; ///< what the tokenizer puts in front of a text: its BOS token, or nothing where it has none
    bool eos = false; ///< what it puts behind
    /// Text that spells a special token ("<s>", "<|endoftext|>") becomes that token, as in Hugging Face's libraries;
    /// otherwise it is text like any other, as in llama.cpp's perplexity.
    bool special = true;
};

/// What is known of a tokenizer beside its algorithm.
struct TokenizerTraits {
    std::string kind;     ///< for people: "BPE (tokenizer.json)"
    std::string file;     ///< where it was read from
    std::size_t size = 0; ///< of the vocabulary: every id is below it
    std::optional<TokenId> bos;
    std::optional<TokenId> eos;
    std::optional<TokenId> unk;
    bool adds_bos = false; ///< the model expects a BOS token in front of a text
    bool adds_eos = false;
};

/// Turns text into the ids of a model's vocabulary and back. Immutable, safe to use from several threads.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    const TokenizerTraits& traits() const { return traits_; }
    /// The options with which the model's own tools encode a text.
    EncodeOptions defaults() const { return {traits_.adds_bos, traits_.adds_eos, true}; }

    /// The ids of a text. Bytes that are not UTF-8 count as U+FFFD.
    std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;
    /// The text of the ids, well-formed UTF-8, special tokens as they are spelled. Throws Error on an id that is not
    /// in the vocabulary.
    std::string decode(std::span<const TokenId> ids) const;
    /// The bytes that one token stands for, with its leading space; they may be a part of a character.
    std::string piece(TokenId id) const;

protected:
    explicit Tokenizer(TokenizerTraits traits) : traits_(std::move(traits)) {}

    /// `text` is well-formed UTF-8; ids are appended.
    virtual void encode_text(std::string_view text, bool special, std::vector<TokenId>& ids) const = 0;
    /// What stands before and behind the text if asked for.
    virtual std::vector<TokenId> front() const;
    virtual std::vector<TokenId> back() const;
    /// Every id is in the vocabulary. `whole` is false for a lone token, whose leading space is kept.
    virtual std::string decode_bytes(std::span<const TokenId> ids, bool whole) const = 0;

private:
    void check(std::span<const TokenId> ids) const;

    TokenizerTraits traits_;
};

/// The tokenizer that belongs to a checkpoint: the one inside a GGUF file, else what lies beside the weights
/// (tokenizer.json, tokenizer.model, vocab.json with merges.txt, tokenizer.bin, in this order), else, if its vocabulary
/// has the model's size, what lies up to two folders above. Throws Error naming the file and what is wrong with it.
std::unique_ptr<Tokenizer> open_tokenizer(const Checkpoint& checkpoint);

/// The tokenizer in a folder or in a file of any of these kinds, told by content.
std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& path);

/// For models without a tokenizer: a text is the ids themselves, in decimals between white space, all below `size`.
std::unique_ptr<Tokenizer> id_tokenizer(std::size_t size);

} // namespace qs
