#include <QTest>

#include <functional>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/device/device.h"
#include "tests/core/device/algebra_data.h"

using namespace qs;
using namespace qs::test;

Q_DECLARE_METATYPE(qs::Op)
Q_DECLARE_METATYPE(qs::Triangle)
Q_DECLARE_METATYPE(qs::Side)

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

void fails(const std::function<void()>& body, const std::string& where, const std::string& part_of_reason) {
    try {
        body();
    } catch (const Error& error) {
        QCOMPARE(QString::fromStdString(error.where()), QString::fromStdString(where));
        QVERIFY2(error.reason().find(part_of_reason) != std::string::npos, error.what());
        return;
    }
    QFAIL("nothing was thrown");
}

const char* name(Op op) {
    return op == Op::none ? "plain" : "transposed";
}

const char* name(Triangle triangle) {
    return triangle == Triangle::lower ? "lower" : "upper";
}

} // namespace

/// The algebra of the CPU against definitions computed in double.
class AlgebraTest : public QObject {
    Q_OBJECT

private slots:
    void says_what_computes() {
        QCOMPARE(make_cpu_device(1)->algebra().description(), std::string("Eigen on the CPU, 1 thread"));
        QCOMPARE(algebra().description(), std::string("Eigen on the CPU, 2 threads"));
    }

    void product_data() {
        QTest::addColumn<int>("rows");
        QTest::addColumn<int>("inner");
        QTest::addColumn<int>("columns");
        QTest::addColumn<Op>("op_a");
        QTest::addColumn<Op>("op_b");
        const std::vector<std::array<int, 3>> shapes = {
            {1, 1, 1}, {1, 700, 1},  {1, 33, 300},   {300, 33, 1}, {7, 5, 3},     {17, 0, 4},    {0, 5, 3},
            {3, 5, 0}, {64, 64, 64}, {255, 31, 257}, {2, 1, 2},    {513, 3, 514}, {129, 577, 65}};
        for (const auto& [rows, inner, columns] : shapes)
            for (const Op op_a : {Op::none, Op::transposed})
                for (const Op op_b : {Op::none, Op::transposed})
                    QTest::addRow("%dx%dx%d %s %s", rows, inner, columns, name(op_a), name(op_b))
                        << rows << inner << columns << op_a << op_b;
    }

    void product() {
        multiply<float>();
        multiply<double>();
    }

    void product_takes_16_bits_and_sums_in_32() {
        const auto a = random_matrix<float>(37, 501), b = random_matrix<float>(501, 19);
        const auto in_16_bits = [&](DType type, std::uint16_t (*narrow)(float), float (*widen)(std::uint16_t)) {
            const auto halves = [&](const Matrix<float>& matrix) {
                std::vector<std::uint16_t> result(matrix.elements.size());
                std::transform(matrix.elements.begin(), matrix.elements.end(), result.begin(), narrow);
                return result;
            };
            const auto widened = [&](const Matrix<float>& matrix) {
                Matrix<float> result = matrix;
                for (float& value : result.elements)
                    value = widen(narrow(value));
                return result;
            };
            const auto halves_a = halves(a), halves_b = halves(b);
            Matrix<float> c(37, 19);
            algebra().product(1, host_matrix(halves_a.data(), type, 37, 501), Op::none,
                              host_matrix(halves_b.data(), type, 501, 19), Op::none, 0, c.handle());
            const auto expected = naive_product(widened(a), Op::none, widened(b), Op::none);
            QVERIFY(distance(c, expected) < tolerance<float>(501));
        };
        in_16_bits(DType::bf16, float_to_bf16, bf16_to_float);
        in_16_bits(DType::f16, float_to_fp16, fp16_to_float);
    }

    void product_works_on_parts() {
        const auto a = random_matrix<double>(20, 30), b = random_matrix<double>(30, 20);
        Matrix<double> c = random_matrix<double>(10, 12);
        const Matrix<double> before = c;
        algebra().product(1, a.handle().part(3, 5, 4, 6), Op::none, b.handle().part(7, 2, 6, 5), Op::none, 0,
                          c.handle().part(2, 3, 4, 5));
        for (std::size_t row = 0; row < 10; ++row)
            for (std::size_t column = 0; column < 12; ++column) {
                double expected = before.at(row, column);
                if (row >= 2 && row < 6 && column >= 3 && column < 8) {
                    expected = 0;
                    for (std::size_t k = 0; k < 6; ++k)
                        expected += a.at(row - 2 + 3, 5 + k) * b.at(7 + k, column - 3 + 2);
                }
                QVERIFY(std::abs(c.at(row, column) - expected) < 1e-12);
            }
    }

