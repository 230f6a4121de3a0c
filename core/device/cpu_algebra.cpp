#include "core/device/cpu_algebra.h"

#include <tbb/parallel_for.h>

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#include "core/base/error.h"
#include "core/base/half.h"

namespace qs {

namespace {

using Eigen::Index;

/// Rows and columns of a result that one thread computes at a time. Part of the definition of a result, like
/// `panel_width`: each element is made by one thread, in an order of summation that depends on these alone.
constexpr Index tile_width = 256;
/// Columns that the Cholesky factorization takes at once.
constexpr Index panel_width = 128;

template <class T, int Order>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;
template <class T, int Order>
using View = Eigen::Map<Dense<T, Order>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
View<T, Eigen::RowMajor> view(const DeviceMatrix& matrix) {
    return {matrix.as<T>(), static_cast<Index>(matrix.rows()), static_cast<Index>(matrix.columns()),
            Eigen::OuterStride<>(static_cast<Index>(matrix.stride()))};
}

/// The same memory read as the transpose.
template <class T>
View<T, Eigen::ColMajor> transposed_view(const DeviceMatrix& matrix) {
    return {matrix.as<T>(), static_cast<Index>(matrix.columns()), static_cast<Index>(matrix.rows()),
            Eigen::OuterStride<>(static_cast<Index>(matrix.stride()))};
}

/// Calls body(T{}) with the C++ type of a matrix that is computed with.
template <class Body>
void with_type(DType type, Body body) {
    if (type == DType::f64)
        body(double{});
    else
        body(float{});
}

/// Calls body(op(matrix)).
template <class T, class Body>
void with_op(const DeviceMatrix& matrix, Op op, Body body) {
    if (op == Op::none)
        body(view<T>(matrix));
    else
        body(transposed_view<T>(matrix));
}

/// Calls body(view) so that the triangle of the matrix is the lower one of the view. Symmetric matrices do not notice.
template <class T, class Body>
void with_lower(const DeviceMatrix& matrix, Triangle triangle, Body body) {
    with_op<T>(matrix, triangle == Triangle::lower ? Op::none : Op::transposed, body);
}

/// Rows or columns that a thread takes.
struct Range {
    Index begin, count;
};

Index tiles_in(Index count) {
    return (count + tile_width - 1) / tile_width;
}

Range tile(Index index, Index count) {
    const Index begin = index * tile_width;
    return {begin, std::min(tile_width, count - begin)};
}

/// Calls body(range) for the tiles of [0, count).
template <class Body>
void for_each_tile(Index count, Body body) {
    tbb::parallel_for(Index{0}, tiles_in(count), [&](Index index) { body(tile(index, count)); });
}

/// Calls body(rows, columns) for the tiles of a matrix.
template <class Body>
void for_each_tile(Index rows, Index columns, Body body) {
    const Index across = tiles_in(columns);
    tbb::parallel_for(Index{0}, tiles_in(rows) * across,
                      [&](Index index) { body(tile(index / across, rows), tile(index % across, columns)); });
}

/// Calls body(rows, columns) for the tiles of the lower triangle of a square matrix; on the diagonal they are equal.
template <class Body>
void for_each_lower_tile(Index size, Body body) {
    for_each_tile(size, size, [&](Range rows, Range columns) {
        if (rows.begin >= columns.begin)
            body(rows, columns);
    });
}

template <class Target, class T>
void scale(Target&& target, T beta) {
    if (beta == T{0})
        target.setZero();
    else if (beta != T{1})
        target *= beta;
}

/// c = alpha·a·b + beta·c
template <class A, class B, class C, class T>
void multiply(T alpha, const A& a, const B& b, T beta, C c) {
    scale(c, beta);
    c.noalias() += alpha * a * b;
}

/// The lower triangle of c = alpha·a·aᵀ + beta·c
template <class A, class C, class T>
void multiply_lower(T alpha, const A& a, T beta, C c) {
    Dense<T, Eigen::RowMajor> whole(c.rows(), c.cols());
    multiply(alpha, a, a.transpose(), T{0}, whole.block(0, 0, c.rows(), c.cols()));
    for (Index row = 0; row < c.rows(); ++row) {
        auto kept = c.row(row).head(row + 1);
        scale(kept, beta);
        kept += whole.row(row).head(row + 1);
    }
}

/// A matrix in float32 of one in 16 bits.
Dense<float, Eigen::RowMajor> widened(const DeviceMatrix& matrix) {
    const auto rows = static_cast<Index>(matrix.rows()), columns = static_cast<Index>(matrix.columns());
    Dense<float, Eigen::RowMajor> wide(rows, columns);
    const auto convert = matrix.type() == DType::bf16 ? bf16_to_float : fp16_to_float;
    for_each_tile(rows, [&](Range range) {
        for (Index row = range.begin; row < range.begin + range.count; ++row) {
            const auto* halves = matrix.as<std::uint16_t>() + static_cast<std::size_t>(row) * matrix.stride();
            std::transform(halves, halves + columns, wide.row(row).data(), convert);
        }
    });
    return wide;
}

template <class T>
void multiply(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
              const DeviceMatrix& c) {
    with_op<T>(a, op_a, [&](const auto& left) {
        with_op<T>(b, op_b, [&](const auto& right) {
            auto result = view<T>(c);
            for_each_tile(result.rows(), result.cols(), [&](Range rows, Range columns) {
                multiply(static_cast<T>(alpha), left.middleRows(rows.begin, rows.count),
                         right.middleCols(columns.begin, columns.count), static_cast<T>(beta),
                         result.block(rows.begin, columns.begin, rows.count, columns.count));
            });
        });
    });
}

/// One tile of the lower triangle of h = alpha·xᵀx + beta·h
template <class X, class H, class T>
void update_tile(T alpha, const X& x, Range rows, Range columns, T beta, H& h) {
    const auto left = x.middleCols(rows.begin, rows.count).transpose();
    auto target = h.block(rows.begin, columns.begin, rows.count, columns.count);
    if (rows.begin == columns.begin)
        multiply_lower(alpha, left, beta, target);
    else
        multiply(alpha, left, x.middleCols(columns.begin, columns.count), beta, target);
}

/// The lower triangle of h = alpha·xᵀx + beta·h
template <class X, class H, class T>
void update_lower(T alpha, const X& x, T beta, H h) {
    for_each_lower_tile(h.rows(), [&](Range rows, Range columns) { update_tile(alpha, x, rows, columns, beta, h); });
}

/// The Cholesky factor in the lower triangle of a small matrix; the index of the first pivot that is not positive, or
/// −1.
template <class A>
Index factor_panel(A a) {
    for (Index i = 0; i < a.rows(); ++i) {
        for (Index j = 0; j < i; ++j)
            a(i, j) = (a(i, j) - a.row(i).head(j).dot(a.row(j).head(j))) / a(j, j);
        const auto pivot = a(i, i) - a.row(i).head(i).squaredNorm();
        // Neither is a NaN positive, nor does an infinity leave a factor.
        if (!(pivot > 0) || !std::isfinite(pivot))
            return i;
        a(i, i) = std::sqrt(pivot);
    }
    return -1;
}

/// The Cholesky factor in the lower triangle: a panel of columns is factored, then what it adds to the rest is taken
/// away from there.
template <class A>
void factor_lower(A a) {
    using T = typename A::Scalar;
    for (Index begin = 0; begin < a.rows(); begin += panel_width) {
        const Index width = std::min(panel_width, a.rows() - begin), rest = begin + width, left = a.rows() - rest;
        auto corner = a.block(begin, begin, width, width);
        if (const Index failed = factor_panel(corner); failed >= 0)
            throw_not_positive_definite(static_cast<std::size_t>(begin + failed + 1));
        auto panel = a.block(rest, begin, left, width);
        for_each_tile(left, [&](Range rows) {
            auto part = panel.middleRows(rows.begin, rows.count);
            corner.template triangularView<Eigen::Lower>().transpose().template solveInPlace<Eigen::OnTheRight>(part);
        });
        update_lower(T{-1}, panel.transpose(), T{1}, a.block(rest, rest, left, left));
    }
}

/// The lower triangle of (L·Lᵀ)⁻¹ = WᵀW in place of L, with W = L⁻¹, which is lower too.
template <class A>
void invert_lower(A a) {
    using T = typename A::Scalar;
    const Index size = a.rows();
    Dense<T, Eigen::ColMajor> inverse(size, size);
    for_each_tile(size, [&](Range columns) {
        const Index below = size - columns.begin;
        inverse.middleCols(columns.begin, columns.count).setZero();
        auto part = inverse.block(columns.begin, columns.begin, below, columns.count);
        part.diagonal().setOnes();
        a.bottomRightCorner(below, below).template triangularView<Eigen::Lower>().solveInPlace(part);
    });
    for_each_lower_tile(size, [&](Range rows, Range columns) {
        // Above its diagonal W is zero.
        update_tile(T{1}, inverse.bottomRows(size - rows.begin), rows, columns, T{0}, a);
    });
}

template <int Half, class A, class B>
void solve_tiles(Side side, const A& t, B b) {
    const auto triangle = t.template triangularView<Half>();
    if (side == Side::left)
        for_each_tile(b.cols(), [&](Range columns) {
            auto part = b.middleCols(columns.begin, columns.count);
            triangle.solveInPlace(part);
        });
    else
        for_each_tile(b.rows(), [&](Range rows) {
            auto part = b.middleRows(rows.begin, rows.count);
            triangle.template solveInPlace<Eigen::OnTheRight>(part);
        });
}

/// Memory of the host that belongs to a matrix.
struct OwnedMemory final : MatrixMemory {
    explicit OwnedMemory(std::size_t bytes) : owned(std::make_unique<std::byte[]>(bytes)) { data = owned.get(); }
    std::unique_ptr<std::byte[]> owned;
};

class CpuAlgebra final : public Algebra {
public:
    explicit CpuAlgebra(tbb::task_arena& arena) : arena_(arena) {}

