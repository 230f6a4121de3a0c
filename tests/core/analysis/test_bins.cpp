#include <QTest>

#include <algorithm>
#include <cmath>

#include "core/analysis/bins.h"
#include "core/analysis/statistics.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;
using qs::test::random_weights;

class TestBins : public QObject {
    Q_OBJECT
private slots:
    void bins_add_up_to_the_report() {
        const auto weights = random_weights(300 * 512, 1);
        const TensorView view = test::view(weights, DType::f32, 512);
        JobControl job;
        for (const FormatSpec& spec : parse_specs("nf4,fp4,int4,int4:affine,int8,fp8_e4m3,q4_0,q4_1,q8_0")) {
            const auto bins = measure_bins(view, spec, job);
            QVERIFY2(bins.has_value(), spec.text().c_str());
            const TensorReport report = make_cpu_device(1)->analyze(view, std::span(&spec, 1), job);
            std::uint64_t used = 0;
            double error = 0;
            for (std::size_t i = 0; i < bins->usage.size(); ++i) {
                used += bins->usage[i];
                error += bins->error[i];
                QCOMPARE(bins->usage[i], report.results[0].usage[bins->codebook.levels[i].code]);
            }
            QCOMPARE(used, weights.size());
            QVERIFY(std::abs(error / report.results[0].sums.sum_d2 - 1) < 1e-9);
            QVERIFY(std::abs(bins->entropy - report.results[0].code_entropy()) < 1e-12);
            QVERIFY(bins->positions.below + bins->positions.above <= weights.size() / 100);
            QVERIFY(std::is_sorted(bins->codebook.boundaries.begin(), bins->codebook.boundaries.end()));
        }
        QVERIFY(!measure_bins(view, parse_spec("bf16"), job).has_value());
    }

    void probe_finds_the_level_between_boundaries() {
        const auto weights = random_weights(64 * 64, 2);
        JobControl job;
        const auto bins = measure_bins(test::view(weights, DType::f32, 64), parse_spec("nf4"), job);
        QCOMPARE(bins->codebook.levels.size(), std::size_t{16});
        QCOMPARE(probe(bins->codebook, -2).level, std::size_t{0});
        QCOMPARE(probe(bins->codebook, 2).level, std::size_t{15});
        const Probe zero = probe(bins->codebook, 0.01);
        QCOMPARE(zero.code, 7U);
        QVERIFY(std::abs(zero.error + 0.01) < 1e-12);
    }

    void absmax_of_blocks_and_their_merging() {
        auto weights = random_weights(100 * 64, 3);
        weights[6000] = std::numeric_limits<float>::infinity();
        const TensorView view = test::view(weights, DType::f32, 64);
        JobControl job;
        const auto rows = block_absmax(view, 0, 1000, job);
        QCOMPARE(rows.size(), std::size_t{100});
        float expected = 0;
        for (std::size_t i = 0; i < 64; ++i)
            expected = std::max(expected, std::abs(weights[i]));
        QCOMPARE(rows[0], expected);
        const auto merged = block_absmax(view, 32, 50, job);
        QCOMPARE(merged.size(), std::size_t{50});
        QCOMPARE(merged[0], std::max({rows[0], rows[1]}));
        QVERIFY(std::all_of(merged.begin(), merged.end(), [](float value) { return std::isfinite(value); }));
    }

    void quantiles_of_a_normal_sample_lie_on_the_line() {
        const auto weights = random_weights(1 << 16, 4, 0.5);
        JobControl job;
        const auto points = quantile_quantile(test::view(weights, DType::f32, 256), 99, job);
        QCOMPARE(points.size(), std::size_t{99});
        for (const QuantilePoint& point : points)
            if (std::abs(point.normal) < 2)
                QVERIFY2(std::abs(point.weight - 0.5 * point.normal) < 0.03, qPrintable(QString::number(point.normal)));
        QVERIFY(std::is_sorted(points.begin(), points.end(),
                               [](const auto& a, const auto& b) { return a.weight < b.weight; }));
    }
};

QTEST_GUILESS_MAIN(TestBins)
#include "test_bins.moc"
