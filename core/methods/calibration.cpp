#include "core/methods/calibration.h"

#include <cmath>
#include <iterator>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/methods/matrix.h"
#include "core/model/product.h"

namespace qs {

namespace {

constexpr std::size_t tile = 256;

/// Tokens whose products are summed in float32 before they go to the float64 sums.
constexpr std::size_t tokens_at_once = 128;

bool all_finite(const float* values, std::size_t count) {
    return std::all_of(values, values + count, [](float value) { return is_finite(value); });
}

/// Spreads the bits of a number (the finaliser of splitmix64).
std::uint64_t mixed(std::uint64_t bits) {
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9ULL;
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EBULL;
    return bits ^ bits >> 31;
}

/// The token's number keeps equal rows apart, its values equal numbers of merged parts.
std::uint64_t hash_of(std::uint64_t token, const float* row, std::size_t columns) {
    std::uint64_t hash = mixed(token + 0x9E3779B97F4A7C15ULL);
    for (std::size_t i = 0; i < std::min<std::size_t>(columns, 8); ++i)
        hash = mixed(hash ^ float_bits(row[i]));
    return hash;
}

/// Adds XᵀX, on and below the diagonal, to sums in float64.
void add_gram(const float* inputs, std::size_t tokens, std::size_t columns, double* gram) {
    const auto x = view(inputs, tokens, columns);
    const std::size_t tiles = (columns + tile - 1) / tile;
    tbb::parallel_for(std::size_t{0}, tiles * tiles, [&](std::size_t index) {
        const std::size_t row = index / tiles * tile, column = index % tiles * tile;
        if (column > row)
            return;
        const std::size_t height = std::min(tile, columns - row), width = std::min(tile, columns - column);
        const auto at = [](std::size_t i) { return static_cast<Eigen::Index>(i); };
        auto block = view(gram, columns, columns).block(at(row), at(column), at(height), at(width));
        RowMatrix<float> product(at(height), at(width));
        for (std::size_t token = 0; token < tokens; token += tokens_at_once) {
            const std::size_t count = std::min(tokens_at_once, tokens - token);
            qs::product(transposed(x.block(at(token), at(row), at(count), at(height))),
                        as_is(x.block(at(token), at(column), at(count), at(width))), product);
            block += product.cast<double>();
        }
    });
}

std::vector<double> divided(const std::vector<double>& sums, std::uint64_t count) {
    std::vector<double> means(sums.size());
    for (std::size_t i = 0; i < sums.size() && count > 0; ++i)
        means[i] = sums[i] / static_cast<double>(count);
    return means;
}

/// The whole of a symmetric matrix of which the blocks on and below the diagonal are given, times a factor.
std::vector<double> whole(std::vector<double> matrix, std::size_t columns, double factor) {
    for (std::size_t row = 0; row < columns; ++row)
        for (std::size_t column = 0; column <= row; ++column)
            matrix[column * columns + row] = matrix[row * columns + column] *= factor;
    return matrix;
}

} // namespace

Calibration::Calibration(std::size_t columns, const CalibrationOptions& options)
    : columns_(columns), options_(options), sum_abs_(columns), sum_square_(columns), absmax_(columns),
      gram_(options.hessian ? columns * columns : 0) {}

void Calibration::add(const float* inputs, std::size_t tokens) {
    if (all_finite(inputs, tokens * columns_)) {
        add_finite(inputs, tokens);
        return;
    }
    std::vector<float> finite;
    for (std::size_t token = 0; token < tokens; ++token) {
        const float* row = inputs + token * columns_;
        if (all_finite(row, columns_))
            finite.insert(finite.end(), row, row + columns_);
        else
            ++nonfinite_;
    }
    add_finite(finite.data(), columns_ == 0 ? 0 : finite.size() / columns_);
}

void Calibration::add_finite(const float* inputs, std::size_t tokens) {
    for (std::size_t token = 0; token < tokens; ++token)
        for (std::size_t i = 0; i < columns_; ++i) {
            const float magnitude = std::abs(inputs[token * columns_ + i]);
            sum_abs_[i] += magnitude;
            sum_square_[i] += static_cast<double>(magnitude) * magnitude;
            absmax_[i] = std::max(absmax_[i], magnitude);
        }
    if (options_.hessian)
        add_gram(inputs, tokens, columns_, gram_.data());
    keep(inputs, tokens);
    tokens_ += tokens;
}

void Calibration::keep(const float* inputs, std::size_t tokens) {
    for (std::size_t token = 0; token < tokens && options_.rows > 0; ++token) {
        const float* row = inputs + token * columns_;
        const std::uint64_t hash = hash_of(tokens_ + token, row, columns_);
        if (kept_.size() == options_.rows && hash >= kept_.rbegin()->first)
            continue;
        kept_.emplace(hash, std::vector(row, row + columns_));
        drop_surplus();
    }
}

void Calibration::drop_surplus() {
    while (kept_.size() > options_.rows)
        kept_.erase(std::prev(kept_.end()));
}

void Calibration::merge(const Calibration& later) {
    if (later.columns_ != columns_ || later.options_.hessian != options_.hessian ||
        later.options_.rows != options_.rows)
        throw Error("calibration", "what was collected of different layers, or with different options, was merged");
    tokens_ += later.tokens_;
    nonfinite_ += later.nonfinite_;
    for (std::size_t i = 0; i < columns_; ++i) {
        sum_abs_[i] += later.sum_abs_[i];
        sum_square_[i] += later.sum_square_[i];
        absmax_[i] = std::max(absmax_[i], later.absmax_[i]);
    }
    for (std::size_t i = 0; i < gram_.size(); ++i)
        gram_[i] += later.gram_[i];
    kept_.insert(later.kept_.begin(), later.kept_.end());
    drop_surplus();
}

std::vector<double> Calibration::hessian() const {
    if (options_.hessian)
        return whole(gram_, columns_, tokens_ > 0 ? 2.0 / static_cast<double>(tokens_) : 0.0);
    std::vector<double> gram(columns_ * columns_);
    const std::vector<float> rows = kept_rows();
    add_gram(rows.data(), kept_.size(), columns_, gram.data());
    return whole(std::move(gram), columns_, kept_.empty() ? 0.0 : 2.0 / static_cast<double>(kept_.size()));
}

std::vector<double> Calibration::mean_abs() const {
    return divided(sum_abs_, tokens_);
}

std::vector<double> Calibration::mean_square() const {
    return divided(sum_square_, tokens_);
}

std::vector<float> Calibration::kept_rows() const {
    std::vector<float> rows;
    rows.reserve(kept_.size() * columns_);
    for (const auto& [hash, row] : kept_)
        rows.insert(rows.end(), row.begin(), row.end());
    return rows;
}

} // namespace qs
