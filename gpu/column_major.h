#pragma once

#include "core/device/algebra.h"

/// How the operations on row-major matrices are asked of BLAS and LAPACK, whose matrices are column-major: a row-major
/// matrix is, in the same memory and with the same leading dimension, the column-major one of its transpose. This is
/// the one place that knows of it; what it gives are the arguments under their BLAS names.
namespace qs::cuda {

/// C = alpha·op(A)·op(B) + beta·C with C of m × n, column-major.
struct Gemm {
    Op op_a, op_b;
    int m, n, k;
    DeviceMatrix a;
    int lda;
    DeviceMatrix b;
    int ldb;
    int ldc;
};

/// The triangle of C = alpha·A·Aᵀ + beta·C with A of n × k, column-major.
struct Syrk {
    Triangle triangle;
    int n, k, lda, ldc;
};

/// op(A)·X = B or X·op(A) = B with B of m × n, column-major.
struct Trsm {
    Side side;
    Triangle triangle;
    Op op;
    int m, n, lda, ldb;
};

/// A symmetric matrix or its factor, column-major.
struct Potr {
    Triangle triangle;
    int n, lda;
};

/// BLAS wants at least 1 of an empty matrix too.
inline int leading_dimension(const DeviceMatrix& matrix) {
    return matrix.stride() == 0 ? 1 : static_cast<int>(matrix.stride());
}

/// C = op(A)·op(B) is Cᵀ = op(B)ᵀ·op(A)ᵀ, whose factors are read as they lie.
inline Gemm column_major_product(const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b,
                                 const DeviceMatrix& c) {
    return {op_b,
            op_a,
            static_cast<int>(c.columns()),
            static_cast<int>(c.rows()),
            static_cast<int>(op_a == Op::none ? a.columns() : a.rows()),
            b,
            leading_dimension(b),
            a,
            leading_dimension(a),
            leading_dimension(c)};
}

/// H = XᵀX, and XᵀX is what lies in memory times its transpose.
inline Syrk column_major_update(const DeviceMatrix& x, const DeviceMatrix& h, Triangle triangle) {
    return {opposite(triangle), static_cast<int>(h.rows()), static_cast<int>(x.rows()), leading_dimension(x),
            leading_dimension(h)};
}

/// op(T)·X = B is Xᵀ·op(T)ᵀ = Bᵀ.
inline Trsm column_major_solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) {
    return {side == Side::left ? Side::right : Side::left,
            opposite(triangle),
            op,
            static_cast<int>(b.columns()),
            static_cast<int>(b.rows()),
            leading_dimension(t),
            leading_dimension(b)};
}

/// L·Lᵀ is UᵀU with U = Lᵀ.
inline Potr column_major_factor(const DeviceMatrix& a, Triangle triangle) {
    return {opposite(triangle), static_cast<int>(a.rows()), leading_dimension(a)};
}

} // namespace qs::cuda
