#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_models.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

// How much worse than the worst token an unknown character is (sentencepiece's kUnkPenalty).
constexpr double unknown_penalty = 10;
constexpr TokenId unknown = -1;

} // namespace

/// The best way to reach a place in the piece.
struct UnigramModel::Best {
    double score = -std::numeric_limits<double>::infinity();
    std::size_t begin = 0; // of the last token
    TokenId id = unknown;
    bool reached = false;

    void offer(double other_score, std::size_t other_begin, TokenId other_id) {
        if (!reached || other_score > score)
            *this = {other_score, other_begin, other_id, true};
    }
};

UnigramModel::UnigramModel(Vocabulary vocabulary, std::vector<double> scores, const std::vector<bool>& joins,
                           Options options)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(options), bytes_(vocabulary_) {
    const auto& texts = vocabulary_.texts();
    for (std::size_t id = 0; id < texts.size(); ++id)
        if (joins[id] && !texts[id].empty())
            trie_.insert(texts[id], static_cast<TokenId>(id));
    if (!scores_.empty())
        unk_score_ = *std::ranges::min_element(scores_) - unknown_penalty;
}

/// Offers every token that begins at `at` to the place where it ends.
void UnigramModel::extend(std::string_view piece, std::size_t at, std::vector<Best>& best) const {
    const std::size_t character_end = at + char_length(piece[at]);
    const double so_far = best[at].score;
    bool has_character = false;
    std::uint32_t node = Trie::root;
    for (std::size_t end = at; end < piece.size();) {
        const auto next = trie_.step(node, piece[end++]);
        if (!next)
            break;
        node = *next;
        const TokenId id = trie_.value(node);
        if (id == Trie::none)
            continue;
        best[end].offer(so_far + scores_[static_cast<std::size_t>(id)], at, id);
        has_character |= end == character_end;
    }
    if (!has_character)
        best[character_end].offer(so_far + unk_score_, at, unknown);
}

void UnigramModel::append_unknown(std::string_view text, std::vector<TokenId>& ids) const {
    if (options_.byte_fallback && bytes_.spell(text, ids))
        return;
    if (!options_.unk)
        throw Error("",
                    fmt::format("the tokenizer has no token for '{}', and none for what is unknown", printable(text)));
    ids.push_back(*options_.unk);
}

void UnigramModel::encode(std::string_view piece, std::vector<TokenId>& ids) const {
    if (piece.empty())
        return;
    std::vector<Best> best(piece.size() + 1);
    best[0] = {0, 0, unknown, true};
    for (std::size_t at = 0; at < piece.size(); at += char_length(piece[at]))
        if (best[at].reached)
            extend(piece, at, best);

    struct Token {
        std::size_t begin;
        std::size_t end;
        TokenId id;
    };
    std::vector<Token> tokens; // from the end
    for (std::size_t end = piece.size(); end > 0; end = best[end].begin) {
        const Best& last = best[end];
        const bool is_unknown = last.id == unknown || last.id == options_.unk;
        if (is_unknown && !tokens.empty() && tokens.back().id == unknown)
            tokens.back().begin = last.begin; // neighbouring unknown characters are one
        else
            tokens.push_back({last.begin, end, is_unknown ? unknown : last.id});
    }
    for (auto token = tokens.rbegin(); token != tokens.rend(); ++token)
        if (token->id == unknown)
            append_unknown(piece.substr(token->begin, token->end - token->begin), ids);
        else
            ids.push_back(token->id);
}

} // namespace qs
