#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"

namespace qs {

/// Reads little or big endian values from memory; every read is checked against the end.
class Cursor {
public:
    Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

    void set_swapped(bool swapped) { swapped_ = swapped; }
    std::uint64_t position() const { return position_; }
    std::uint64_t remaining() const { return bytes_.size() - position_; }
    const std::string& file() const { return file_; }

    template <class T>
    T number(std::string_view what) {
        std::array<std::byte, sizeof(T)> raw;
        std::ranges::copy(take(sizeof(T), what), raw.begin());
        if (swapped_)
            std::ranges::reverse(raw);
        return std::bit_cast<T>(raw);
    }

    std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
        if (count > remaining())
            throw Error(
                file_,
                fmt::format("{} needs {} bytes at byte {}, but only {} are left", what, count, position_, remaining()),
                "the file is truncated or damaged: get it again");
        const auto taken = bytes_.subspan(position_, count);
        position_ += count;
        return taken;
    }

    std::string_view string(std::string_view what) {
        const auto length = number<std::uint64_t>(what);
        return as_text(take(length, what));
    }

private:
    std::span<const std::byte> bytes_;
    const std::string& file_;
    std::uint64_t position_ = 0;
    bool swapped_ = false;
};

} // namespace qs
