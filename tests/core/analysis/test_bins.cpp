#include <QTest>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/analysis/bins.h"
#include "core/analysis/statistics.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;
using qs::test::random_weights;

class TestBins : public QObject {
    Q_OBJECT
    static constexpr std::uint64_t columns = 1024, rows = 8;

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

    void a_code_that_is_never_made_has_no_room() {
        const auto weights = random_weights(64 * 256, 5);
        JobControl job;
        const auto bins = measure_bins(test::view(weights, DType::f32, 256), parse_spec("mxfp4_ggml"), job);
        const auto& [levels, boundaries] = bins->codebook;
        // −0 is code 8, and ggml rounds what is near zero to code 0.
        QCOMPARE(levels[7].code, 8U);
        QCOMPARE(bins->usage[7], std::uint64_t{0});
        QCOMPARE(boundaries[7], boundaries[6]);
        QCOMPARE(probe(bins->codebook, -0.01).code, 0U);
    }

    void block_bins_are_the_encoded_block_data() {
        QTest::addColumn<QString>("spec");
        QTest::addColumn<quint64>("size"); // weights that share their levels
        const auto row = [](const char* spec, quint64 size) { QTest::newRow(spec) << QString(spec) << size; };
        row("nf4", 64);
        row("fp4:block=128", 128);
        row("nf4:dq", 64);
        row("int8", columns);
        row("int8:scope=tensor", columns * rows);
        row("int4", 128);
        row("int4:group=96", 96);
        row("int4:affine", 128);
        row("fp8_e4m3", columns * rows);
        row("fp8_e5m2:scale=channel", columns);
        row("llm_int8", columns);
        row("q4_0", 32);
        row("q5_1", 32);
        row("q8_0", 32);
        row("q2_K", 16);
        row("q3_K", 16);
        row("q4_K", 32);
        row("q5_K", 32);
        row("q6_K", 16);
        row("iq4_nl", 32);
        row("iq4_xs", 32);
        row("tq1_0", 256);
        row("tq2_0", 256);
        row("q1_0", 128);
        row("q2_0", 64);
        row("mxfp4_ggml", 32);
        row("nvfp4_ggml", 16);
    }

    /// The same levels, codes and errors as encoding everything and decoding it.
    void block_bins_are_the_encoded_block() {
        QFETCH(QString, spec);
        QFETCH(quint64, size);
        const auto weights = random_weights(columns * rows, 6);
        const TensorView view = test::view(weights, DType::f32, columns);
        const FormatSpec format = parse_spec(spec.toStdString());
        JobControl job;

        const auto codec = bind_codec(format, view.shape);
        if (codec->needs_scan()) {
            codec->scan(weights.data(), 0, weights.size());
            codec->finish_scan();
        }
        std::vector<std::byte> encoded(codec->encoded_bytes(0, weights.size()));
        codec->encode(weights.data(), 0, weights.size(), encoded.data());
        std::vector<float> decoded(weights.size());
        codec->decode(encoded.data(), 0, weights.size(), decoded.data());
        std::vector<std::uint16_t> codes(weights.size());
        codec->quantize(weights.data(), 0, weights.size(), codes.data(), nullptr);

        for (const std::uint64_t element : {std::uint64_t{0}, columns + 517, columns * rows - 1}) {
            const auto measured = measure_block_bins(view, format, element, job);
            QVERIFY(measured.has_value());
            const auto& [begin, end] = std::pair(measured->block.begin, measured->block.end);
            const BinsReport& bins = measured->bins;
            QVERIFY(begin <= element && element < end);
            QVERIFY(end - begin == size || end % columns == 0); // the last group of a row may be short
            QCOMPARE(measured->weights.size(), end - begin <= most_listed_weights ? end - begin : 0);

            const std::size_t levels = bins.codebook.levels.size();
            std::vector<std::uint64_t> usage(levels, 0);
            std::vector<double> error(levels, 0.0);
            for (std::uint64_t i = begin; i < end; ++i) {
                const auto level = static_cast<std::size_t>(
                    std::ranges::find(bins.codebook.levels, codes[i], &Level::code) - bins.codebook.levels.begin());
                QVERIFY(level < levels);
                QCOMPARE(static_cast<float>(bins.codebook.levels[level].value), decoded[i]);
                if (!measured->weights.empty()) {
                    QCOMPARE(measured->weights[i - begin].weight, weights[i]);
                    QCOMPARE(measured->weights[i - begin].level, level);
                }
                ++usage[level];
                error[level] += std::pow(static_cast<double>(weights[i]) - static_cast<double>(decoded[i]), 2);
            }
            QCOMPARE(bins.usage, usage);
            QCOMPARE(bins.error, error);
            QVERIFY(std::ranges::is_sorted(bins.codebook.levels, {}, &Level::value));
            for (std::size_t i = 1; i < levels; ++i) {
                const double low = bins.codebook.levels[i - 1].value, high = bins.codebook.levels[i].value;
                if (low < high)
                    QCOMPARE(bins.codebook.boundaries[i - 1], (low + high) / 2);
            }
            QVERIFY(std::abs(measured->bits() - codec->stored_bits() * (end - begin) / weights.size()) < 1e-6);
        }
    }

