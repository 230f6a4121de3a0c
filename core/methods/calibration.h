#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace qs {

/// What is collected of a layer's inputs beside the sums of each column.
struct CalibrationOptions {
    bool hessian = true;    ///< XᵀX, columns² numbers: for GPTQ, AWQ and output errors
    std::size_t rows = 256; ///< at most so many inputs are kept whole
};

/// What the tokens of a calibration text say of the inputs of one linear layer. A monoid: parts of the text may be
/// added one after the other or merged. Does not depend on the number of threads.
class Calibration {
public:
    explicit Calibration(std::size_t columns, const CalibrationOptions& options = {});

    /// Adds tokens, one row of `columns` inputs each; a token with an input that is not finite is counted and left out.
    void add(const float* inputs, std::size_t tokens);
    /// Adds what was collected of the tokens that follow. Throws Error where columns or options differ.
    void merge(const Calibration& later);

    std::size_t columns() const { return columns_; }
    const CalibrationOptions& options() const { return options_; }
    std::uint64_t tokens() const { return tokens_; }
    std::uint64_t nonfinite_tokens() const { return nonfinite_; }

    /// H = 2/n·XᵀX, symmetric and whole. n are the tokens; the GPTQ reference has sequences there, which scales H by a
    /// constant and changes no code. Of the rows kept where no Hessian is collected.
    std::vector<double> hessian() const;
    std::vector<double> mean_abs() const;
    std::vector<double> mean_square() const;
    const std::vector<float>& absmax() const { return absmax_; }
    /// A sample of the inputs, row after row.
    std::vector<float> kept_rows() const;

private:
    void add_finite(const float* inputs, std::size_t tokens);
    void keep(const float* inputs, std::size_t tokens);
    void drop_surplus();

    std::size_t columns_;
    CalibrationOptions options_;
    std::uint64_t tokens_ = 0, nonfinite_ = 0;
    std::vector<double> sum_abs_, sum_square_;
    std::vector<float> absmax_;
    std::vector<double> gram_; ///< XᵀX, the blocks on and below the diagonal
    /// The rows with the lowest hashes, by hash: a sample that parts can be merged to.
    std::multimap<std::uint64_t, std::vector<float>> kept_;
};

} // namespace qs
