#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/tokenizer_table.h"
#include "core/model/tokenizer_vocabulary.h"

namespace qs {

/// The part of a tokenizer that turns one piece of normalized text into ids.
class TokenModel {
public:
    virtual ~TokenModel() = default;

    /// Appends the ids of `piece`, well-formed UTF-8.
    virtual void encode(std::string_view piece, std::vector<TokenId>& ids) const = 0;
    virtual const Vocabulary& vocabulary() const = 0;
};

/// Byte-pair encoding by a list of merges: of all neighbours in a piece, the pair that stands first in the list is
/// joined, until none is in it. As in huggingface/tokenizers, src/models/bpe.
class BpeModel : public TokenModel {
public:
    struct Options {
        std::optional<TokenId> unk;
        bool fuse_unk = false;      ///< neighbouring unknown characters are one unknown token
        bool byte_fallback = false; ///< an unknown character becomes the tokens of its bytes
        bool ignore_merges = false; ///< a piece that is in the vocabulary is that token, whatever the merges
        std::string prefix;         ///< of what continues a word
        std::string suffix;         ///< of what ends a word
    };

    BpeModel(Vocabulary vocabulary, Options options);

    /// Adds the next merge of the list; the first of equal ones counts. Throws Error(`where`, …) if a token of it is
    /// not in the vocabulary.
    void add_merge(std::string_view left, std::string_view right, const std::string& where);

    void encode(std::string_view piece, std::vector<TokenId>& ids) const override;
    const Vocabulary& vocabulary() const override { return vocabulary_; }

private:
    struct Symbols;
    void add_character(Symbols& symbols, std::string_view piece, std::size_t at, std::size_t length) const;

    Vocabulary vocabulary_;
    Options options_;
    ByteTokens bytes_;
    KeyTable ranks_;              // a pair of ids → its place in the list
    std::vector<TokenId> merged_; // by place: what the pair becomes
};

/// SentencePiece's byte-pair encoding: of all neighbours that together are a token, those with the best score are
/// joined. As in google/sentencepiece, src/bpe_model.cc, and llama2.c.
class ScoredModel : public TokenModel {
public:
    /// `joins` tells of each token whether text may become it (control tokens and bytes are not spelled).
    ScoredModel(Vocabulary vocabulary, std::vector<float> scores, std::vector<bool> joins, std::optional<TokenId> unk);

    void encode(std::string_view piece, std::vector<TokenId>& ids) const override;
    const Vocabulary& vocabulary() const override { return vocabulary_; }

private:
    std::optional<TokenId> find(std::string_view text) const;
    void append(std::string_view symbol, std::vector<TokenId>& ids) const;

    Vocabulary vocabulary_;
    std::vector<float> scores_;
    std::vector<bool> joins_;
    ByteTokens bytes_;
    std::optional<TokenId> unk_;
};

/// The most probable way to cut a text into tokens of given log probabilities (Kudo 2018). As in
/// huggingface/tokenizers, src/models/unigram, and llama.cpp.
class UnigramModel : public TokenModel {
public:
    struct Options {
        std::optional<TokenId> unk;
        bool byte_fallback = false;
    };

    /// `scores` by id; `joins` as in ScoredModel.
    UnigramModel(Vocabulary vocabulary, std::vector<double> scores, const std::vector<bool>& joins, Options options);

    /// Throws Error if a character is unknown and there is no unknown token.
    void encode(std::string_view piece, std::vector<TokenId>& ids) const override;
    const Vocabulary& vocabulary() const override { return vocabulary_; }

private:
    struct Best;
    void extend(std::string_view piece, std::size_t at, std::vector<Best>& best) const;
    void append_unknown(std::string_view text, std::vector<TokenId>& ids) const;

    Vocabulary vocabulary_;
    std::vector<double> scores_;
    Options options_;
    ByteTokens bytes_;
    Trie trie_;
    double unk_score_ = 0;
};

} // namespace qs
