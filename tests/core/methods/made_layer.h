#pragma once

#include <cstdint>
#include <vector>

#include "core/formats/tensor_codec.h"
#include "core/methods/calibration.h"

// A layer and inputs that are made in the same way here and in make_expected.py: sums of exact fractions, so that both
// have the same floats.

namespace qs::test {

/// splitmix64 of a number.
inline std::uint64_t splitmix(std::uint64_t n) {
    n += 0x9E3779B97F4A7C15ULL;
    n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9ULL;
    n = (n ^ n >> 27) * 0x94D049BB133111EBULL;
    return n ^ n >> 31;
}

/// The sum of four uniform numbers in [−1, 1).
inline double bell(std::uint64_t seed, std::uint64_t index) {
    double sum = 0;
    for (std::uint64_t i = 0; i < 4; ++i)
        sum += static_cast<double>(splitmix(seed * 1000003 + index * 4 + i) >> 40) / (1 << 23) - 1;
    return sum;
}

struct MadeLayer {
    std::size_t rows, columns, tokens;
    std::vector<float> weights, inputs;

    /// Neighbouring inputs correlate; every 16th column has inputs eight times as large.
    MadeLayer(std::size_t row_count, std::size_t column_count, std::size_t token_count, std::uint64_t seed)
        : rows(row_count), columns(column_count), tokens(token_count) {
        for (std::size_t i = 0; i < rows * columns; ++i)
            weights.push_back(static_cast<float>(bell(seed, i) / 32));
        for (std::size_t token = 0; token < tokens; ++token)
            for (std::size_t i = 0; i < columns; ++i) {
                const std::uint64_t at = token * (columns + 2) + i;
                const double x = bell(seed + 1, at) + bell(seed + 1, at + 1) / 2 + bell(seed + 1, at + 2) / 4;
                inputs.push_back(static_cast<float>(i % 16 == 3 ? 8 * x : x));
            }
    }

    Calibration calibration(const CalibrationOptions& options = {}) const {
        Calibration calibration(columns, options);
        calibration.add(inputs.data(), tokens);
        return calibration;
    }
    TensorShape shape() const { return {rows, columns}; }
};

} // namespace qs::test
