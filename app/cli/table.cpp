#include "app/cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace qs::cli {

namespace {

/// Characters, not bytes, of UTF-8 text.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

} // namespace

std::string Table::text() const {
    std::vector<std::size_t> widths;
    for (const Column& column : columns_)
        widths.push_back(width(column.title));
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], width(row[i]));

    const auto line = [&](const auto& cell_of) {
        std::string result;
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            const std::string& cell = cell_of(i);
            const std::string space(widths[i] - width(cell), ' ');
            result += (i == 0 ? "" : "  ") + (columns_[i].number ? space + cell : cell + space);
        }
        result.erase(result.find_last_not_of(' ') + 1);
        return result + "\n";
    };
    std::string result = line([&](std::size_t i) -> const std::string& { return columns_[i].title; });
    for (const auto& row : rows_)
        result += line([&](std::size_t i) -> const std::string& { return row[i]; });
    return result;
}

std::string si(double value) {
    constexpr std::array prefixes{"", " K", " M", " G", " T", " P"};
    std::size_t prefix = 0;
    while (std::abs(value) >= 999.995 && prefix + 1 < prefixes.size()) {
        value /= 1000;
        ++prefix;
    }
    return prefix == 0 ? fmt::format("{:.4g}", value) : fmt::format("{:.2f}{}", value, prefixes[prefix]);
}

std::string bytes_text(double bytes) {
    const std::string text = si(bytes);
    return text + (text.find(' ') == std::string::npos ? " B" : "B");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string number(double value, int digits) {
    return std::isnan(value) ? "–" : fmt::format("{:.{}g}", value, digits);
}

std::string fixed(double value, int decimals) {
    if (std::isnan(value))
        return "–";
    std::string text = fmt::format("{:.{}f}", value, decimals);
    // What rounds to zero has no sign.
    if (std::isfinite(value) && text.starts_with('-') && text.find_first_of("123456789") == std::string::npos)
        text.erase(0, 1);
    return text;
}

} // namespace qs::cli