    /// As GPTQ needs it: the columns to the left change those to the right of the same matrix.
    void a_result_may_lie_beside_its_factor() {
        Matrix<double> w = random_matrix<double>(9, 12);
        const Matrix<double> before = w, u = random_matrix<double>(5, 7);
        algebra().product(-1, w.handle().part(0, 0, 9, 5), Op::none, u.handle(), Op::none, 1,
                          w.handle().part(0, 5, 9, 7));
        for (std::size_t row = 0; row < 9; ++row)
            for (std::size_t column = 0; column < 7; ++column) {
                double expected = before.at(row, 5 + column);
                for (std::size_t k = 0; k < 5; ++k)
                    expected -= before.at(row, k) * u.at(k, column);
                QVERIFY(std::abs(w.at(row, 5 + column) - expected) < 1e-12);
            }
    }

    void rank_update_data() { sizes_and_triangles(); }

    void rank_update() {
        update<float>();
        update<double>();
    }

    void rank_update_of_a_layer() {
        const auto x = random_matrix<float>(2000, 576);
        Matrix<float> h(576, 576);
        algebra().rank_update(2.0 / 2000, x.handle(), 0, h.handle(), Triangle::upper);
        Matrix<double> expected = naive_product(x, Op::transposed, x, Op::none);
        for (double& value : expected.elements)
            value *= 2.0 / 2000;
        QVERIFY(distance(h, only(Triangle::upper, expected)) < 2e-5);
    }

    void cholesky_data() { sizes_and_triangles(); }

    void cholesky() {
        factor<float>();
        factor<double>();
    }

    void invert_from_cholesky_data() { sizes_and_triangles(); }

    void invert_from_cholesky() {
        invert<float>();
        invert<double>();
    }

    void cholesky_of_inverse_data() { sizes_and_triangles(); }

    void cholesky_of_inverse() {
        QFETCH(int, size);
        QFETCH(Triangle, triangle);
        const auto a = positive_definite<double>(static_cast<std::size_t>(size));
        Matrix<double> factor = a;
        algebra().cholesky_of_inverse(factor.handle(), triangle);
        const auto half = only(triangle, factor);
        const auto inverse = triangle == Triangle::lower ? naive_product(half, Op::none, half, Op::transposed)
                                                         : naive_product(half, Op::transposed, half, Op::none);
        QVERIFY(distance(naive_product(a, Op::none, inverse, Op::none), identity(a.rows)) < 1e-10);
    }

    void not_positive_definite_data() {
        QTest::addColumn<int>("size");
        QTest::addColumn<int>("bad");
        QTest::addColumn<double>("pivot");
        for (const int size : {1, 5, 128, 300})
            for (const int bad : {0, size / 2, size - 1})
                for (const double pivot : {-1.0, 0.0, not_a_number})
                    QTest::addRow("%d at %d: %g", size, bad, pivot) << size << bad << pivot;
    }

    void not_positive_definite() {
        QFETCH(int, size);
        QFETCH(int, bad);
        QFETCH(double, pivot);
        const auto n = static_cast<std::size_t>(size), i = static_cast<std::size_t>(bad);
        for (const Triangle triangle : {Triangle::lower, Triangle::upper}) {
            Matrix<double> a = identity(n);
            a.at(i, i) = pivot;
            fails([&] { algebra().cholesky(a.handle(), triangle); }, "Cholesky factorization",
                  "leading minor of order " + std::to_string(bad + 1) + " is not positive");
        }
    }

    void solve_data() {
        QTest::addColumn<int>("size");
        QTest::addColumn<int>("others");
        QTest::addColumn<Side>("side");
        QTest::addColumn<Triangle>("triangle");
        QTest::addColumn<Op>("op");
        for (const auto& [size, others] :
             std::vector<std::pair<int, int>>{{1, 1}, {3, 0}, {5, 7}, {130, 300}, {301, 5}})
            for (const Side side : {Side::left, Side::right})
                for (const Triangle triangle : {Triangle::lower, Triangle::upper})
                    for (const Op op : {Op::none, Op::transposed})
                        QTest::addRow("%d %d %s %s %s", size, others, side == Side::left ? "left" : "right",
                                      name(triangle), name(op))
                            << size << others << side << triangle << op;
    }

