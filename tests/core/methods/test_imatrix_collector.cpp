#include <QTest>

#include <cmath>

#include "core/methods/imatrix_collector.h"
#include "tests/core/checkpoint/made_files.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

/// A layer and experts, one of which no token came to.
ImatrixCollector collected(std::uint32_t chunk) {
    ImatrixCollector collector(chunk);
    collector.add_dataset("first.txt");
    collector.add_dataset("second.txt");
    const MadeLayer layer(1, 70, 1000, 1);
    for (std::size_t token = 0; token < 1000; token += 125)
        collector.add("blk.0.attn_q.weight", layer.inputs.data() + token * 70, 125, 70);
    collector.add("blk.0.ffn_down.weight", layer.inputs.data(), 1000, 70);
    for (std::size_t expert : {0U, 2U})
        collector.add("blk.0.ffn_up_exps.weight", layer.inputs.data(), 333 * (expert + 1) % 500, 70, expert, 3);
    return collector;
}

} // namespace

class TestImatrixCollector : public QObject {
    Q_OBJECT

private:
    Files files_;

    std::filesystem::path path(const char* name) { return files_.write(name, ""); }

private slots:
    void means_of_squares() {
        const MadeLayer layer(1, 70, 1000, 1);
        const ImportanceMatrix matrix = collected(512).importance();
        const std::vector<float>& values = *matrix.find("blk.0.attn_q.weight");
        const auto means = layer.calibration().mean_square();
        for (std::size_t i = 0; i < 70; ++i)
            QVERIFY(std::abs(values[i] - means[i]) < 1e-6 * means[i]);
        QCOMPARE(*matrix.find("blk.0.ffn_down.weight"), values);
        const std::vector<float>& experts = *matrix.find("blk.0.ffn_up_exps.weight");
        QCOMPARE(experts.size(), std::size_t{210});
        QVERIFY(std::all_of(experts.begin() + 70, experts.begin() + 140, [](float value) { return value == 1; }));
    }

    void both_files_read_back_to_the_bit() {
        for (const std::uint32_t chunk : {1U, 7U, 100U, 512U, 4096U}) {
            const ImatrixCollector collector = collected(chunk);
            const auto entries = collector.importance().entries;
            QCOMPARE(entries.size(), std::size_t{3});
            const auto gguf = path("imatrix.gguf"), binary = path("imatrix.dat");
            collector.write_gguf(gguf);
            collector.write_binary(binary);
            QVERIFY(open_imatrix(gguf).entries == entries);
            QVERIFY(open_imatrix(binary).entries == entries);
        }
    }

    /// One that was read can be written again, in either form.
    void import_and_export() {
        const auto first = path("first.gguf");
        collected(512).write_gguf(first);
        const ImportanceMatrix read = open_imatrix(first);
        ImatrixCollector again;
        for (const auto& [name, values] : read.entries)
            again.add_sums(name, {values.begin(), values.end()}, 1);
        const auto gguf = path("again.gguf"), binary = path("again.dat");
        again.write_gguf(gguf);
        again.write_binary(binary);
        QVERIFY(open_imatrix(gguf).entries == read.entries);
        QVERIFY(open_imatrix(binary).entries == read.entries);
    }

    void sizes_must_agree() {
        ImatrixCollector collector = collected(512);
        const std::vector<float> inputs(80);
        QVERIFY_EXCEPTION_THROWN(collector.add("blk.0.attn_q.weight", inputs.data(), 1, 80), Error);
        QVERIFY_EXCEPTION_THROWN(collector.add("blk.0.attn_q.weight", inputs.data(), 1, 70, 0, 2), Error);
    }

    void leaves_out_what_is_not_finite() {
        ImatrixCollector collector;
        const float inputs[] = {1, 2, NAN, 4, 3, 2};
        collector.add("e", inputs, 3, 2);
        QCOMPARE(*collector.importance().find("e"), (std::vector<float>{5, 4}));
    }
};

QTEST_GUILESS_MAIN(TestImatrixCollector)
#include "test_imatrix_collector.moc"
