#pragma once

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>

/// The routines of BLAS and LAPACK that gpu/ uses, column-major, by Eigen and plain loops: what the arguments of
/// gpu/column_major.h are tried on, and what stands for cuBLAS and cuSOLVER where there is no GPU.
namespace qs::reference {

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class T>
using View = Eigen::Map<Dense<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
View<T> view(T* data, int rows, int columns, int leading) {
    return {data, rows, columns, Eigen::OuterStride<>(leading)};
}

/// op(A), which is rows × columns.
template <class T>
Dense<T> taken(bool transposed, const T* data, int rows, int columns, int leading) {
    if (transposed)
        return view(const_cast<T*>(data), columns, rows, leading).transpose();
    return view(const_cast<T*>(data), rows, columns, leading);
}

/// The triangle with zeros beyond it.
template <class T>
Dense<T> half(bool lower, const T* data, int size, int leading) {
    Dense<T> triangle = taken(false, data, size, size, leading);
    for (int column = 0; column < size; ++column)
        for (int row = 0; row < size; ++row)
            if (lower ? row < column : row > column)
                triangle(row, column) = T{0};
    return triangle;
}

/// Writes the triangle only.
template <class T>
void put_half(bool lower, const Dense<T>& from, T* data, int leading) {
    const auto size = static_cast<int>(from.rows());
    auto to = view(data, size, size, leading);
    for (int column = 0; column < size; ++column)
        for (int row = 0; row < size; ++row)
            if (lower ? row >= column : row <= column)
                to(row, column) = from(row, column);
}

template <class T>
Dense<T> scaled(T beta, const Dense<T>& matrix) {
    return beta == T{0} ? Dense<T>(Dense<T>::Zero(matrix.rows(), matrix.cols())) : Dense<T>(beta * matrix);
}

template <class T>
void gemm(const Dense<T>& a, const Dense<T>& b, T alpha, T beta, T* c, int leading) {
    auto result = view(c, static_cast<int>(a.rows()), static_cast<int>(b.cols()), leading);
    result = alpha * (a * b) + scaled(beta, Dense<T>(result));
}

template <class T>
void syrk(bool lower, int n, int k, T alpha, const T* a, int leading_a, T beta, T* c, int leading_c) {
    const Dense<T> factor = taken(false, a, n, k, leading_a), before = taken(false, c, n, n, leading_c);
    put_half(lower, Dense<T>(alpha * (factor * factor.transpose()) + scaled(beta, before)), c, leading_c);
}

template <class T>
void trsm(bool left, bool lower, bool transposed, int m, int n, T alpha, const T* a, int leading_a, T* b,
          int leading_b) {
    Dense<T> triangle = half(lower, a, left ? m : n, leading_a);
    if (transposed)
        triangle.transposeInPlace();
    auto x = view(b, m, n, leading_b);
    if (left)
        x = triangle.partialPivLu().solve(Dense<T>(alpha * x)).eval();
    else
        x = triangle.transpose().partialPivLu().solve(Dense<T>(alpha * x.transpose())).transpose().eval();
}

/// The order of the leading minor that is not positive, or 0.
template <class T>
int potrf(bool lower, int n, T* a, int leading) {
    // Of a symmetric matrix, either triangle holds all.
    Dense<T> l = half(lower, a, n, leading);
    if (!lower)
        l.transposeInPlace();
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < i; ++j)
            l(i, j) = (l(i, j) - l.row(i).head(j).dot(l.row(j).head(j))) / l(j, j);
        const T pivot = l(i, i) - l.row(i).head(i).squaredNorm();
        if (!(pivot > T{0}))
            return i + 1;
        l(i, i) = std::sqrt(pivot);
    }
    put_half(lower, lower ? l : Dense<T>(l.transpose()), a, leading);
    return 0;
}

/// The row of a zero on the diagonal, from 1, or 0.
template <class T>
int potri(bool lower, int n, T* a, int leading) {
    Dense<T> l = half(lower, a, n, leading);
    if (!lower)
        l.transposeInPlace();
    for (int i = 0; i < n; ++i)
        if (l(i, i) == T{0})
            return i + 1;
    put_half(lower, Dense<T>((l * l.transpose()).inverse()), a, leading);
    return 0;
}

} // namespace qs::reference
