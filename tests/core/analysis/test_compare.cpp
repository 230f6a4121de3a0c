#include <QTest>

#include <cmath>
#include <limits>

#include "core/analysis/compare.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"
#include "tests/core/device/made_devices.h"

using namespace qs;
using namespace qs::test;

/// What of two analyses is apart, how far, and where.
class TestCompare : public QObject {
    Q_OBJECT

private:
    const std::vector<FormatSpec> specs_ = parse_specs("nf4,q8_0,fp8_e4m3");
    QTemporaryDir folder_;
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::vector<TensorReport> reports_;

    /// The only thing that is apart after `change` of a report.
    template <class Change>
    Agreement changed(Change change) const {
        std::vector<TensorReport> other = reports_;
        change(other[1]);
        return compare(specs_, reports_, other).overall();
    }

private slots:
    void initTestCase() {
        std::vector<StoredTensor> tensors;
        for (int i = 0; i < 3; ++i)
            tensors.push_back(stored("model.layers." + std::to_string(i) + ".mlp.up_proj.weight", "F32", {32, 64},
                                     random_weights(32 * 64, static_cast<unsigned>(i))));
        checkpoint_ = open_checkpoint(write_safetensors(folder_, "m.safetensors", tensors).toStdString());
        const auto device = make_cpu_device(2);
        JobControl job;
        reports_ = analyze(*checkpoint_, {0, 1, 2}, specs_, *device, job);
    }

    void equal_reports_agree() {
        const Comparison comparison = compare(specs_, reports_, reports_);
        const Agreement all = comparison.overall();
        QVERIFY(all.holds());
        QCOMPARE(all.tensors, std::uint64_t{3});
        QCOMPARE(all.differing, std::uint64_t{0});
        QCOMPARE(all.largest.relative, 0.0);
        QVERIFY(all.largest.metric.empty());
        // Six of the statistics; five of each format and its codes, of which q8_0 and fp8_e4m3 have 256.
        QCOMPARE(comparison.statistics.counts, std::uint64_t{3 * 6});
        QCOMPARE(comparison.formats[0].counts, std::uint64_t{3 * (5 + 16)});
        QVERIFY(comparison.formats[1].counts > 3 * 200);
        QCOMPARE(all.counts, comparison.statistics.counts + comparison.formats[0].counts +
                                 comparison.formats[1].counts + comparison.formats[2].counts);
    }

    void a_metric_is_named_with_its_place() {
        const Agreement all = changed([](TensorReport& report) { report.results[1].sums.sum_d2 *= 1 + 1e-6; });
        QCOMPARE(all.differing, std::uint64_t{0});
        QVERIFY(!all.holds());
        QCOMPARE(all.largest.metric, std::string("mse"));
        QCOMPARE(all.largest.tensor, std::size_t{1});
        QVERIFY(all.largest.format == specs_[1]);
        QVERIFY(std::abs(all.largest.relative - 1e-6) < 1e-9);
    }

    void the_bound() {
        QVERIFY(changed([](TensorReport& report) { report.results[0].sums.sum_d2 *= 1 + 8e-10; }).holds());
        QVERIFY(!changed([](TensorReport& report) { report.results[0].sums.sum_d2 *= 1 + 2e-9; }).holds());
    }

    void counts_must_be_equal() {
        Agreement all = changed([](TensorReport& report) {
            --report.results[0].usage[3];
            ++report.results[0].usage[4];
        });
        QCOMPARE(all.differing, std::uint64_t{2});
        QVERIFY(!all.holds());
        all = changed([](TensorReport& report) { ++report.results[2].sums.max_index; });
        QCOMPARE(all.differing, std::uint64_t{1});
        all = changed([](TensorReport& report) { ++report.statistics.beyond_6_sigma; });
        QCOMPARE(all.differing, std::uint64_t{1});
        all = changed([](TensorReport& report) { report.results[1].fallback = parse_spec("fp16"); });
        QCOMPARE(all.differing, std::uint64_t{1});
    }

    void a_missing_result_differs() {
        const auto drop = [](TensorReport& report) { report.results.pop_back(); };
        QCOMPARE(changed(drop).differing, std::uint64_t{1});
        std::vector<TensorReport> both = reports_;
        drop(both[0]);
        QVERIFY(compare(specs_, both, both).overall().holds());
        QCOMPARE(compare(specs_, both, both).formats[2].tensors, std::uint64_t{2});
    }

