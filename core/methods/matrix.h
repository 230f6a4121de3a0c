#pragma once

#include <Eigen/Dense>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <tbb/parallel_for.h>

#include "core/base/job.h"

// Inside core/methods: dense algebra on matrices that lie row after row, in parts that do not depend on the number of
// threads.

namespace qs {

template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using MatrixView = Eigen::Map<RowMatrix<T>>;
template <class T>
using ConstMatrixView = Eigen::Map<const RowMatrix<T>>;

template <class T>
ConstMatrixView<T> view(const T* values, std::size_t rows, std::size_t columns) {
    return {values, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)};
}
template <class T>
MatrixView<T> view(T* values, std::size_t rows, std::size_t columns) {
    return {values, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)};
}

/// Rows that are worked on together: enough for products of matrices to be fast.
inline constexpr std::size_t rows_at_once = 64;

/// Calls body(first row, rows) for all rows, in parallel; throws Cancelled when the job is.
template <class Body>
void for_row_chunks(std::size_t rows, const JobControl& job, const Body& body) {
    tbb::parallel_for(std::size_t{0}, (rows + rows_at_once - 1) / rows_at_once, [&](std::size_t chunk) {
        job.check();
        const std::size_t first = chunk * rows_at_once;
        body(first, std::min(rows_at_once, rows - first));
    });
}

/// Sums what body(first row, rows) returns for all rows, in order.
template <class Body>
double sum_over_row_chunks(std::size_t rows, const JobControl& job, const Body& body) {
    std::vector<double> parts((rows + rows_at_once - 1) / rows_at_once);
    for_row_chunks(rows, job,
                   [&](std::size_t first, std::size_t count) { parts[first / rows_at_once] = body(first, count); });
    double sum = 0;
    for (const double part : parts)
        sum += part;
    return sum;
}

/// tr(D·H·Dᵀ) for a few rows D; each block of the symmetric H on one side of the diagonal is read once.
template <class T>
double quadratic_form(const RowMatrix<T>& d, const ConstMatrixView<T>& h) {
    constexpr Eigen::Index panel = 128;
    const Eigen::Index rows = d.rows(), columns = d.cols();
    RowMatrix<T> product;
    double sum = 0;
    for (Eigen::Index begin = 0; begin < columns; begin += panel) {
        const Eigen::Index width = std::min(panel, columns - begin), end = begin + width, rest = columns - end;
        const auto part = d.middleCols(begin, width);
        product.noalias() = part * h.block(begin, begin, width, width);
        product /= 2;
        if (rest > 0)
            product.noalias() += d.rightCols(rest) * h.block(end, begin, rest, width);
        for (Eigen::Index row = 0; row < rows; ++row)
            sum += 2 * product.row(row).template cast<double>().dot(part.row(row).template cast<double>());
    }
    return sum;
}

} // namespace qs
