#include <QTest>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/methods/calibration.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

bool near(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * std::abs(b);
}

} // namespace

class TestCalibration : public QObject {
    Q_OBJECT

private slots:
    void sums() {
        const MadeLayer layer(1, 300, 700, 1);
        const Calibration calibration = layer.calibration();
        const auto hessian = calibration.hessian();
        const auto mean_abs = calibration.mean_abs(), mean_square = calibration.mean_square();
        QCOMPARE(calibration.tokens(), 700U);
        for (std::size_t i = 0; i < 300; ++i) {
            double sum_abs = 0, sum_square = 0;
            float absmax = 0;
            for (std::size_t t = 0; t < 700; ++t) {
                const float x = layer.inputs[t * 300 + i];
                sum_abs += std::abs(x);
                sum_square += static_cast<double>(x) * x;
                absmax = std::max(absmax, std::abs(x));
            }
            QCOMPARE(mean_abs[i], sum_abs / 700);
            QCOMPARE(mean_square[i], sum_square / 700);
            QCOMPARE(calibration.absmax()[i], absmax);
            QVERIFY(near(hessian[i * 301], 2 * sum_square / 700, 1e-6));
        }
        for (const auto& [i, j] : {std::pair(3, 4), {299, 0}, {0, 299}, {256, 255}, {130, 290}}) {
            double sum = 0;
            for (std::size_t t = 0; t < 700; ++t)
                sum += static_cast<double>(layer.inputs[t * 300 + static_cast<std::size_t>(i)]) *
                       layer.inputs[t * 300 + static_cast<std::size_t>(j)];
            const double h = hessian[static_cast<std::size_t>(i * 300 + j)];
            QVERIFY(std::abs(h - 2 * sum / 700) < 1e-6 * hessian[301 * 3]);
            QCOMPARE(h, hessian[static_cast<std::size_t>(j * 300 + i)]);
        }
    }

    void parts_merge() {
        const MadeLayer layer(1, 40, 900, 2);
        const CalibrationOptions options{true, 64};
        const Calibration whole = layer.calibration(options);
        Calibration first(40, options), second(40, options);
        first.add(layer.inputs.data(), 256);
        second.add(layer.inputs.data() + 256 * 40, 44);
        second.add(layer.inputs.data() + 300 * 40, 600);
        first.merge(second);
        QCOMPARE(first.tokens(), whole.tokens());
        QCOMPARE(first.absmax(), whole.absmax());
        for (std::size_t i = 0; i < 40; ++i) {
            QVERIFY(near(first.mean_abs()[i], whole.mean_abs()[i], 1e-12));
            QVERIFY(near(first.mean_square()[i], whole.mean_square()[i], 1e-12));
            QVERIFY(near(first.hessian()[i * 41], whole.hessian()[i * 41], 1e-6));
        }
        QCOMPARE(first.kept_rows().size(), std::size_t{64 * 40});
        QVERIFY_EXCEPTION_THROWN(first.merge(Calibration(41, options)), Error);
        QVERIFY_EXCEPTION_THROWN(first.merge(Calibration(40)), Error);
    }

    /// What is kept are inputs, each once, from all of the text, however it was cut.
    void keeps_a_sample() {
        const MadeLayer layer(1, 16, 2000, 3);
        Calibration calibration(16, {false, 100});
        for (std::size_t token = 0; token < 2000; token += 50)
            calibration.add(layer.inputs.data() + token * 16, 50);
        QCOMPARE(calibration.kept_rows(), layer.calibration({false, 100}).kept_rows());
        const auto rows = calibration.kept_rows();
        QCOMPARE(rows.size(), std::size_t{100 * 16});
        std::set<std::size_t> found;
        for (std::size_t row = 0; row < 100; ++row)
            for (std::size_t token = 0; token < 2000; ++token)
                if (std::equal(rows.begin() + static_cast<std::ptrdiff_t>(row * 16),
                               rows.begin() + static_cast<std::ptrdiff_t>(row * 16 + 16),
                               layer.inputs.begin() + static_cast<std::ptrdiff_t>(token * 16)))
                    found.insert(token);
        QCOMPARE(found.size(), std::size_t{100});
        const auto late = std::ranges::count_if(found, [](std::size_t token) { return token >= 1000; });
        QVERIFY(late > 30 && late < 70);
        QVERIFY(layer.calibration({false, 0}).kept_rows().empty());
    }

    void leaves_out_what_is_not_finite() {
        std::vector<float> inputs{1, 2, NAN, 4, 5, 6, 7, std::numeric_limits<float>::infinity()};
        Calibration calibration(2);
        calibration.add(inputs.data(), 4);
        QCOMPARE(calibration.tokens(), 2U);
        QCOMPARE(calibration.nonfinite_tokens(), 2U);
        QCOMPARE(calibration.mean_abs(), (std::vector<double>{3, 4}));
        QCOMPARE(calibration.hessian(), (std::vector<double>{26, 32, 32, 40}));
    }

    void nothing() {
        const Calibration calibration(3);
        QCOMPARE(calibration.hessian(), std::vector<double>(9));
        QCOMPARE(calibration.mean_abs(), std::vector<double>(3));
    }
};

QTEST_GUILESS_MAIN(TestCalibration)
#include "test_calibration.moc"
