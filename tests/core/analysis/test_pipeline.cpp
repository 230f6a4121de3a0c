#include <QElapsedTimer>
#include <QTest>

#include <cmath>
#include <set>
#include <thread>

#include "core/analysis/pipeline.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;
using qs::test::random_weights;
using qs::test::to_bf16;

namespace {

/// Σ over all elements in long double, from the reconstruction that the device gives.
struct Independent {
    long double d2 = 0, d = 0, w2 = 0, wv = 0, v2 = 0;
    double max_abs = 0;
    std::uint64_t max_index = 0;
};

Independent measure(const std::vector<float>& weights, const std::vector<float>& decoded) {
    Independent sums;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const long double w = weights[i], v = decoded[i];
        sums.d2 += (w - v) * (w - v);
        sums.d += v - w;
        sums.w2 += w * w;
        sums.wv += w * v;
        sums.v2 += v * v;
        const double error = std::abs(static_cast<double>(weights[i]) - static_cast<double>(decoded[i]));
        if (error > sums.max_abs) {
            sums.max_abs = error;
            sums.max_index = i;
        }
    }
    return sums;
}

std::vector<FormatSpec> all_formats() {
    std::vector<FormatSpec> specs;
    for (const Format& format : formats())
        if (format.importance != Importance::required)
            specs.push_back(parse_spec(format.id));
    for (const char* text : {"nf4:dq", "nf4:block=4096", "fp4:dq", "int4:affine", "int4:scope=tensor",
                             "fp8_e4m3:scale=channel", "llm_int8:threshold=0.05"})
        specs.push_back(parse_spec(text));
    return specs;
}

void compare_exactly(const FormatResult& a, const FormatResult& b) {
    QCOMPARE(a.stored_bits, b.stored_bits);
    QCOMPARE(a.sums.sum_d2, b.sums.sum_d2);
    QCOMPARE(a.sums.sum_d, b.sums.sum_d);
    QCOMPARE(a.sums.sum_w2, b.sums.sum_w2);
    QCOMPARE(a.sums.sum_v2, b.sums.sum_v2);
    QCOMPARE(a.sums.max_abs, b.sums.max_abs);
    QCOMPARE(a.sums.max_index, b.sums.max_index);
    QCOMPARE(a.usage, b.usage);
}

} // namespace

class TestPipeline : public QObject {
    Q_OBJECT
private slots:
    void metrics_equal_independent_sums_data() {
        QTest::addColumn<std::size_t>("rows");
        QTest::addColumn<std::size_t>("columns");
        QTest::newRow("small") << std::size_t{37} << std::size_t{96};
        QTest::newRow("odd columns") << std::size_t{513} << std::size_t{1021};
        QTest::newRow("several chunks") << std::size_t{1100} << std::size_t{1024};
    }

    void metrics_equal_independent_sums() {
        QFETCH(std::size_t, rows);
        QFETCH(std::size_t, columns);
        const auto stored = to_bf16(random_weights(rows * columns, 1));
        const TensorView view = test::view(stored, DType::bf16, columns);
        std::vector<float> weights(stored.size()), decoded(stored.size());
        load_weights(DType::bf16, false, view.data, 0, weights.size(), weights.data());
        const auto device = make_cpu_device(2);
        JobControl job;
        const auto specs = all_formats();
        const TensorReport report = device->analyze(view, specs, job);
        QCOMPARE(report.results.size(), specs.size());
        for (const FormatResult& result : report.results) {
            const FormatSpec used = result.fallback.value_or(result.spec);
            device->quantize(weights.data(), view.shape, used, nullptr, nullptr, decoded.data(), job);
            const Independent expected = measure(weights, decoded);
            const auto n = static_cast<long double>(weights.size());
            const auto name = result.spec.text();
            const auto near = [&](double actual, long double wanted, long double scale) {
                return std::abs(actual - static_cast<double>(wanted)) <= 1e-9 * static_cast<double>(scale);
            };
            QVERIFY2(near(result.mse(), expected.d2 / n, expected.d2 / n), name.c_str());
            QVERIFY2(near(result.mean_error(), expected.d / n, std::sqrt(expected.d2 / n)), name.c_str());
            QVERIFY2(
                near(result.cosine(), expected.d2 == 0 ? 1 : expected.wv / std::sqrt(expected.w2 * expected.v2), 1),
                name.c_str());
            QVERIFY2(near(result.relative_error(), std::sqrt(expected.d2 / expected.w2), 1), name.c_str());
            QCOMPARE(result.sums.max_abs, expected.max_abs);
            QCOMPARE(result.sums.max_index, expected.max_index);
            std::uint64_t used_codes = 0;
            for (const auto count : result.usage)
                used_codes += count;
            QVERIFY2(result.usage.empty() || used_codes == weights.size(), name.c_str());
        }
    }

