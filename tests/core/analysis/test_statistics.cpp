#include <QTest>

#include <cmath>
#include <limits>
#include <numeric>

#include "core/analysis/statistics.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;

namespace {

/// The definitions of PRODUCT.md in long double, term by term.
Statistics by_definition(const std::vector<float>& weights) {
    Statistics s;
    s.count = weights.size();
    long double n = 0, sum = 0;
    s.min = std::numeric_limits<double>::infinity();
    s.max = -s.min;
    for (const float w : weights) {
        s.nan += std::isnan(w);
        s.inf += std::isinf(w);
        s.zeros += w == 0;
        if (!std::isfinite(w))
            continue;
        s.min = std::min<double>(s.min, w);
        s.max = std::max<double>(s.max, w);
        sum += w;
        ++n;
    }
    const long double mean = sum / n;
    long double m2 = 0, m3 = 0, m4 = 0;
    for (const float w : weights) {
        if (!std::isfinite(w))
            continue;
        const long double d = w - mean;
        m2 += d * d;
        m3 += d * d * d;
        m4 += d * d * d * d;
    }
    const long double std = std::sqrt(m2 / n);
    s.mean = static_cast<double>(mean);
    s.std = static_cast<double>(std);
    s.skewness = static_cast<double>(m3 / n / (std * std * std));
    s.excess_kurtosis = static_cast<double>(m4 / n / (std * std * std * std) - 3);
    for (const float w : weights) {
        if (!std::isfinite(w))
            continue;
        s.beyond_3_sigma += std::abs(w - mean) > 3 * std;
        s.beyond_6_sigma += std::abs(w - mean) > 6 * std;
    }
    return s;
}

bool close(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b));
}

void compare(const Statistics& actual, const Statistics& expected) {
    QCOMPARE(actual.count, expected.count);
    QCOMPARE(actual.zeros, expected.zeros);
    QCOMPARE(actual.nan, expected.nan);
    QCOMPARE(actual.inf, expected.inf);
    QCOMPARE(actual.min, expected.min);
    QCOMPARE(actual.max, expected.max);
    QVERIFY2(std::abs(actual.mean - expected.mean) <= 1e-12 * expected.std, qPrintable(QString::number(actual.mean)));
    QVERIFY(close(actual.std / expected.std, 1, 1e-12));
    QVERIFY(close(actual.skewness, expected.skewness, 1e-10));
    QVERIFY(close(actual.excess_kurtosis, expected.excess_kurtosis, 1e-10));
}

std::vector<float> with_odd_values(std::size_t count) {
    auto weights = test::random_weights(count, 7);
    weights[3] = std::numeric_limits<float>::quiet_NaN();
    weights[11] = std::numeric_limits<float>::infinity();
    weights[12] = -std::numeric_limits<float>::infinity();
    weights[20] = 0;
    weights[21] = -0.0F;
    return weights;
}

} // namespace

class TestStatistics : public QObject {
    Q_OBJECT
private slots:
    void moments_follow_their_definition() {
        const auto weights = with_odd_values(10007);
        compare(finish(moments_of(weights)), by_definition(weights));
    }

    void merged_parts_equal_the_whole() {
        auto weights = with_odd_values(50000);
        for (float& w : weights)
            w += 1; // a mean far from zero is what naive sums of powers fail on
        Moments merged;
        for (std::size_t i = 0; i < weights.size(); i += 1234)
            merged.merge(moments_of(std::span(weights).subspan(i, std::min<std::size_t>(1234, weights.size() - i))));
        compare(finish(merged), by_definition(weights));
    }

    void no_finite_weight_gives_nan_not_zero() {
        const std::vector<float> weights(5, std::numeric_limits<float>::quiet_NaN());
        const Statistics statistics = finish(moments_of(weights));
        QCOMPARE(statistics.nan, 5U);
        QVERIFY(std::isnan(statistics.mean) && std::isnan(statistics.std) && std::isnan(statistics.min));
    }

    void patterns_give_the_same_statistics_data() {
        QTest::addColumn<int>("dtype");
        QTest::newRow("bf16") << static_cast<int>(DType::bf16);
        QTest::newRow("f16") << static_cast<int>(DType::f16);
    }

    void patterns_give_the_same_statistics() {
        QFETCH(int, dtype);
        const bool bf16 = static_cast<DType>(dtype) == DType::bf16;
        std::vector<std::uint64_t> counts(65536);
        auto weights = with_odd_values(20000);
        for (float& w : weights) {
            const std::uint16_t pattern = bf16 ? float_to_bf16(w) : float_to_fp16(w);
            ++counts[pattern];
            w = bf16 ? bf16_to_float(pattern) : fp16_to_float(pattern);
        }
        const Statistics expected = by_definition(weights);
        const Statistics actual = statistics_of_patterns(counts, static_cast<DType>(dtype));
        compare(actual, expected);
        QCOMPARE(actual.beyond_3_sigma, expected.beyond_3_sigma);
        QCOMPARE(actual.beyond_6_sigma, expected.beyond_6_sigma);
        QVERIFY(actual.beyond_6_sigma > 0);
    }
};

QTEST_GUILESS_MAIN(TestStatistics)
#include "test_statistics.moc"
