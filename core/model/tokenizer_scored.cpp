#include <algorithm>
#include <cmath>
#include <limits>

#include "core/model/tokenizer_merging.h"
#include "core/model/tokenizer_models.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

ScoredModel::ScoredModel(Vocabulary vocabulary, std::vector<float> scores, std::vector<bool> joins,
                         std::optional<TokenId> unk)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), joins_(std::move(joins)), bytes_(vocabulary_),
      unk_(unk) {
    // What is not a number has no order; such a token is joined last.
    const auto is_nan = [](float score) { return std::isnan(score); };
    std::ranges::replace_if(scores_, is_nan, -std::numeric_limits<float>::infinity());
}

std::optional<TokenId> ScoredModel::find(std::string_view text) const {
    const auto id = vocabulary_.find(text);
    return id && joins_[static_cast<std::size_t>(*id)] ? id : std::nullopt;
}

/// A symbol that is no token can only be a lone character: its bytes, or unknown.
void ScoredModel::append(std::string_view symbol, std::vector<TokenId>& ids) const {
    if (const auto id = find(symbol))
        ids.push_back(*id);
    else if (!bytes_.spell(symbol, ids) && unk_)
        ids.push_back(*unk_);
}

void ScoredModel::encode(std::string_view piece, std::vector<TokenId>& ids) const {
    constexpr TokenId unset = -1; // the text of a symbol tells all, its id is not used
    std::vector<Symbol> symbols;
    symbols.reserve(piece.size());
    for (std::size_t at = 0; at < piece.size(); at += char_length(piece[at]))
        append_symbol(symbols, at, char_length(piece[at]), unset);
    merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
        const auto id = find(piece.substr(left.begin, left.length + right.length));
        if (!id)
            return std::nullopt;
        return Merge{-static_cast<double>(scores_[static_cast<std::size_t>(*id)]), *id};
    });
    for (const Symbol& symbol : symbols)
        if (symbol.length != 0)
            append(piece.substr(symbol.begin, symbol.length), ids);
}

} // namespace qs
