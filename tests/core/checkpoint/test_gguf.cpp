#include <QTest>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/formats/load.h"
#include "tests/core/checkpoint/made_files.h"

using namespace qs;
using namespace qs::test;

namespace {

constexpr std::uint32_t u8 = 0, u32 = 4, text = 8, array = 9;
constexpr std::uint32_t f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, q8_k = 15;

} // namespace

class GgufTest : public QObject {
    Q_OBJECT

private:
    Files files_;

private slots:
    void reads_a_file() {
        const auto path = files_.write(
            "a.gguf", gguf({gguf_entry("general.architecture", text, gguf_string("llama")),
                            gguf_entry("llama.block_count", u32, le(std::uint32_t{2})),
                            gguf_entry("list", array, le(u8) + le(std::uint64_t{3}) + QByteArray("\1\2\3"))},
                           {gguf_tensor("blk.1.ffn_down.weight", {64, 2}, q4_0, 0),
                            gguf_tensor("output_norm.weight", {3}, f32, 96),
                            gguf_tensor("token_embd.weight", {256, 1}, q8_k, 128)},
                           128 + 292));
        const auto checkpoint = open_checkpoint(path);
        QCOMPARE(checkpoint->container, std::string("GGUF v3"));
        QCOMPARE(checkpoint->architecture, std::string("llama"));
        QCOMPARE((*checkpoint->config)["llama.block_count"].get<int>(), 2);
        QCOMPARE((*checkpoint->config)["list"].size(), std::size_t{3});
        const TensorInfo& down = checkpoint->tensors[*checkpoint->find("blk.1.ffn_down.weight")];
        QCOMPARE(down.shape, (std::vector<std::int64_t>{2, 64})); // slowest first, unlike in the file
        QCOMPARE(down.role, Role::mlp_down);
        QCOMPARE(down.layer, std::optional(1));
        QCOMPARE(down.bytes, std::size_t{4 * 18});
        const TensorInfo& other = checkpoint->tensors[*checkpoint->find("token_embd.weight")];
        QCOMPARE(other.dtype, DType::unsupported); // listed by its name, not read
        QCOMPARE(other.dtype_name, std::string("Q8_K"));
        QVERIFY(!is_weight_type(other.dtype));
    }

    void reads_version_2_and_the_other_byte_order() {
        QCOMPARE(
            open_checkpoint(files_.write("v2.gguf", gguf({}, {gguf_tensor("w", {32}, q8_0, 0)}, 34, 2)))->container,
            std::string("GGUF v2"));
        const auto checkpoint = open_checkpoint(files_.write("be.gguf", big_endian_gguf()));
        QVERIFY(checkpoint->container.find("big endian") != std::string::npos);
        const TensorInfo& tensor = checkpoint->tensors[0];
        QVERIFY(tensor.byte_swapped);
        float values[2];
        load_weights(tensor.dtype, tensor.byte_swapped, checkpoint->data(tensor).data(), 0, 2, values);
        QCOMPARE(values[0], 1.0F);
        QCOMPARE(values[1], -2.0F);
    }

    void reads_split_files() {
        const auto part = [&](int number) {
            return gguf({gguf_entry("split.no", 2, le(static_cast<std::uint16_t>(number))),
                         gguf_entry("split.count", 2, le(std::uint16_t{2})),
                         gguf_entry("split.tensors.count", 5, le(std::int32_t{2}))},
                        {gguf_tensor(number == 0 ? "a" : "b", {2}, f16, 0)}, 4);
        };
        const auto first = files_.write("s-00001-of-00002.gguf", part(0));
        QVERIFY2(refusal(first).contains("s-00002-of-00002.gguf"), qPrintable(refusal(first)));
        const auto second = files_.write("s-00002-of-00002.gguf", part(1));
        for (const auto& path : {first, second})
            QCOMPARE(open_checkpoint(path)->tensors.size(), std::size_t{2});
    }

    void empty_tensors_lie_inside_the_file() {
        const QByteArray bytes = "GGUF" + le(3U) + le(std::uint64_t{1}) + le(std::uint64_t{0}) +
                                 gguf_tensor("w", {0}, f32, 0); // and no padding up to the data
        const auto path = files_.write("empty.gguf", bytes);
        const auto checkpoint = open_checkpoint(path);
        const TensorInfo& tensor = checkpoint->tensors.at(0);
        QVERIFY(tensor.offset <= static_cast<std::size_t>(bytes.size()));
        QVERIFY(checkpoint->data(tensor).empty());
    }