    std::string description() const override {
        const int threads = arena_.max_concurrency();
        return "Eigen on the CPU, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
    }

protected:
    DeviceMatrix do_make(DType type, std::size_t rows, std::size_t columns) override {
        const std::size_t bytes = matrix_bytes(type, rows, columns, columns);
        try {
            return {std::make_shared<OwnedMemory>(bytes), type, rows, columns, columns};
        } catch (const std::bad_alloc&) {
            throw Error("matrix", "there is no memory for " + std::to_string(bytes) + " bytes");
        }
    }

    void do_copy(const DeviceMatrix& from, const DeviceMatrix& to) override {
        const std::size_t element = matrix_bytes(from.type(), 1, 1, 1);
        for (std::size_t row = 0; row < from.rows(); ++row)
            std::memcpy(to.data() + row * to.stride() * element, from.data() + row * from.stride() * element,
                        from.columns() * element);
    }

    void do_product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                    const DeviceMatrix& c, Precision precision) override {
        arena_.execute([&] {
            if (a.type() == DType::bf16 || a.type() == DType::f16) {
                auto wide_a = widened(a), wide_b = widened(b);
                do_product(alpha, host_matrix(wide_a.data(), a.rows(), a.columns()), op_a,
                           host_matrix(wide_b.data(), b.rows(), b.columns()), op_b, beta, c, precision);
            } else if (a.type() == DType::f64) {
                multiply<double>(alpha, a, op_a, b, op_b, beta, c);
            } else {
                multiply<float>(alpha, a, op_a, b, op_b, beta, c);
            }
        });
    }