    void evenly_spaced_levels_have_a_step() {
        const auto weights = random_weights(4 * 256, 7);
        const TensorView view = test::view(weights, DType::f32, 256);
        JobControl job;
        const auto even = measure_block_bins(view, parse_spec("q4_K"), 300, job);
        QVERIFY(std::abs(even->lowest() + 15 * even->step - even->highest()) < 1e-6);
        QVERIFY(even->lowest() < 0); // the minimum
        QVERIFY(std::isnan(measure_block_bins(view, parse_spec("nf4"), 300, job)->step));
        QVERIFY(!measure_block_bins(view, parse_spec("bf16"), 300, job).has_value());
    }

    void a_block_of_zeros_has_one_level() {
        const std::vector<float> weights(512, 0.0F);
        JobControl job;
        for (const Format& entry : formats()) {
            if (entry.importance == Importance::required)
                continue;
            const auto measured =
                measure_block_bins(test::view(weights, DType::f32, 512), parse_spec(entry.id), 100, job);
            if (!measured || measured->lowest() != measured->highest())
                continue; // integers and fp8 scale by 1 then
            QVERIFY2(std::isnan(measured->step), entry.id.c_str());
            QCOMPARE(measured->lowest(), 0.0);
            const auto& counts = measured->bins.positions.counts;
            QCOMPARE(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}), measured->block.count());
        }
    }

    void short_blocks_and_bad_weights() {
        auto weights = random_weights(3 * 100, 8);
        weights[299] = std::numeric_limits<float>::infinity();
        const TensorView view = test::view(weights, DType::f32, 100);
        JobControl job;
        const auto flat = measure_block_bins(view, parse_spec("nf4"), 270, job);
        QCOMPARE(flat->block, (LevelBlock{4, 256, 300}));
        QCOMPARE(flat->blocks, std::uint64_t{5});
        QCOMPARE(flat->bins.positions.nonfinite, std::uint64_t{1});
        QCOMPARE(std::accumulate(flat->bins.usage.begin(), flat->bins.usage.end(), std::uint64_t{0}),
                 std::uint64_t{43});
        // Groups of integers begin anew with each row.
        const auto grouped = measure_block_bins(view, parse_spec("int4:group=64"), 170, job);
        QCOMPARE(grouped->block, (LevelBlock{3, 164, 200}));
        // q4_K falls back here.
        QCOMPARE(measure_block_bins(view, parse_spec("q4_0"), 0, job).has_value(), false); // to fp16
    }

    void blocks_are_numbered_in_order() {
        const TensorShape shape{7, 320};
        for (const Format& entry : formats()) {
            const BlockNumbers numbers(parse_spec(entry.id), shape);
            std::uint64_t element = 0;
            for (std::uint64_t index = 0; index < numbers.count(); ++index) {
                QCOMPARE(numbers.first(index), element);
                QCOMPARE(numbers.at(element).index, index);
                QCOMPARE(numbers.at(element).begin, element);
                element = numbers.at(element).end;
                QCOMPARE(numbers.at(element - 1).index, index);
            }
            QCOMPARE(element, shape.count());
        }
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