    void refuses_what_is_wrong_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QString>("named");
        const QByteArray good = gguf({gguf_entry("k", u32, le(1U))}, {gguf_tensor("w", {32}, q8_0, 0)}, 34);
        const auto row = [](const char* title, const QByteArray& bytes, const char* named) {
            QTest::newRow(title) << bytes << QString(named);
        };
        row("version 1", gguf({}, {}, 0, 1), "version 1");
        row("version 9", gguf({}, {}, 0, 9), "version 9");
        row("nothing inside", gguf({}, {}, 0), "neither");
        row("more tensors than bytes", "GGUF" + le(3U) + le(std::uint64_t{1} << 60) + le(std::uint64_t{0}), "tensors");
        row("more entries than bytes", "GGUF" + le(3U) + le(std::uint64_t{0}) + le(std::uint64_t{1} << 60), "metadata");
        row("data cut off", good.first(good.size() - 1), "'w'");
        row("unknown tensor type", gguf({}, {gguf_tensor("w", {32}, 77, 0)}, 34), "type id 77");
        row("five dimensions", gguf({}, {gguf_tensor("w", {2, 2, 2, 2, 2}, f32, 0)}, 128), "'w'");
        row("row not in blocks", gguf({}, {gguf_tensor("w", {33}, q8_0, 0)}, 68), "'w'");
        row("elements overflow", gguf({}, {gguf_tensor("w", {1ULL << 62, 32}, q8_0, 0)}, 64), "'w'");
        row("offset beyond the end", gguf({}, {gguf_tensor("w", {32}, q8_0, 1ULL << 40)}, 64), "'w'");
        row("offset not aligned", gguf({}, {gguf_tensor("w", {32}, q8_0, 7)}, 64), "'w'");
        row("overlap", gguf({}, {gguf_tensor("a", {64}, f32, 0), gguf_tensor("b", {64}, f32, 32)}, 512), "'b'");
        row("twice the same name", gguf({}, {gguf_tensor("a", {8}, f32, 0), gguf_tensor("a", {8}, f32, 32)}, 64),
            "'a'");
        row("string beyond the end", gguf({gguf_string("k") + le(text) + le(std::uint64_t{1} << 50)}, {}, 0), "k");
        row("array beyond the end", gguf({gguf_string("k") + le(array) + le(u32) + le(std::uint64_t{1} << 61)}, {}, 0),
            "k");
        row("unknown value type", gguf({gguf_entry("k", 99, {})}, {}, 0), "k");
        row("alignment of 3", gguf({gguf_entry("general.alignment", u32, le(3U))}, {}, 0), "general.alignment");
        row("alignment of 0", gguf({gguf_entry("general.alignment", u32, le(0U))}, {}, 0), "general.alignment");
        QByteArray nested = gguf_string("k") + le(array);
        for (int depth = 0; depth < 1000; ++depth)
            nested += le(array) + le(std::uint64_t{1});
        row("deeply nested arrays", gguf({nested}, {}, 0), "k");
    }

    void refuses_what_is_wrong() {
        QFETCH(QByteArray, bytes);
        QFETCH(QString, named);
        const QString reason = refusal(files_.write("wrong.gguf", bytes));
        QVERIFY2(reason.contains("wrong.gguf"), qPrintable(reason));
        QVERIFY2(reason.contains(named), qPrintable(reason));
        QVERIFY2(!reason.contains('\n') && reason.size() < 600, qPrintable(reason));
    }

    void survives_every_cut() {
        const QByteArray good = gguf({gguf_entry("general.architecture", text, gguf_string("llama")),
                                      gguf_entry("list", array, le(u8) + le(std::uint64_t{3}) + QByteArray("\1\2\3"))},
                                     {gguf_tensor("w", {32, 2}, q8_0, 0), gguf_tensor("v", {3}, f32, 96)}, 108);
        QVERIFY(refusal(files_.write("whole.gguf", good)).isEmpty());
        for (qsizetype size = 0; size < good.size(); ++size)
            QVERIFY2(!refusal(files_.write("cut.gguf", good.first(size))).isEmpty(), QByteArray::number(size));
    }
};

QTEST_GUILESS_MAIN(GgufTest)
#include "test_gguf.moc"
