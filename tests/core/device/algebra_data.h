#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/device/algebra.h"

namespace qs::test {

/// A matrix with `gap` elements between its rows, which no operation may touch.
template <class T>
struct Matrix {
    std::size_t rows = 0, columns = 0, gap = 0;
    std::vector<T> elements;

    static constexpr T untouched = T(-123.25);

    Matrix(std::size_t rows_, std::size_t columns_, std::size_t gap_ = 0)
        : rows(rows_), columns(columns_), gap(gap_), elements(rows_ * (columns_ + gap_), untouched) {
        fill([](std::size_t, std::size_t) { return T{0}; });
    }

    T& at(std::size_t row, std::size_t column) { return elements[row * (columns + gap) + column]; }
    T at(std::size_t row, std::size_t column) const { return elements[row * (columns + gap) + column]; }

    template <class Value>
    void fill(Value value) {
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t column = 0; column < columns; ++column)
                at(row, column) = value(row, column);
    }

    DeviceMatrix handle() { return host_matrix(elements.data(), rows, columns, columns + gap); }
    DeviceMatrix handle() const { return host_matrix(elements.data(), rows, columns, columns + gap); }

    bool gaps_untouched() const {
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t i = 0; i < gap; ++i)
                if (elements[row * (columns + gap) + columns + i] != untouched)
                    return false;
        return true;
    }
};

template <class T>
Matrix<T> random_matrix(std::size_t rows, std::size_t columns, std::size_t gap = 0, unsigned seed = 1) {
    std::mt19937 random(seed + static_cast<unsigned>(rows * 131 + columns));
    std::normal_distribution<double> normal;
    Matrix<T> matrix(rows, columns, gap);
    matrix.fill([&](std::size_t, std::size_t) { return static_cast<T>(normal(random)); });
    return matrix;
}

template <class T>
T element(const Matrix<T>& matrix, Op op, std::size_t row, std::size_t column) {
    return op == Op::none ? matrix.at(row, column) : matrix.at(column, row);
}

/// op(a)·op(b) by its definition, in double.
template <class A, class B>
Matrix<double> naive_product(const Matrix<A>& a, Op op_a, const Matrix<B>& b, Op op_b) {
    const std::size_t inner = op_a == Op::none ? a.columns : a.rows;
    Matrix<double> result(op_a == Op::none ? a.rows : a.columns, op_b == Op::none ? b.columns : b.rows);
    result.fill([&](std::size_t row, std::size_t column) {
        double sum = 0;
        for (std::size_t k = 0; k < inner; ++k)
            sum += static_cast<double>(element(a, op_a, row, k)) * static_cast<double>(element(b, op_b, k, column));
        return sum;
    });
    return result;
}

/// A symmetric positive definite matrix that is no worse conditioned than a damped Hessian.
template <class T>
Matrix<T> positive_definite(std::size_t size, std::size_t gap = 0) {
    const auto x = random_matrix<double>(size + 3, size);
    const auto gram = naive_product(x, Op::transposed, x, Op::none);
    Matrix<T> matrix(size, size, gap);
    const auto n = static_cast<double>(size);
    matrix.fill([&](std::size_t row, std::size_t column) {
        return static_cast<T>(gram.at(row, column) / n + (row == column ? 0.5 : 0.0));
    });
    return matrix;
}

inline bool in_triangle(Triangle triangle, std::size_t row, std::size_t column) {
    return triangle == Triangle::lower ? row >= column : row <= column;
}

/// The triangle of a matrix with zeros beyond it.
template <class T>
Matrix<T> only(Triangle triangle, const Matrix<T>& matrix) {
    Matrix<T> part(matrix.rows, matrix.columns);
    part.fill([&](std::size_t row, std::size_t column) {
        return in_triangle(triangle, row, column) ? matrix.at(row, column) : T{0};
    });
    return part;
}

/// The symmetric matrix of a triangle.
template <class T>
Matrix<T> mirrored(Triangle triangle, const Matrix<T>& matrix) {
    Matrix<T> whole(matrix.rows, matrix.columns);
    whole.fill([&](std::size_t row, std::size_t column) {
        return in_triangle(triangle, row, column) ? matrix.at(row, column) : matrix.at(column, row);
    });
    return whole;
}

/// max |a − b|; infinite where one of them is no number or the shapes differ.
template <class A, class B>
double distance(const Matrix<A>& a, const Matrix<B>& b) {
    if (a.rows != b.rows || a.columns != b.columns)
        return std::numeric_limits<double>::infinity();
    double largest = 0;
    for (std::size_t row = 0; row < a.rows; ++row)
        for (std::size_t column = 0; column < a.columns; ++column) {
            const double apart =
                std::abs(static_cast<double>(a.at(row, column)) - static_cast<double>(b.at(row, column)));
            largest = std::isfinite(apart) ? std::max(largest, apart) : std::numeric_limits<double>::infinity();
        }
    return largest;
}

/// Rounding errors of sums over `terms` products of numbers around 1.
template <class T>
double tolerance(std::size_t terms) {
    return 8.0 * static_cast<double>(std::numeric_limits<T>::epsilon()) * (static_cast<double>(terms) + 8.0);
}

} // namespace qs::test
