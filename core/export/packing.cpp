#include "core/export/packing.h"

#include <tbb/parallel_for.h>

#include "core/export/stored_values.h"

namespace qs {

namespace {

/// `count` codes of `bits` bits as a little-endian stream; word w of it goes to words[w · stride].
template <class CodeAt>
void pack_stream(std::size_t count, int bits, const CodeAt& code_at, std::uint32_t* words, std::size_t stride) {
    std::uint64_t pending = 0;
    int held = 0;
    for (std::size_t i = 0; i < count; ++i) {
        pending |= static_cast<std::uint64_t>(code_at(i)) << held;
        held += bits;
        if (held < 32)
            continue;
        *words = static_cast<std::uint32_t>(pending);
        words += stride;
        pending >>= 32;
        held -= 32;
    }
}

/// Eight codes of a word, in AWQ's order.
template <class CodeAt>
std::uint32_t awq_word(const CodeAt& code_at) {
    constexpr std::size_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    std::uint32_t word = 0;
    for (unsigned i = 0; i < 8; ++i)
        word |= static_cast<std::uint32_t>(code_at(order[i])) << (4 * i);
    return word;
}

std::uint32_t zero_of(const IntegerGrid& grid, std::size_t row, std::size_t group) {
    return static_cast<std::uint32_t>(grid.zeros[row * grid.groups + group]);
}

int hqq_parts(int bits) {
    return bits == 3 ? 10 : 8 / bits;
}

/// Part p has its bits above those of part p + 1.
template <class Word>
std::vector<std::byte> hqq_parts_packed(const IntegerGrid& grid, std::size_t width) {
    const int parts = hqq_parts(grid.bits);
    const std::size_t rows = grid.rows * grid.groups, packed_rows = hqq_packed_rows(rows, grid.bits);
    std::vector<Word> words(packed_rows * width);
    for (std::size_t i = 0; i < words.size(); ++i)
        for (int part = 0; part < parts; ++part) {
            const std::size_t row = static_cast<std::size_t>(part) * packed_rows + i / width;
            if (row < rows)
                words[i] = static_cast<Word>(words[i] | static_cast<Word>(grid.codes[row * width + i % width])
                                                            << (grid.bits * (parts - 1 - part)));
        }
    return bytes_of(words);
}

} // namespace

std::vector<std::uint32_t> gptq_weight(const IntegerGrid& grid) {
    std::vector<std::uint32_t> words(grid.columns * static_cast<std::size_t>(grid.bits) / 32 * grid.rows);
    tbb::parallel_for(std::size_t{0}, grid.rows, [&](std::size_t row) {
        const std::uint8_t* codes = grid.codes.data() + row * grid.columns;
        pack_stream(
            grid.columns, grid.bits, [&](std::size_t column) { return codes[column]; }, words.data() + row, grid.rows);
    });
    return words;
}

std::vector<std::uint32_t> gptq_zeros(const IntegerGrid& grid, std::uint32_t offset) {
    const std::size_t group_words = grid.rows * static_cast<std::size_t>(grid.bits) / 32;
    const std::uint32_t mask = (1U << grid.bits) - 1;
    std::vector<std::uint32_t> words(grid.groups * group_words);
    for (std::size_t group = 0; group < grid.groups; ++group)
        pack_stream(
            grid.rows, grid.bits, [&](std::size_t row) { return (zero_of(grid, row, group) - offset) & mask; },
            words.data() + group * group_words, 1);
    return words;
}

std::vector<std::uint32_t> awq_weight(const IntegerGrid& grid) {
    const std::size_t width = grid.rows / 8;
    std::vector<std::uint32_t> words(grid.columns * width);
    tbb::parallel_for(std::size_t{0}, width, [&](std::size_t at) {
        for (std::size_t column = 0; column < grid.columns; ++column)
            words[column * width + at] =
                awq_word([&](std::size_t i) { return grid.codes[(8 * at + i) * grid.columns + column]; });
    });
    return words;
}

std::vector<std::uint32_t> awq_zeros(const IntegerGrid& grid) {
    const std::size_t width = grid.rows / 8;
    std::vector<std::uint32_t> words(grid.groups * width);
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = awq_word([&](std::size_t row) { return zero_of(grid, i % width * 8 + row, i / width); });
    return words;
}

std::vector<std::uint16_t> scales_by_group(const IntegerGrid& grid) {
    std::vector<std::uint16_t> scales(grid.scales.size());
    for (std::size_t row = 0; row < grid.rows; ++row)
        for (std::size_t group = 0; group < grid.groups; ++group)
            scales[group * grid.rows + row] = grid.scales[row * grid.groups + group];
    return scales;
}

std::vector<std::byte> hqq_weight(const IntegerGrid& grid) {
    const std::size_t width = grid.columns / grid.groups;
    return grid.bits == 3 ? hqq_parts_packed<std::uint32_t>(grid, width) : hqq_parts_packed<std::uint8_t>(grid, width);
}

std::size_t hqq_packed_rows(std::size_t rows, int bits) {
    const auto parts = static_cast<std::size_t>(hqq_parts(bits));
    return (rows + parts - 1) / parts;
}

} // namespace qs
