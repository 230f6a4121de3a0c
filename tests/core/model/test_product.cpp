#include <QTest>

#include <random>

#include "core/model/product.h"

using namespace qs;

namespace {

Matrix random_matrix(Index rows, Index columns, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    return Matrix::NullaryExpr(rows, columns, [&] { return normal(engine); });
}

double error(const Matrix& found, const Eigen::MatrixXd& expected) {
    return (found.cast<double>() - expected).cwiseAbs().maxCoeff();
}

} // namespace

/// Products against Eigen's in double precision.
class Products : public QObject {
    Q_OBJECT

private slots:
    void shapes_data() {
        QTest::addColumn<int>("rows");
        QTest::addColumn<int>("depth");
        QTest::addColumn<int>("columns");
        // One row and a few; around the sizes of tiles and blocks; several blocks deep.
        const int sizes[][3] = {{1, 1, 1},     {1, 100, 7},    {4, 67, 130},   {5, 33, 31},    {12, 16, 32},
                                {13, 257, 33}, {120, 64, 256}, {121, 300, 65}, {64, 513, 300}, {241, 40, 520}};
        for (const auto& [rows, depth, columns] : sizes)
            QTest::addRow("%d x %d x %d", rows, depth, columns) << rows << depth << columns;
    }

    void shapes() {
        QFETCH(int, rows);
        QFETCH(int, depth);
        QFETCH(int, columns);
        const Matrix a = random_matrix(rows, depth, 1), b = random_matrix(depth, columns, 2);
        const Matrix at = a.transpose(), bt = b.transpose();
        const Eigen::MatrixXd expected = a.cast<double>() * b.cast<double>();
        const double tolerance = 1e-6 * depth;
        Matrix out = Matrix::Constant(rows, columns, 7);
        parallel_product(as_is(a), as_is(b), out);
        QVERIFY(error(out, expected) < tolerance);
        Matrix alone(rows, columns);
        product(as_is(a), as_is(b), alone);
        QVERIFY(alone == out);
        product(as_is(a), transposed(bt), out);
        QVERIFY(error(out, expected) < tolerance);
        product(transposed(at), as_is(b), out);
        QVERIFY(error(out, expected) < tolerance);
        product(transposed(at), transposed(bt), out);
        QVERIFY(error(out, expected) < tolerance);
    }

    void parts_of_matrices() {
        const Matrix a = random_matrix(40, 90, 3), b = random_matrix(50, 70, 4);
        Matrix out = Matrix::Constant(30, 60, 7);
        product(as_is(a.block(3, 5, 20, 33)), transposed(b.block(2, 4, 35, 33)), out.block(1, 2, 20, 35));
        const Eigen::MatrixXd expected =
            a.block(3, 5, 20, 33).cast<double>() * b.block(2, 4, 35, 33).cast<double>().transpose();
        QVERIFY(error(out.block(1, 2, 20, 35), expected) < 1e-4);
        QVERIFY((out.row(0).array() == 7).all() && (out.row(21).array() == 7).all());
        QVERIFY((out.leftCols(2).array() == 7).all() && (out.rightCols(23).array() == 7).all());
    }

    /// A row of a product does not depend on the others.
    void rows_are_independent() {
        const Matrix a = random_matrix(200, 300, 5), b = random_matrix(90, 300, 6);
        Matrix all, some;
        multiply(a, b, all);
        multiply(a.middleRows(50, 20), b, some);
        QVERIFY(some == all.middleRows(50, 20));
    }
};

QTEST_GUILESS_MAIN(Products)
#include "test_product.moc"
