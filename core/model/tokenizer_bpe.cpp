#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_merging.h"
#include "core/model/tokenizer_models.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

std::uint64_t pair_key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

} // namespace

/// The symbols of one piece while they are collected.
struct BpeModel::Symbols {
    std::vector<Symbol> list;
    bool after_unknown = false;
};

BpeModel::BpeModel(Vocabulary vocabulary, Options options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)), bytes_(vocabulary_) {}

void BpeModel::add_merge(std::string_view left, std::string_view right, const std::string& where) {
    const auto id_of = [&](std::string_view text) {
        if (const auto id = vocabulary_.find(text))
            return *id;
        throw Error(where, fmt::format("merge {} of '{}' and '{}' needs the token '{}', which is not in the vocabulary",
                                       merged_.size(), printable(left), printable(right), printable(text)));
    };
    std::string both(left);
    both += right.starts_with(options_.prefix) ? right.substr(options_.prefix.size()) : right;
    ranks_.insert(pair_key(id_of(left), id_of(right)), static_cast<std::uint32_t>(merged_.size()));
    merged_.push_back(id_of(both));
}

void BpeModel::add_character(Symbols& symbols, std::string_view piece, std::size_t at, std::size_t length) const {
    std::string_view text = piece.substr(at, length);
    std::string decorated;
    if (!options_.prefix.empty() || !options_.suffix.empty()) {
        decorated =
            (at > 0 ? options_.prefix : "") + std::string(text) + (at + length == piece.size() ? options_.suffix : "");
        text = decorated;
    }
    if (const auto id = vocabulary_.find(text)) {
        append_symbol(symbols.list, at, length, *id);
        symbols.after_unknown = false;
        return;
    }
    std::vector<TokenId> bytes;
    if (options_.byte_fallback && bytes_.spell(piece.substr(at, length), bytes)) {
        for (std::size_t i = 0; i < length; ++i)
            append_symbol(symbols.list, at + i, 1, bytes[i]);
        symbols.after_unknown = false;
    } else if (options_.unk) {
        if (options_.fuse_unk && symbols.after_unknown)
            symbols.list.back().length += static_cast<std::uint32_t>(length);
        else
            append_symbol(symbols.list, at, length, *options_.unk);
        symbols.after_unknown = true;
    }
}

void BpeModel::encode(std::string_view piece, std::vector<TokenId>& ids) const {
    if (options_.ignore_merges)
        if (const auto id = vocabulary_.find(piece)) {
            ids.push_back(*id);
            return;
        }
    Symbols symbols;
    symbols.list.reserve(piece.size());
    for (std::size_t at = 0; at < piece.size(); at += char_length(piece[at]))
        add_character(symbols, piece, at, char_length(piece[at]));
    merge_symbols(symbols.list, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
        const auto rank = ranks_.find(pair_key(left.id, right.id));
        if (!rank)
            return std::nullopt;
        return Merge{static_cast<double>(*rank), merged_[*rank]};
    });
    for (const Symbol& symbol : symbols.list)
        if (symbol.length != 0)
            ids.push_back(symbol.id);
}

} // namespace qs