    void solve() {
        solve_triangular<float>();
        solve_triangular<double>();
    }

    void threads_change_nothing() {
        const auto run = [](int threads) {
            const auto device = make_cpu_device(threads);
            Algebra& algebra = device->algebra();
            const auto x = random_matrix<float>(700, 600);
            Matrix<float> h(600, 600), c(700, 600);
            algebra.rank_update(1, x.handle(), 0, h.handle(), Triangle::lower);
            for (std::size_t i = 0; i < 600; ++i)
                h.at(i, i) += 50;
            algebra.cholesky(h.handle());
            algebra.invert_from_cholesky(h.handle());
            algebra.product(1, x.handle(), Op::none, h.handle(), Op::none, 0, c.handle());
            algebra.solve(Side::right, h.handle(), Triangle::lower, Op::none, c.handle());
            return std::pair(h.elements, c.elements);
        };
        const auto one = run(1);
        for (const int threads : {2, 3, 5})
            QVERIFY(run(threads) == one);
    }

    void matrices_stay_between_calls() {
        const auto a = random_matrix<float>(40, 30, 3), b = random_matrix<float>(30, 20);
        const DeviceMatrix on_a = algebra().upload(a.handle()), on_b = algebra().upload(b.handle());
        const DeviceMatrix on_c = algebra().make(DType::f32, 40, 20);
        algebra().product(1, on_a, Op::none, on_b, Op::none, 1, on_c);
        algebra().product(1, on_a, Op::none, on_b, Op::none, 1, on_c);
        Matrix<float> c(40, 20, 2);
        algebra().copy(on_c, c.handle());
        auto expected = naive_product(a, Op::none, b, Op::none);
        for (double& value : expected.elements)
            value *= 2;
        QVERIFY(distance(c, expected) < tolerance<float>(60));
        QVERIFY(c.gaps_untouched());
    }

    void the_diagonal_can_be_reached() {
        Matrix<double> a = random_matrix<double>(6, 6, 2);
        const Matrix<double> before = a;
        Matrix<double> diagonal(6, 1);
        algebra().copy(a.handle().diagonal(), diagonal.handle());
        for (std::size_t i = 0; i < 6; ++i)
            QCOMPARE(diagonal.at(i, 0), before.at(i, i));
        for (double& value : diagonal.elements)
            value += 1;
        algebra().copy(diagonal.handle(), a.handle().diagonal());
        for (std::size_t row = 0; row < 6; ++row)
            for (std::size_t column = 0; column < 6; ++column)
                QCOMPARE(a.at(row, column), before.at(row, column) + (row == column ? 1.0 : 0.0));
    }

    void memory_takes_other_shapes() {
        std::vector<float> values{1, 2, 3, 4, 5, 6, 7, 8};
        const DeviceMatrix all = host_matrix(values.data(), 2, 4), other = all.reshaped(2, 3);
        QCOMPARE(other.rows(), std::size_t{2});
        QCOMPARE(other.stride(), std::size_t{3});
        QCOMPARE(other.part(1, 1, 1, 1).as<float>()[0], 5.0F);
        QVERIFY_EXCEPTION_THROWN(all.reshaped(3, 3), Error);
        QVERIFY_EXCEPTION_THROWN(all.part(0, 0, 2, 2).reshaped(1, 4), Error);
    }