    void what_cancels_is_relative_to_its_parts() {
        // A bias of a billionth of the errors' size: its own digits are rounding.
        const auto bias = [](TensorReport& report, double relative_to_rmse) {
            FormatResult& result = report.results[0];
            result.sums.sum_d = relative_to_rmse * result.rmse() * static_cast<double>(result.sums.count);
        };
        std::vector<TensorReport> a = reports_, b = reports_;
        bias(a[0], 1e-9);
        bias(b[0], 1.00001e-9);
        QVERIFY(compare(specs_, a, b).overall().holds());
        bias(b[0], 2e-9 + 1e-12);
        const Agreement apart = compare(specs_, a, b).overall();
        QVERIFY(!apart.holds());
        QCOMPARE(apart.largest.metric, std::string("mean_error"));
        QVERIFY(std::abs(apart.largest.relative - 1e-5) < 1e-7);

        const Agreement mean = changed([](TensorReport& report) { report.statistics.mean += report.statistics.std; });
        QCOMPARE(mean.largest.metric, std::string("mean"));
        QVERIFY(!mean.largest.format);
    }

    void not_a_number() {
        const double nan = std::numeric_limits<double>::quiet_NaN();
        const Agreement one = changed([&](TensorReport& report) { report.statistics.skewness = nan; });
        QCOMPARE(one.largest.metric, std::string("skewness"));
        QVERIFY(std::isinf(one.largest.relative) && !one.holds());
        std::vector<TensorReport> both = reports_;
        both[2].statistics.skewness = nan;
        QVERIFY(compare(specs_, both, both).overall().holds());
        // An exact reconstruction has an infinite SQNR.
        both[2].results[0].sums.sum_d2 = 0;
        QVERIFY(compare(specs_, both, both).overall().holds());
    }

    void counts_that_were_let_go_are_left_out() {
        std::vector<TensorReport> kept = reports_;
        kept[0].results[0].entropy = kept[0].results[0].code_entropy();
        kept[0].results[0].usage = {};
        const Comparison comparison = compare(specs_, kept, reports_);
        QVERIFY(comparison.overall().holds());
        QCOMPARE(comparison.formats[0].counts, std::uint64_t{3 * 5 + 2 * 16});
        kept[0].results[0].usage.clear();
        kept[0].results[0].entropy.reset();
        QVERIFY(!compare(specs_, kept, reports_).overall().holds());
    }

    void devices() {
        const auto one = make_cpu_device(1), two = make_cpu_device(2);
        JobControl job;
        const Comparison same = compare_devices(*checkpoint_, {0, 1, 2}, specs_, *one, *two, job);
        QVERIFY(same.overall().holds());
        QCOMPARE(same.statistics.tensors, std::uint64_t{3});
        QCOMPARE(job.done(), job.total());
        QCOMPARE(job.total(), std::uint64_t{2 * 3 * 4 * 32 * 64});

        NamedDevice wrong("wrong", "cuda", 1);
        wrong.error_factor = 1 + 1e-5;
        const Comparison apart = compare_devices(*checkpoint_, {0, 1, 2}, specs_, *one, wrong, job);
        QVERIFY(!apart.overall().holds());
        QVERIFY(apart.statistics.holds());
        for (const Agreement& each : apart.formats)
            QVERIFY(std::abs(each.largest.relative - 1e-5) < 1e-9 && each.differing == 0);
    }

    void known_reports_are_not_measured_again() {
        NamedDevice broken("broken", "cuda", 1);
        broken.works_for = 1;
        const auto cpu = make_cpu_device(1);
        JobControl job;
        std::vector<TensorReport> known = reports_;
        known[1].results.pop_back(); // lacks a format
        const auto find = [&](std::size_t tensor) { return &known[tensor]; };
        QVERIFY(compare_devices(*checkpoint_, {0, 1, 2}, specs_, broken, *cpu, job, find).overall().holds());
        QCOMPARE(job.total(), std::uint64_t{4 * 4 * 32 * 64});
        QCOMPARE(job.done(), job.total());
        QVERIFY_THROWS_EXCEPTION(Error, compare_devices(*checkpoint_, {0}, specs_, broken, *cpu, job));
        job.cancel();
        QVERIFY_THROWS_EXCEPTION(Cancelled, compare_devices(*checkpoint_, {0}, specs_, *cpu, *cpu, job));
    }

    void json() {
        std::vector<TensorReport> other = reports_;
        other[2].results[1].sums.max_abs *= 2;
        const Json json = comparison_json(*checkpoint_, compare(specs_, reports_, other));
        QVERIFY(json["agrees"] == false && json["bound"] == 1e-9 && json["tensors"] == 3);
        QVERIFY(json["metric"] == "max_abs_error" && json["largest_deviation"] == 0.5);
        QVERIFY(json["tensor"] == "model.layers.2.mlp.up_proj.weight" && json["format"] == "q8_0");
        QCOMPARE(json["formats"].size(), std::size_t{3});
        QVERIFY(json["formats"][0]["format"] == "nf4" && json["formats"][0]["agrees"] == true);
        QVERIFY(json["formats"][0]["metric"].is_null() && json["statistics"]["agrees"] == true);
    }
};

QTEST_APPLESS_MAIN(TestCompare)
#include "test_compare.moc"
