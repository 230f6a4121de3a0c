#include <QDirIterator>
#include <QFile>
#include <QTest>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"
#include "core/formats/load.h"

using namespace qs;

namespace {

const QString shared = QStringLiteral(QUANTOSCOPE_SHARED_DATA);

std::vector<float> weights_of(const Checkpoint& checkpoint, const std::string& name) {
    const TensorInfo& tensor = checkpoint.tensors.at(checkpoint.find(name).value());
    std::vector<float> weights(tensor.elements());
    load_weights(tensor.dtype, tensor.byte_swapped, checkpoint.data(tensor).data(), 0, weights.size(), weights.data());
    return weights;
}

/// Whether there is code for the type: its weights can be loaded, be it none of them.
bool is_read(const TensorInfo& tensor) {
    try {
        load_weights(tensor.dtype, tensor.byte_swapped, nullptr, 0, 0, nullptr);
        return true;
    } catch (const Error&) {
        return false;
    }
}

} // namespace

/// Real files of many projects.
class ContainersTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        if (!QFile::exists(shared + "/containers"))
            QSKIP("the folder of real checkpoints is absent");
    }

    /// Every file opens, or is refused with its name and a reason.
    void opens_or_says_why_data() {
        QTest::addColumn<QString>("path");
        for (const char* folder : {"/containers/safetensors", "/containers/gguf", "/models"}) {
            QDirIterator it(shared + folder, {"*.safetensors", "*.gguf"}, QDir::Files, QDirIterator::Subdirectories);
            while (it.hasNext()) {
                const QString path = it.next();
                QTest::newRow(qPrintable(path.mid(shared.size()))) << path;
            }
        }
    }

    void opens_or_says_why() {
        QFETCH(QString, path);
        try {
            const auto checkpoint = open_checkpoint(path.toStdString());
            QVERIFY(!path.contains("v1-ggml"));
            for (const TensorInfo& tensor : checkpoint->tensors)
                QCOMPARE(checkpoint->data(tensor).size(), tensor.bytes);
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains(QFileInfo(path).fileName()), error.what());
            // Versions before 2, an empty file, and one with bytes that belong to no tensor.
            QVERIFY2(path.contains("/old/") || path.contains("empty.gguf") || path.contains("tiny.safetensors"),
                     error.what());
        }
    }

    void the_same_model_in_every_container() {
        const std::string folder = (shared + "/models/stories260K/derived/").toStdString();
        const auto reference = open_checkpoint(folder + "model.safetensors");
        for (const char* path : {"sharded", "sharded/model.safetensors.index.json"}) {
            const auto other = open_checkpoint(folder + path);
            QCOMPARE(other->tensors.size(), reference->tensors.size());
            for (const TensorInfo& tensor : reference->tensors)
                QCOMPARE(weights_of(*other, tensor.name), weights_of(*reference, tensor.name));
        }
        const auto gguf = open_checkpoint(folder + "gguf/stories260K-f32.gguf");
        QCOMPARE(weights_of(*gguf, "blk.2.ffn_down.weight"),
                 weights_of(*reference, "model.layers.2.mlp.down_proj.weight"));
        QCOMPARE(gguf->parameters(), reference->parameters());
    }

    /// ggml's own dequantization of every type that is read.
    void quantized_types_as_ggml_reads_them() {
        const std::string folder = (shared + "/containers/gguf/ggml-ref/").toStdString();
        const auto quantized = open_checkpoint(folder + "all-types.gguf");
        const auto expected = open_checkpoint(folder + "all-types.expected.safetensors");
        int compared = 0;
        for (const TensorInfo& tensor : quantized->tensors) {
            if (!is_read(tensor)) {
                QVERIFY2(tensor.name.starts_with("q.iq"), tensor.name.c_str());
                continue;
            }
            if (tensor.name.starts_with("src."))
                continue;                                   // what the others were made from
            const std::string name = tensor.name.substr(2); // "q.q4_0" here, "q4_0" there
            QVERIFY2(expected->find(name), name.c_str());
            const auto ours = weights_of(*quantized, tensor.name), theirs = weights_of(*expected, name);
            QCOMPARE(ours.size(), theirs.size());
            for (std::size_t i = 0; i < ours.size(); ++i)
                QVERIFY2(ours[i] == theirs[i] || (std::isnan(ours[i]) && std::isnan(theirs[i])), tensor.name.c_str());
            ++compared;
        }
        QVERIFY(compared >= 18);
    }
};

QTEST_GUILESS_MAIN(ContainersTest)
#include "test_containers.moc"
