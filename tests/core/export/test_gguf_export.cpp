#include <QDir>
#include <QTemporaryDir>
#include <QTest>

#include "core/base/error.h"
#include "core/export/gguf_export.h"
#include "core/formats/registry.h"
#include "core/model/tokenizer.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

struct Exported {
    std::shared_ptr<const Checkpoint> checkpoint;
    ExportSummary summary;
};

QByteArray bytes_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    const auto data = checkpoint.data(tensor);
    return {reinterpret_cast<const char*>(data.data()), static_cast<qsizetype>(data.size())};
}

QByteArray read_all(const std::string& path) {
    QFile file(QString::fromStdString(path));
    return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

class TestGgufExport : public QObject {
    Q_OBJECT

    QTemporaryDir folder_;

    std::string path(const char* name) const { return folder_.filePath(name).toStdString(); }

    Exported write(const std::shared_ptr<const Checkpoint>& checkpoint, const GgufRequest& request, int threads = 0,
                   const char* name = "out.gguf") {
        AtomicFile file(path(name));
        JobControl job;
        const auto device = make_cpu_device(threads);
        Exported exported;
        exported.summary = export_gguf(checkpoint, request, *device, job, file);
        exported.checkpoint = open_checkpoint(path(name));
        return exported;
    }
    Exported write(const QString& checkpoint, const char* format) {
        GgufRequest request;
        request.format = parse_spec(format);
        return write(open_checkpoint(checkpoint.toStdString()), request);
    }

    void compare(const Checkpoint& made, const Checkpoint& expected) {
        QCOMPARE(made.tensors.size(), expected.tensors.size());
        for (const TensorInfo& tensor : expected.tensors) {
            const auto index = made.find(tensor.name);
            QVERIFY2(index, tensor.name.c_str());
            QCOMPARE(made.tensors[*index].dtype_name, tensor.dtype_name);
            QCOMPARE(made.tensors[*index].shape, tensor.shape);
            QVERIFY2(bytes_of(made, made.tensors[*index]) == bytes_of(expected, tensor), tensor.name.c_str());
        }
    }

private slots:
    void as_llama_quantize_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<QString>("format");
        QTest::addRow("q8_0") << "q8_0"
                              << "recipe:Q8_0";
        QTest::addRow("q4_0") << "q4_0"
                              << "recipe:Q4_0";
        QTest::addRow("q5_1") << "q5_1"
                              << "recipe:Q5_1";
        QTest::addRow("iq4_nl") << "iq4_nl"
                                << "recipe:IQ4_NL";
        QTest::addRow("q4_k_m") << "q4_k_m"
                                << "Q4_K_M";
        QTest::addRow("f16") << "f16"
                             << "fp16";
        QTest::addRow("bf16") << "bf16"
                              << "bf16";
    }
    /// llama.cpp's own files, to the byte, metadata included.
    void as_llama_quantize() {
        QFETCH(QString, file);
        QFETCH(QString, format);
        const QString gguf = stories + "derived/gguf/stories260K-";
        if (!QDir(stories).exists())
            QSKIP("the shared data are absent");
        const QString expected = gguf + file + ".gguf";
        const Exported made = write(gguf + "f32.gguf", format.toUtf8());
        compare(*made.checkpoint, *open_checkpoint(expected.toStdString()));
        QVERIFY(read_all(path("out.gguf")) == read_all(expected.toStdString()));
    }

    void converts_as_llama_cpp() {
        if (!QDir(stories).exists())
            QSKIP("the shared data are absent");
        const Exported made = write(stories + "derived/model.safetensors", "fp32");
        compare(*made.checkpoint, *open_checkpoint((stories + "derived/gguf/stories260K-f32.gguf").toStdString()));
    }

    void keeps_the_logits_data() {
        QTest::addColumn<QString>("model");
        for (const QString& model : QDir(tiny_models).entryList(QDir::Dirs | QDir::NoDotAndDotDot))
            if (model != "gemma2-scalar")
                QTest::addRow("%s", qPrintable(model)) << model;
    }
    void keeps_the_logits() {
        QFETCH(QString, model);
        const Exported made = write(tiny_models + model, "fp32");
        // What the file cannot tell, and texts longer than the window or the context would show.
        const bool told = model != "llama-dynamic" && model != "mistral" && model != "qwen2-window";
        QCOMPARE(made.summary.notes.empty(), told);
        const std::vector<int> ids = tiny_ids(model);
        const Matrix expected = open_decoder(tiny_models + model).run(ids);
        const Matrix logits = Decoder(made.checkpoint).run(ids);
        const double apart = difference(logits, expected);
        QVERIFY2(!told || apart < 1e-5, std::to_string(apart).c_str());
    }
};

} // namespace

QTEST_GUILESS_MAIN(TestGgufExport)
#include "test_gguf_export.moc"
