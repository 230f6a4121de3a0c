#include <QTest>

#include "gpu/column_major.h"
#include "tests/core/device/algebra_data.h"
#include "tests/gpu/column_major_reference.h"

using namespace qs;
using namespace qs::cuda;
using namespace qs::test;

/// The arguments for column-major routines, executed: the row-major result must come of them.
class ColumnMajorTest : public QObject {
    Q_OBJECT

private slots:
    void product() {
        for (const auto& [m, k, n] :
             std::vector<std::array<std::size_t, 3>>{{3, 5, 2}, {1, 4, 1}, {6, 1, 7}, {4, 4, 4}})
            for (const Op op_a : {Op::none, Op::transposed})
                for (const Op op_b : {Op::none, Op::transposed}) {
                    const auto a = op_a == Op::none ? random_matrix<double>(m, k, 1) : random_matrix<double>(k, m, 1);
                    const auto b = op_b == Op::none ? random_matrix<double>(k, n, 3) : random_matrix<double>(n, k, 3);
                    Matrix<double> c(m, n, 2);
                    const Gemm x = column_major_product(a.handle(), op_a, b.handle(), op_b, c.handle());
                    reference::gemm<double>(
                        reference::taken(x.op_a == Op::transposed, x.a.as<double>(), x.m, x.k, x.lda),
                        reference::taken(x.op_b == Op::transposed, x.b.as<double>(), x.k, x.n, x.ldb), 1, 0,
                        c.elements.data(), x.ldc);
                    QVERIFY(distance(c, naive_product(a, op_a, b, op_b)) < 1e-12);
                    QVERIFY(c.gaps_untouched());
                    QVERIFY(x.lda >= (x.op_a == Op::none ? x.m : x.k));
                    QVERIFY(x.ldb >= (x.op_b == Op::none ? x.k : x.n));
                }
    }

    void update() {
        for (const Triangle triangle : {Triangle::lower, Triangle::upper}) {
            const auto x = random_matrix<double>(4, 6, 3);
            Matrix<double> h(6, 6, 1);
            const Syrk s = column_major_update(x.handle(), h.handle(), triangle);
            reference::syrk<double>(s.triangle == Triangle::lower, s.n, s.k, 1, x.elements.data(), s.lda, 0,
                                    h.elements.data(), s.ldc);
            QVERIFY(distance(h, only(triangle, naive_product(x, Op::transposed, x, Op::none))) < 1e-12);
            QVERIFY(h.gaps_untouched());
        }
    }

    void solve() {
        for (const Side side : {Side::left, Side::right})
            for (const Triangle triangle : {Triangle::lower, Triangle::upper})
                for (const Op op : {Op::none, Op::transposed}) {
                    const auto t = positive_definite<double>(5, 2);
                    const auto b = side == Side::left ? random_matrix<double>(5, 3, 1) : random_matrix<double>(3, 5, 1);
                    Matrix<double> x = b;
                    const Trsm s = column_major_solve(side, t.handle(), triangle, op, x.handle());
                    reference::trsm<double>(s.side == Side::left, s.triangle == Triangle::lower, s.op == Op::transposed,
                                            s.m, s.n, 1, t.elements.data(), s.lda, x.elements.data(), s.ldb);
                    const auto half = only(triangle, t);
                    const auto again = side == Side::left ? naive_product(half, op, x, Op::none)
                                                          : naive_product(x, Op::none, half, op);
                    QVERIFY(distance(again, b) < 1e-12);
                    QVERIFY(x.gaps_untouched());
                }
    }

    void factor() {
        for (const Triangle triangle : {Triangle::lower, Triangle::upper}) {
            const auto a = positive_definite<double>(7, 2);
            Matrix<double> factored = a;
            const Potr p = column_major_factor(factored.handle(), triangle);
            QCOMPARE(reference::potrf(p.triangle == Triangle::lower, p.n, factored.elements.data(), p.lda), 0);
            const auto half = only(triangle, factored);
            const auto again = triangle == Triangle::lower ? naive_product(half, Op::none, half, Op::transposed)
                                                           : naive_product(half, Op::transposed, half, Op::none);
            QVERIFY(distance(again, a) < 1e-12);
            for (std::size_t row = 0; row < 7; ++row)
                for (std::size_t column = 0; column < 7; ++column)
                    QVERIFY(in_triangle(triangle, row, column) || factored.at(row, column) == a.at(row, column));
        }
    }

    void leading_dimensions_are_never_zero() {
        const Matrix<float> none(3, 0), wide(2, 5, 4);
        QCOMPARE(leading_dimension(none.handle()), 1);
        QCOMPARE(leading_dimension(wide.handle()), 9);
        QCOMPARE(leading_dimension(wide.handle().part(0, 1, 2, 3)), 9);
    }
};

QTEST_GUILESS_MAIN(ColumnMajorTest)
#include "column_major_test.moc"