    void do_rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h,
                        Triangle triangle) override {
        compute(h.type(), [&](auto zero) {
            using T = decltype(zero);
            with_lower<T>(h, triangle, [&](const auto& result) {
                update_lower(static_cast<T>(alpha), view<T>(x), static_cast<T>(beta), result);
            });
        });
    }

    void do_cholesky(const DeviceMatrix& a, Triangle triangle) override {
        compute(a.type(), [&](auto zero) {
            with_lower<decltype(zero)>(a, triangle, [](const auto& matrix) { factor_lower(matrix); });
        });
    }

    void do_solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) override {
        const bool lower = (op == Op::none ? triangle : opposite(triangle)) == Triangle::lower;
        compute(b.type(), [&](auto zero) {
            using T = decltype(zero);
            with_op<T>(t, op, [&](const auto& matrix) {
                if (lower)
                    solve_tiles<Eigen::Lower>(side, matrix, view<T>(b));
                else
                    solve_tiles<Eigen::Upper>(side, matrix, view<T>(b));
            });
        });
    }

    void do_invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle) override {
        compute(factor.type(), [&](auto zero) {
            with_lower<decltype(zero)>(factor, triangle, [](const auto& matrix) { invert_lower(matrix); });
        });
    }

    bool reaches(int place) const override { return place == MatrixMemory::host; }

private:
    /// Calls body(T{}) among the threads of the arena.
    template <class Body>
    void compute(DType type, Body body) {
        arena_.execute([&] { with_type(type, body); });
    }

    tbb::task_arena& arena_;
};

} // namespace

std::unique_ptr<Algebra> make_cpu_algebra(tbb::task_arena& arena) {
    return std::make_unique<CpuAlgebra>(arena);
}

} // namespace qs
