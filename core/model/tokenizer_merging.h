#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

#include "core/model/tokenizer.h"

namespace qs {

/// A run of bytes in a piece that is one token so far; a link of a chain.
struct Symbol {
    std::uint32_t begin;
    std::uint32_t length; ///< 0 once it has been joined to the symbol before it
    TokenId id;
    std::int32_t previous; ///< index, or -1 at the ends
    std::int32_t next;
};

/// What two neighbours would become.
struct Merge {
    double priority; ///< the lowest goes first, among equal ones the leftmost
    TokenId id;
};

inline void append_symbol(std::vector<Symbol>& symbols, std::size_t begin, std::size_t length, TokenId id) {
    const auto index = static_cast<std::int32_t>(symbols.size());
    if (index > 0)
        symbols.back().next = index;
    symbols.push_back(
        {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(length), id, index - 1, std::int32_t{-1}});
}

/// Joins neighbours, best first, as long as `find(left, right)` gives a Merge. A heap of candidates over a chain of
/// symbols: n log n for a piece of n characters.
template <class Find>
void merge_symbols(std::vector<Symbol>& symbols, const Find& find) {
    struct Candidate {
        double priority;
        std::uint32_t left;
        std::uint32_t length; // of both together
        TokenId id;
        bool operator<(const Candidate& other) const { // std::priority_queue gives the greatest
            return priority != other.priority ? priority > other.priority : left > other.left;
        }
    };
    std::vector<Candidate> storage;
    storage.reserve(symbols.size());
    std::priority_queue<Candidate> candidates(std::less<Candidate>{}, std::move(storage));

    const auto propose = [&](std::int32_t left) {
        if (left < 0 || symbols[static_cast<std::size_t>(left)].next < 0)
            return;
        const Symbol& first = symbols[static_cast<std::size_t>(left)];
        const Symbol& second = symbols[static_cast<std::size_t>(first.next)];
        if (const std::optional<Merge> merge = find(first, second))
            candidates.push(
                {merge->priority, static_cast<std::uint32_t>(left), first.length + second.length, merge->id});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        propose(static_cast<std::int32_t>(i));

    while (!candidates.empty()) {
        const Candidate best = candidates.top();
        candidates.pop();
        Symbol& left = symbols[best.left];
        if (left.length == 0 || left.next < 0)
            continue;
        Symbol& right = symbols[static_cast<std::size_t>(left.next)];
        if (left.length + right.length != best.length) // one of them has grown since
            continue;
        left.length = best.length;
        left.id = best.id;
        right.length = 0;
        left.next = right.next;
        if (right.next >= 0)
            symbols[static_cast<std::size_t>(right.next)].previous = static_cast<std::int32_t>(best.left);
        propose(left.previous);
        propose(static_cast<std::int32_t>(best.left));
    }
}

} // namespace qs