    void shapes_must_fit() {
        Matrix<float> a(3, 4), b(5, 2), c(3, 2), square(3, 3);
        Matrix<double> d(4, 2);
        const auto product = [&](const DeviceMatrix& x, const DeviceMatrix& y, const DeviceMatrix& z) {
            return [=, this] { algebra().product(1, x, Op::none, y, Op::none, 0, z); };
        };
        fails(product(a.handle(), b.handle(), c.handle()), "matrix product", "3 × 4 times 5 × 2 does not give 3 × 2");
        fails(product(a.handle(), d.handle(), c.handle()), "matrix product", "different types");
        Matrix<float> e(4, 2);
        Matrix<double> f(3, 2);
        fails(product(a.handle(), e.handle(), f.handle()), "matrix product", "float32");
        fails(product(square.handle(), square.handle(), square.handle()), "matrix product", "overlaps");
        const Matrix<float>& fixed = square;
        fails(product(square.handle(), square.handle(), fixed.handle()), "matrix product", "reading only");
        fails([&] { algebra().cholesky(a.handle()); }, "Cholesky factorization", "3 × 4 matrix is not square");
        fails([&] { algebra().rank_update(1, a.handle(), 0, square.handle(), Triangle::lower); }, "rank-k update",
              "3 × 4");
        fails([&] { algebra().solve(Side::right, square.handle(), Triangle::lower, Op::none, a.handle()); },
              "triangular solve", "does not fit 3 × 4");
        fails([&] { algebra().copy(a.handle(), c.handle()); }, "matrix copy", "3 × 4");
        fails([&] { a.handle().part(1, 1, 3, 1); }, "matrix", "does not lie in a 3 × 4 matrix");
        const std::vector<std::uint16_t> halves(9);
        fails([&] { algebra().cholesky(algebra().upload(host_matrix(halves.data(), DType::bf16, 3, 3))); },
              "Cholesky factorization", "float64");
    }

    void sizes_must_not_overflow() {
        float one = 0;
        constexpr std::size_t large = 0x7FFFFFFF;
        fails([&] { host_matrix(&one, large + 1, 1); }, "matrix", "too large");
        fails([&] { host_matrix(&one, 2, 3, 2); }, "matrix", "do not fit in a stride of 2");
        fails([&] { algebra().make(DType::f64, large, large); }, "matrix", "too large for any memory");
#ifndef __SANITIZE_ADDRESS__ // which ends the program where there is no memory
        fails([&] { algebra().make(DType::f32, large, std::size_t{1} << 28); }, "matrix", "there is no memory");
#endif
        fails([&] { algebra().make(DType::q4_K, 1, 1); }, "matrix", "float16");
    }

private:
    Algebra& algebra() {
        return device_->algebra();
    }

    static Matrix<double> identity(std::size_t size) {
        Matrix<double> matrix(size, size);
        for (std::size_t i = 0; i < size; ++i)
            matrix.at(i, i) = 1;
        return matrix;
    }

    static void sizes_and_triangles() {
        QTest::addColumn<int>("size");
        QTest::addColumn<Triangle>("triangle");
        for (const int size : {0, 1, 2, 7, 64, 129, 300})
            for (const Triangle triangle : {Triangle::lower, Triangle::upper})
                QTest::addRow("%d %s", size, name(triangle)) << size << triangle;
    }

    template <class T>
    void multiply() {
        QFETCH(int, rows);
        QFETCH(int, inner);
        QFETCH(int, columns);
        QFETCH(Op, op_a);
        QFETCH(Op, op_b);
        const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(inner),
                   n = static_cast<std::size_t>(columns);
        const auto a = op_a == Op::none ? random_matrix<T>(m, k, 5) : random_matrix<T>(k, m, 5);
        const auto b = op_b == Op::none ? random_matrix<T>(k, n, 2, 7) : random_matrix<T>(n, k, 2, 7);
        const auto before = random_matrix<T>(m, n, 3, 9);
        const auto expected = naive_product(a, op_a, b, op_b);
        for (const auto& [alpha, beta] : {std::pair(1.0, 0.0), {-1.0, 1.0}, {0.5, -2.0}}) {
            Matrix<T> c = before;
            // With beta = 0 nothing may come of what was there.
            if (beta == 0)
                c.fill([](std::size_t, std::size_t) { return static_cast<T>(not_a_number); });
            algebra().product(alpha, a.handle(), op_a, b.handle(), op_b, beta, c.handle());
            Matrix<double> sum = expected;
            for (std::size_t row = 0; row < m; ++row)
                for (std::size_t column = 0; column < n; ++column)
                    sum.at(row, column) = alpha * expected.at(row, column) +
                                          (beta == 0 ? 0 : beta * static_cast<double>(before.at(row, column)));
            QVERIFY(distance(c, sum) < tolerance<T>(k));
            QVERIFY(c.gaps_untouched());
        }
    }

