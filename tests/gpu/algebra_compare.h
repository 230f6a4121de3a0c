#pragma once

#include <QTest>

#include <array>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/device/algebra.h"
#include "tests/core/device/algebra_data.h"

/// What a GPU's algebra gives beside the CPU's, for matrices that stay on the device and for some that do not.
namespace qs::test {

inline constexpr std::array ops{Op::none, Op::transposed};
inline constexpr std::array triangles{Triangle::lower, Triangle::upper};
inline constexpr std::array sides{Side::left, Side::right};

template <class T>
Matrix<T> fetched(Algebra& algebra, const DeviceMatrix& matrix) {
    Matrix<T> result(matrix.rows(), matrix.columns(), 1);
    algebra.copy(matrix, result.handle());
    return result;
}

template <class T>
void compare_products(Algebra& gpu, Algebra& cpu) {
    for (const auto& [m, k, n] : std::vector<std::array<std::size_t, 3>>{
             {1, 1, 1}, {5, 7, 3}, {64, 32, 16}, {33, 129, 65}, {1, 300, 17}, {4, 0, 3}, {0, 2, 2}})
        for (const Op op_a : ops)
            for (const Op op_b : ops)
                for (const double beta : {0.0, 0.5}) {
                    const auto a = op_a == Op::none ? random_matrix<T>(m, k, 2) : random_matrix<T>(k, m, 2);
                    const auto b = op_b == Op::none ? random_matrix<T>(k, n, 1, 5) : random_matrix<T>(n, k, 1, 5);
                    const auto before = random_matrix<T>(m, n, 3, 9);
                    Matrix<T> expected = before, visiting = before;
                    cpu.product(2, a.handle(), op_a, b.handle(), op_b, beta, expected.handle());

                    const DeviceMatrix c = gpu.upload(before.handle());
                    gpu.product(2, gpu.upload(a.handle()), op_a, gpu.upload(b.handle()), op_b, beta, c);
                    QVERIFY(distance(fetched<T>(gpu, c), expected) < tolerance<T>(k));

                    gpu.product(2, a.handle(), op_a, gpu.upload(b.handle()), op_b, beta, visiting.handle());
                    QVERIFY(distance(visiting, expected) < tolerance<T>(k));
                    QVERIFY(visiting.gaps_untouched());
                }
}

inline void compare_16_bits(Algebra& gpu, Algebra& cpu) {
    const auto values = random_matrix<float>(40, 50);
    for (const DType type : {DType::bf16, DType::f16}) {
        std::vector<std::uint16_t> halves(values.elements.size());
        std::transform(values.elements.begin(), values.elements.end(), halves.begin(),
                       type == DType::bf16 ? float_to_bf16 : float_to_fp16);
        const DeviceMatrix a = host_matrix(halves.data(), type, 40, 50), on_gpu = gpu.upload(a);
        Matrix<float> expected(40, 40);
        cpu.product(1, a, Op::none, a, Op::transposed, 0, expected.handle());
        const DeviceMatrix c = gpu.make(DType::f32, 40, 40);
        gpu.product(1, on_gpu, Op::none, on_gpu, Op::transposed, 0, c);
        QVERIFY(distance(fetched<float>(gpu, c), expected) < tolerance<float>(50));
    }
}

/// TF32 rounds to 11 bits, and only where it is asked for.
inline void compare_tf32(Algebra& gpu, Algebra& cpu) {
    const auto a = random_matrix<float>(64, 64);
    Matrix<float> expected(64, 64);
    cpu.product(1, a.handle(), Op::none, a.handle(), Op::none, 0, expected.handle(), Precision::tf32);
    const DeviceMatrix on_gpu = gpu.upload(a.handle()), c = gpu.make(DType::f32, 64, 64);
    gpu.product(1, on_gpu, Op::none, on_gpu, Op::none, 0, c);
    const double full = distance(fetched<float>(gpu, c), expected);
    gpu.product(1, on_gpu, Op::none, on_gpu, Op::none, 0, c, Precision::tf32);
    const double rounded = distance(fetched<float>(gpu, c), expected);
    QVERIFY(full < tolerance<float>(64));
    QVERIFY(rounded < 64 * 0x1p-10);
}

template <class T>
void compare_updates(Algebra& gpu, Algebra& cpu) {
    for (const std::size_t depth : {0, 1, 100})
        for (const Triangle triangle : triangles)
            for (const double beta : {0.0, 0.5}) {
                const auto x = random_matrix<T>(depth, 37, 2), before = random_matrix<T>(37, 37);
                Matrix<T> expected = before;
                cpu.rank_update(0.5, x.handle(), beta, expected.handle(), triangle);
                const DeviceMatrix h = gpu.upload(before.handle());
                gpu.rank_update(0.5, gpu.upload(x.handle()), beta, h, triangle);
                QVERIFY(distance(fetched<T>(gpu, h), expected) < tolerance<T>(depth));
            }
}

template <class T>
void compare_factors(Algebra& gpu, Algebra& cpu) {
    for (const std::size_t size : {1, 5, 64, 150})
        for (const Triangle triangle : triangles) {
            const auto a = positive_definite<T>(size, 2);
            Matrix<T> expected = a;
            const DeviceMatrix on_gpu = gpu.upload(a.handle());
            cpu.cholesky(expected.handle(), triangle);
            gpu.cholesky(on_gpu, triangle);
            QVERIFY(distance(fetched<T>(gpu, on_gpu), expected) < tolerance<T>(size));
            cpu.invert_from_cholesky(expected.handle(), triangle);
            gpu.invert_from_cholesky(on_gpu, triangle);
            QVERIFY(distance(fetched<T>(gpu, on_gpu), expected) < 4 * tolerance<T>(size));
            // The way of GPTQ, on a part of a larger matrix.
            Matrix<T> whole = a;
            const DeviceMatrix larger = gpu.make(whole.handle().type(), size + 3, size + 5);
            const DeviceMatrix part = larger.part(2, 4, size, size);
            gpu.copy(a.handle(), part);
            cpu.cholesky_of_inverse(whole.handle(), triangle);
            gpu.cholesky_of_inverse(part, triangle);
            QVERIFY(distance(fetched<T>(gpu, part), whole) < 8 * tolerance<T>(size));
        }
}

template <class T>
void compare_solves(Algebra& gpu, Algebra& cpu) {
    for (const Side side : sides)
        for (const Triangle triangle : triangles)
            for (const Op op : ops) {
                Matrix<T> t = positive_definite<T>(41, 1);
                cpu.cholesky(t.handle(), triangle);
                const auto b = side == Side::left ? random_matrix<T>(41, 9, 2) : random_matrix<T>(9, 41, 2);
                Matrix<T> expected = b;
                cpu.solve(side, t.handle(), triangle, op, expected.handle());
                const DeviceMatrix x = gpu.upload(b.handle());
                gpu.solve(side, gpu.upload(t.handle()), triangle, op, x);
                QVERIFY(distance(fetched<T>(gpu, x), expected) < 4 * tolerance<T>(41));
            }
}

/// Both name the same leading minor.
inline void compare_failures(Algebra& gpu, Algebra& cpu) {
    for (const std::size_t bad : {0, 3, 19}) {
        Matrix<double> a = positive_definite<double>(20);
        a.at(bad, bad) = -1;
        std::string messages[2];
        for (Algebra* algebra : {&cpu, &gpu})
            try {
                algebra->cholesky(algebra->upload(a.handle()));
                QFAIL("nothing was thrown");
            } catch (const Error& error) {
                messages[algebra == &gpu ? 1 : 0] = error.what();
            }
        QCOMPARE(QString::fromStdString(messages[1]), QString::fromStdString(messages[0]));
    }
}

} // namespace qs::test
