#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace qs {

/// A hash table from 64-bit keys to 32-bit values below 2³² − 1, by open addressing: no allocation per entry.
class KeyTable {
public:
    /// False, and nothing changes, if the key is there already.
    bool insert(std::uint64_t key, std::uint32_t value) {
        if (2 * (count_ + 1) > slots_.size())
            grow();
        Slot& slot = slots_[slot_of(key)];
        if (slot.value != free)
            return false;
        slot = {key, value};
        ++count_;
        return true;
    }

    std::optional<std::uint32_t> find(std::uint64_t key) const {
        if (slots_.empty())
            return std::nullopt;
        const Slot& slot = slots_[slot_of(key)];
        return slot.value == free ? std::nullopt : std::optional(slot.value);
    }

private:
    static constexpr std::uint32_t free = 0xFFFFFFFF;

    struct Slot {
        std::uint64_t key = 0;
        std::uint32_t value = free;
    };

    /// Where the key is, or where it would stand.
    std::size_t slot_of(std::uint64_t key) const {
        const std::size_t mask = slots_.size() - 1;
        // Fibonacci hashing: the upper bits of the product are well mixed.
        std::size_t at = (key * 0x9E3779B97F4A7C15U) >> (64 - std::countr_zero(slots_.size()));
        while (slots_[at].value != free && slots_[at].key != key)
            at = (at + 1) & mask;
        return at;
    }

    void grow() {
        std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
        old.swap(slots_);
        for (const Slot& slot : old)
            if (slot.value != free)
                slots_[slot_of(slot.key)] = slot;
    }

    std::vector<Slot> slots_; // a power of two of them
    std::size_t count_ = 0;
};

/// Strings that are found from their beginning, byte by byte.
class Trie {
public:
    static constexpr std::uint32_t root = 0;
    static constexpr std::int32_t none = -1;

    /// The first value of a string stays.
    void insert(std::string_view text, std::int32_t value) {
        std::uint32_t node = root;
        for (const char c : text) {
            const auto next = static_cast<std::uint32_t>(values_.size());
            if (edges_.insert(edge(node, c), next))
                values_.push_back(none);
            node = *edges_.find(edge(node, c));
        }
        if (values_[node] == none)
            values_[node] = value;
    }

    /// The node after one more byte, if any string goes on like that.
    std::optional<std::uint32_t> step(std::uint32_t node, char c) const { return edges_.find(edge(node, c)); }
    /// The value of the string that ends at a node, or `none`.
    std::int32_t value(std::uint32_t node) const { return values_[node]; }

private:
    static std::uint64_t edge(std::uint32_t node, char c) {
        return std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
    }

    KeyTable edges_;
    std::vector<std::int32_t> values_{none};
};

} // namespace qs