    template <class T>
    void update() {
        QFETCH(int, size);
        QFETCH(Triangle, triangle);
        const auto n = static_cast<std::size_t>(size);
        for (const std::size_t depth : {std::size_t{0}, std::size_t{1}, std::size_t{37}}) {
            const auto x = random_matrix<T>(depth, n, 1);
            const auto gram = naive_product(x, Op::transposed, x, Op::none);
            const auto before = random_matrix<T>(n, n, 4);
            for (const double beta : {0.0, 1.0, 0.5}) {
                Matrix<T> h = before;
                if (beta == 0)
                    h.fill([](std::size_t, std::size_t) { return static_cast<T>(not_a_number); });
                const Matrix<T> start = h;
                algebra().rank_update(2, x.handle(), beta, h.handle(), triangle);
                QVERIFY(h.gaps_untouched());
                for (std::size_t row = 0; row < n; ++row)
                    for (std::size_t column = 0; column < n; ++column) {
                        const auto was = static_cast<double>(start.at(row, column));
                        const auto is = static_cast<double>(h.at(row, column));
                        if (in_triangle(triangle, row, column))
                            QVERIFY(std::abs(is - 2 * gram.at(row, column) - (beta == 0 ? 0 : beta * was)) <
                                    tolerance<T>(2 * depth));
                        else
                            QVERIFY(is == was || (std::isnan(is) && std::isnan(was)));
                    }
            }
        }
    }

    /// What lies beyond the triangle of `after` is as in `before`.
    template <class T>
    static bool only_triangle_changed(Triangle triangle, const Matrix<T>& before, const Matrix<T>& after) {
        for (std::size_t row = 0; row < before.rows; ++row)
            for (std::size_t column = 0; column < before.columns; ++column)
                if (!in_triangle(triangle, row, column) && before.at(row, column) != after.at(row, column))
                    return false;
        return after.gaps_untouched();
    }

    template <class T>
    void factor() {
        QFETCH(int, size);
        QFETCH(Triangle, triangle);
        const auto a = positive_definite<T>(static_cast<std::size_t>(size), 3);
        Matrix<T> factored = a;
        algebra().cholesky(factored.handle(), triangle);
        const auto half = only(triangle, factored);
        const auto again = triangle == Triangle::lower ? naive_product(half, Op::none, half, Op::transposed)
                                                       : naive_product(half, Op::transposed, half, Op::none);
        QVERIFY(distance(again, a) < tolerance<T>(a.rows));
        QVERIFY(only_triangle_changed(triangle, a, factored));
    }

    template <class T>
    void invert() {
        QFETCH(int, size);
        QFETCH(Triangle, triangle);
        const auto a = positive_definite<T>(static_cast<std::size_t>(size), 3);
        Matrix<T> inverse = a;
        algebra().cholesky(inverse.handle(), triangle);
        algebra().invert_from_cholesky(inverse.handle(), triangle);
        const auto one = naive_product(a, Op::none, mirrored(triangle, inverse), Op::none);
        QVERIFY(distance(one, identity(a.rows)) < 4 * tolerance<T>(a.rows));
        QVERIFY(only_triangle_changed(triangle, a, inverse));
    }

    template <class T>
    void solve_triangular() {
        QFETCH(int, size);
        QFETCH(int, others);
        QFETCH(Side, side);
        QFETCH(Triangle, triangle);
        QFETCH(Op, op);
        const auto n = static_cast<std::size_t>(size), m = static_cast<std::size_t>(others);
        // A Cholesky factor is well conditioned; what lies beyond the triangle must not matter.
        Matrix<T> t = positive_definite<T>(n, 2);
        algebra().cholesky(t.handle(), triangle);
        t.fill([&](std::size_t row, std::size_t column) {
            return in_triangle(triangle, row, column) ? t.at(row, column) : static_cast<T>(not_a_number);
        });
        const auto b = side == Side::left ? random_matrix<T>(n, m, 1) : random_matrix<T>(m, n, 1);
        Matrix<T> x = b;
        algebra().solve(side, t.handle(), triangle, op, x.handle());
        const auto half = only(triangle, t);
        const auto again =
            side == Side::left ? naive_product(half, op, x, Op::none) : naive_product(x, Op::none, half, op);
        QVERIFY(distance(again, b) < 4 * tolerance<T>(n));
        QVERIFY(x.gaps_untouched());
    }

    std::unique_ptr<Device> device_ = make_cpu_device(2);
};

QTEST_GUILESS_MAIN(AlgebraTest)
#include "algebra_test.moc"
