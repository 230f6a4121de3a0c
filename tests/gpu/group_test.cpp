#include <QtTest>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/analysis/pipeline.h"
#include "core/checkpoint/checkpoint.h"
#include "core/device/discovery.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"

using namespace qs;

/// Three GPUs, emulated, that share a checkpoint's tensors.
class GroupTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        qputenv("QUANTOSCOPE_EMULATED_GPUS", "3");
        checkpoint_ = open_checkpoint(QUANTOSCOPE_RESOURCES_DIR "/demo");
        selection_ = select_tensors(*checkpoint_);
        cpu_ = analyzed(*make_device("cpu"));
    }

    void all_are_listed_and_made_together() {
        const auto devices = list_devices();
        QCOMPARE(devices.size(), std::size_t{5});
        QCOMPARE(devices[1].id, std::string("cuda"));
        QCOMPARE(devices[1].name, std::string("3 x emulated GPU"));
        QCOMPARE(devices[1].members, 3);
        QCOMPARE(devices[1].memory_bytes, 3 * devices[2].memory_bytes);
        QCOMPARE(default_device(devices), std::string("cuda"));
        for (const char* id : {"auto", "cuda"})
            QCOMPARE(make_device(id)->info().name, devices[1].name);
        for (const char* id : {"cuda:0", "cuda:2"})
            QCOMPARE(make_device(id)->info().id, std::string(id));
        qputenv("QUANTOSCOPE_EMULATED_GPUS", "1");
        QCOMPARE(list_devices().size(), std::size_t{2});
        QCOMPARE(make_device("cuda")->info().id, std::string("cuda:0"));
        qputenv("QUANTOSCOPE_EMULATED_GPUS", "3");
    }

    void a_checkpoint_gives_the_results_of_one() {
        const auto all = make_device("cuda");
        const auto together = analyzed(*all), again = analyzed(*all), alone = analyzed(*make_device("cuda:1"));
        QVERIFY(all->notes().empty());
        QVERIFY(identical(together, alone));
        QVERIFY(identical(together, again));
        compare_with_cpu(together);
    }

    /// What a GPU without memory says shows that each of them was given work.
    void each_gets_some() {
        qputenv("QUANTOSCOPE_EMULATED_MEMORY", "4096");
        const auto all = make_device("cuda");
        const auto reports = analyzed(*all);
        qunsetenv("QUANTOSCOPE_EMULATED_MEMORY");
        compare_with_cpu(reports);
        for (const char* id : {"(cuda:0)", "(cuda:1)", "(cuda:2)"})
            QVERIFY2(std::ranges::any_of(all->notes(),
                                         [&](const std::string& note) { return note.find(id) != std::string::npos; }),
                     id);
    }

    /// The emulated driver does not recover: the last of the tests.
    void the_cpu_goes_on_where_they_are_lost() {
        qputenv("QUANTOSCOPE_EMULATED_LOST", "20");
        const auto all = with_cpu_fallback(make_device("cuda"));
        compare_with_cpu(analyzed(*all));
        QCOMPARE(all->info().id, std::string("cpu"));
        const auto notes = all->notes();
        QCOMPARE(notes.size(), std::size_t{1});
        QVERIFY2(notes[0].starts_with("3 x emulated GPU (cuda) has failed: "), notes[0].c_str());
    }

private:
    std::vector<TensorReport> analyzed(Device& device) const {
        JobControl job;
        return analyze(*checkpoint_, selection_.tensors, parse_specs("nf4,int8,q4_0"), device, job);
    }

    static bool identical(const std::vector<TensorReport>& a, const std::vector<TensorReport>& b) {
        return std::ranges::equal(a, b, [](const TensorReport& x, const TensorReport& y) {
            return x.statistics.mean == y.statistics.mean && x.statistics.std == y.statistics.std &&
                   std::ranges::equal(x.results, y.results, [](const FormatResult& p, const FormatResult& q) {
                       return std::memcmp(&p.sums, &q.sums, sizeof(ErrorSums)) == 0 && p.usage == q.usage;
                   });
        });
    }

    void compare_with_cpu(const std::vector<TensorReport>& reports) const {
        QCOMPARE(reports.size(), cpu_.size());
        for (std::size_t i = 0; i < reports.size(); ++i)
            for (std::size_t k = 0; k < reports[i].results.size(); ++k) {
                const FormatResult& here = reports[i].results[k];
                const FormatResult& there = cpu_[i].results[k];
                QVERIFY(here.usage == there.usage);
                QCOMPARE(here.sums.max_index, there.sums.max_index);
                QVERIFY(std::abs(here.sums.sum_d2 - there.sums.sum_d2) <= 1e-9 * there.sums.sum_d2);
            }
    }

    std::shared_ptr<const Checkpoint> checkpoint_;
    Selection selection_;
    std::vector<TensorReport> cpu_;
};

QTEST_GUILESS_MAIN(GroupTest)
#include "group_test.moc"
