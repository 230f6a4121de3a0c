#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qs::cli {

/// Aligned columns for people: text to the left, numbers to the right.
class Table {
public:
    struct Column {
        std::string title;
        bool number = false;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    /// As many cells as there are columns.
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    std::string text() const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// 6.74 G: three digits or more, with an SI prefix.
std::string si(double value);
/// 13.48 GB, with an SI prefix.
std::string bytes_text(double bytes);
/// [4096, 11008]
std::string shape_text(const std::vector<std::int64_t>& shape);
/// A number of `digits` significant digits; "–" for NaN.
std::string number(double value, int digits = 4);
/// A number with `decimals` digits after the point; "–" for NaN.
std::string fixed(double value, int decimals);

} // namespace qs::cli