    void results_do_not_depend_on_threads_or_company() {
        const auto stored = to_bf16(random_weights(1500 * 1536, 2));
        const TensorView view = test::view(stored, DType::bf16, 1536);
        const auto specs = all_formats();
        JobControl job;
        const TensorReport one = make_cpu_device(1)->analyze(view, specs, job);
        const TensorReport four = make_cpu_device(4)->analyze(view, specs, job);
        QCOMPARE(one.statistics.mean, four.statistics.mean);
        QCOMPARE(one.statistics.excess_kurtosis, four.statistics.excess_kurtosis);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            compare_exactly(one.results[i], four.results[i]);
            const TensorReport alone = make_cpu_device(3)->analyze(view, std::span(&specs[i], 1), job);
            compare_exactly(one.results[i], alone.results[0]);
        }
    }

    void float32_and_bf16_agree() {
        const auto stored = to_bf16(random_weights(2048 * 1024, 3));
        std::vector<float> weights(stored.size());
        const TensorView narrow = test::view(stored, DType::bf16, 1024);
        load_weights(DType::bf16, false, narrow.data, 0, weights.size(), weights.data());
        const auto specs = parse_specs("nf4,fp4,nf4:dq,int8,q4_0");
        JobControl job;
        const auto device = make_cpu_device(2);
        const TensorReport a = device->analyze(narrow, specs, job);
        const TensorReport b = device->analyze(test::view(weights, DType::f32, 1024), specs, job);
        QVERIFY(std::abs(a.statistics.std / b.statistics.std - 1) < 1e-12);
        QCOMPARE(a.statistics.beyond_3_sigma, b.statistics.beyond_3_sigma);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            QVERIFY(std::abs(a.results[i].mse() / b.results[i].mse() - 1) < 1e-9);
            QCOMPARE(a.results[i].sums.max_index, b.results[i].sums.max_index);
            QCOMPARE(a.results[i].sums.max_abs, b.results[i].sums.max_abs);
            QCOMPARE(a.results[i].usage, b.results[i].usage);
        }
    }

    void non_finite_weights_are_counted_and_left_out() {
        auto weights = random_weights(128 * 256, 4);
        weights[5] = std::numeric_limits<float>::quiet_NaN();
        weights[300] = std::numeric_limits<float>::infinity();
        JobControl job;
        const auto report =
            make_cpu_device(1)->analyze(test::view(weights, DType::f32, 256), parse_specs("nf4,int8,q8_0,bf16"), job);
        QCOMPARE(report.statistics.nan, 1U);
        QCOMPARE(report.statistics.inf, 1U);
        for (const FormatResult& result : report.results) {
            QCOMPARE(result.sums.nonfinite, 2U);
            QCOMPARE(result.sums.count, weights.size() - 2);
            QVERIFY(std::isfinite(result.mse()));
        }
    }

    void cancels_within_100_ms() {
        const std::vector<float> weights(std::size_t{64} << 20, 0.5F);
        const TensorView view = test::view(weights, DType::f32, 4096);
        const auto device = make_cpu_device(2);
        JobControl job;
        const auto specs = all_formats();
        QElapsedTimer since_cancel;
        std::thread canceller([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(300));
            since_cancel.start();
            job.cancel();
        });
        bool cancelled = false;
        try {
            device->analyze(view, specs, job);
        } catch (const Cancelled&) {
            cancelled = true;
        }
        const qint64 waited = since_cancel.isValid() ? since_cancel.elapsed() : -1;
        canceller.join();
        QVERIFY(cancelled);
        QVERIFY2(waited < 100, qPrintable(QString("%1 ms").arg(waited)));
    }

    void histogram_counts_every_weight() {
        const auto weights = random_weights(700 * 1000, 5);
        JobControl job;
        const auto specs = parse_specs("int4,nf4,q4_0");
        const HistogramSet set =
            make_cpu_device(2)->histogram(test::view(weights, DType::f32, 1000), specs, -0.05, 0.05, 101, job);
        std::vector<std::uint64_t> expected(101);
        std::uint64_t below = 0, above = 0;
        for (const float weight : weights) {
            const double w = weight;
            if (w < -0.05)
                ++below;
            else if (w > 0.05)
                ++above;
            else
                ++expected[std::min<std::size_t>(100, static_cast<std::size_t>((w + 0.05) * (101 / 0.1)))];
        }
        QCOMPARE(set.weights.below, below);
        QCOMPARE(set.weights.above, above);
        std::uint64_t differing = 0;
        for (std::size_t i = 0; i < expected.size(); ++i)
            differing += expected[i] > set.weights.counts[i] ? expected[i] - set.weights.counts[i]
                                                             : set.weights.counts[i] - expected[i];
        QVERIFY2(differing <= 4, "only a weight on an edge may fall to either side");
        for (const Histogram& reconstruction : set.reconstructions) {
            std::uint64_t total = reconstruction.below + reconstruction.above;
            for (const auto count : reconstruction.counts)
                total += count;
            QCOMPARE(total, weights.size());
        }
    }

    void selects_matrices_and_says_what_it_skips() {
        const QTemporaryDir folder;
        const auto matrix = random_weights(64 * 64, 6);
        const std::vector<float> vector(64, 1.0F);
        const std::vector<std::int64_t> ids(8, 1);
        const auto checkpoint = open_checkpoint(
            test::write_safetensors(folder, "m.safetensors",
                                    {test::stored("model.layers.0.mlp.up_proj.weight", "F32", {64, 64}, matrix),
                                     test::stored("model.norm.weight", "F32", {64}, vector),
                                     test::stored("positions", "I64", {2, 4}, ids)})
                .toStdString());
        const Selection chosen = select_tensors(*checkpoint);
        QCOMPARE(chosen.tensors.size(), std::size_t{1});
        QCOMPARE(chosen.skipped.size(), std::size_t{2});
        QVERIFY(!chosen.skipped[0].reason.empty());
        QCOMPARE(select_tensors(*checkpoint, "model.norm*").tensors.size(), std::size_t{1});
        QVERIFY_EXCEPTION_THROWN(select_tensors(*checkpoint, "nothing*"), Error);
    }

    void whole_checkpoint_reports_in_order_and_adds_up() {
        const QTemporaryDir folder;
        std::vector<test::StoredTensor> tensors;
        for (int layer = 0; layer < 3; ++layer)
            for (const char* name : {"q_proj", "k_proj", "v_proj"})
                tensors.push_back(test::stored(
                    QString("model.layers.%1.self_attn.%2.weight").arg(layer).arg(name).toStdString(), "BF16",
                    {128, 256}, to_bf16(random_weights(128 * 256, static_cast<unsigned>(10 * layer)))));
        const auto checkpoint =
            open_checkpoint(test::write_safetensors(folder, "m.safetensors", tensors).toStdString());
        const auto selection = select_tensors(*checkpoint);
        const auto specs = parse_specs("nf4,int8");
        const auto device = make_cpu_device(2);
        JobControl job;
        std::set<std::size_t> reported;
        const auto reports = analyze(*checkpoint, selection.tensors, specs, *device, job,
                                     [&](const TensorReport& report) { reported.insert(report.tensor); });
        QCOMPARE(reported.size(), std::size_t{9});
        QCOMPARE(job.done(), job.total());
        double d2 = 0;
        for (std::size_t i = 0; i < reports.size(); ++i) {
            QCOMPARE(reports[i].tensor, selection.tensors[i]);
            d2 += reports[i].results[0].sums.sum_d2;
        }
        const ModelReport model = aggregate(*checkpoint, specs, reports);
        QCOMPARE(model.model[0].tensors, 9U);
        QCOMPARE(model.model[0].total.sums.sum_d2, d2);
        QCOMPARE(model.layers.size(), std::size_t{3});
        QCOMPARE(model.roles.size(), std::size_t{3});
        QCOMPARE(model.layers.at(1)[1].tensors, 3U);
        QCOMPARE(model.model[0].total.elements, 9U * 128 * 256);
    }
};

QTEST_GUILESS_MAIN(TestPipeline)
#include "test_pipeline.moc"
