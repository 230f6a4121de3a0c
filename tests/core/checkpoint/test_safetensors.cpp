#include <QDir>
#include <QTest>

#include <nlohmann/json.hpp>

#include "tests/core/checkpoint/made_files.h"

using namespace qs;
using namespace qs::test;

class SafetensorsTest : public QObject {
    Q_OBJECT

private:
    Files files_;

private slots:
    void reads_a_file() {
        const auto path = files_.write("a.safetensors", safetensors(R"({"__metadata__": {"format": "pt"},
            "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
            "model.layers.3.mlp.down_proj.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
            "empty": {"dtype": "F16", "shape": [4, 0], "data_offsets": [16, 16]}})",
                                                                    16));
        const auto checkpoint = open_checkpoint(path);
        QCOMPARE(checkpoint->container, std::string("safetensors"));
        QCOMPARE(checkpoint->tensors.size(), std::size_t{3});
        const TensorInfo& down = checkpoint->tensors[*checkpoint->find("model.layers.3.mlp.down_proj.weight")];
        QCOMPARE(down.dtype, DType::bf16);
        QCOMPARE(down.shape, (std::vector<std::int64_t>{2, 3}));
        QCOMPARE(down.role, Role::mlp_down);
        QCOMPARE(down.layer, std::optional(3));
        QCOMPARE(checkpoint->data(down).size(), std::size_t{12});
        const TensorInfo& scalar = checkpoint->tensors[*checkpoint->find("b")];
        QCOMPARE(scalar.elements(), std::uint64_t{1});
        QVERIFY(std::to_integer<int>(checkpoint->data(scalar)[3]) == 1);
        QCOMPARE(checkpoint->parameters(), std::uint64_t{7});
        QVERIFY(!checkpoint->find("c"));
    }

    void refuses_what_is_wrong_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QString>("named");
        const auto row = [](const char* title, const QByteArray& header, qsizetype data, const char* named) {
            QTest::newRow(title) << safetensors(header, data) << QString(named);
        };
        const QByteArray good = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
        QTest::newRow("cut in the header") << safetensors(good, 0).first(20) << "bytes";
        QTest::newRow("header longer than the file")
            << le(std::uint64_t{1} << 40) + good + QByteArray(8, '\0') << "header";
        QTest::newRow("header of 2^64 - 1") << le(~std::uint64_t{0}) + good << "header";
        row("data cut off", good, 4, "'w'");
        row("data left over", good, 12, "bytes");
        row("unknown dtype", R"({"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", 8, "'w'");
        row("bytes are not the shape's", R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "'w'");
        row("end before begin", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "'w'");
        row("overlap",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
            12, "'b'");
        row("hole",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
            12, "'b'");
        row("twice the same name",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8, "'a'");
        row("negative dimension", R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "'w'");
        row("dimensions overflow",
            R"({"w":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}})", 8, "'w'");
        row("offset of 2^63",
            R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[9223372036854775808,9223372036854775816]}})", 8, "'w'");
        row("no shape", R"({"w":{"dtype":"F32","data_offsets":[0,8]}})", 8, "'w'");
        row("not an object", R"([1])", 0, "header");
        row("not JSON", R"({"w":)", 0, "JSON");
        row("deep nesting", "{\"a\":" + QByteArray(100000, '['), 0, "'a'");
        row("a number instead of a tensor", R"({"w": 3})", 0, "'w'");
    }

    void refuses_what_is_wrong() {
        QFETCH(QByteArray, bytes);
        QFETCH(QString, named);
        const auto path = files_.write("wrong.safetensors", bytes);
        const QString reason = refusal(path);
        QVERIFY2(reason.contains("wrong.safetensors"), qPrintable(reason));
        QVERIFY2(reason.contains(named), qPrintable(reason));
        QVERIFY2(!reason.contains('\n') && reason.size() < 600, qPrintable(reason));
    }

    void reads_shards_by_their_index() {
        files_.write("m-00001-of-00002.safetensors",
                     safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4));
        files_.write("m-00002-of-00002.safetensors",
                     safetensors(R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 4));
        const auto index = files_.write("m.safetensors.index.json", R"({"metadata": {"total_size": 8},
            "weight_map": {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}})");
        const auto checkpoint = open_checkpoint(index);
        QCOMPARE(checkpoint->files.size(), std::size_t{2});
        QCOMPARE(checkpoint->tensors[*checkpoint->find("b")].file, std::size_t{1});
        const auto missing = files_.write("x.safetensors.index.json", R"({"weight_map": {"a": "none.safetensors"}})");
        QVERIFY2(refusal(missing).contains("none.safetensors"), qPrintable(refusal(missing)));
        const auto absent =
            files_.write("y.safetensors.index.json", R"({"weight_map": {"z": "m-00001-of-00002.safetensors"}})");
        QVERIFY2(refusal(absent).contains("'z'"), qPrintable(refusal(absent)));
        const auto outside =
            files_.write("z.safetensors.index.json", R"({"weight_map": {"a": "../secret.safetensors"}})");
        QVERIFY2(refusal(outside).contains("secret"), qPrintable(refusal(outside)));
    }

    void reads_a_folder_with_its_config() {
        Files folder;
        folder.write("model.safetensors", safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4));
        folder.write("config.json", R"({"model_type": "qwen2"})");
        const auto checkpoint = open_checkpoint(folder.folder());
        QCOMPARE(checkpoint->architecture, std::string("qwen2"));
        folder.write("config.json", "{");
        QVERIFY(!open_checkpoint(folder.folder())->notes.empty()); // the weights can still be read
        QVERIFY(refusal(Files().folder()).contains("no checkpoint"));
        QVERIFY(refusal("/nowhere/at/all.gguf").contains("/nowhere/at/all.gguf"));
    }
};

QTEST_GUILESS_MAIN(SafetensorsTest)
#include "test_safetensors.moc"
