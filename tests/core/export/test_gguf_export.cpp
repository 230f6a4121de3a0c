#include <QDir>
#include <QTemporaryDir>
#include <QTest>

#include "core/base/error.h"
#include "core/export/gguf_export.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"
#include "core/model/quantized_weights.h"
#include "tests/core/checkpoint/made_files.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");

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

/// What the table of formats makes of the weights that bear a tensor's name, in the tensor's format.
QByteArray encoded(const Checkpoint& weights, const TensorInfo& tensor, const float* importance) {
    const TensorInfo& source = weights.tensors[*weights.find(tensor.name)];
    std::vector<float> values(source.elements());
    load_weights(source.dtype, false, weights.data(source).data(), 0, values.size(), values.data());
    const auto codec = bind_codec(parse_tensor_type(tensor.dtype_name), {tensor.rows(), tensor.columns()}, importance);
    QByteArray bytes(static_cast<qsizetype>(codec->encoded_bytes(0, values.size())), '\0');
    codec->encode(values.data(), 0, values.size(), reinterpret_cast<std::byte*>(bytes.data()));
    return bytes;
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
    void cleanup() {
        for (const QString& file : QDir(folder_.path()).entryList(QDir::Files | QDir::Hidden))
            QFile::remove(folder_.filePath(file));
    }

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
        // None has a tokenizer.
        QCOMPARE(made.summary.notes.size(), std::size_t{told ? 1U : 2U});
        QCOMPARE(made.checkpoint->config->value("tokenizer.ggml.model", ""), std::string("none"));
        const std::vector<int> ids = tiny_ids(model);
        const Matrix expected = open_decoder(tiny_models + model).run(ids);
        const Matrix logits = Decoder(made.checkpoint).run(ids);
        const double apart = difference(logits, expected);
        QVERIFY2(!told || apart < 1e-5, std::to_string(apart).c_str());
    }

    /// Blocks that the table of formats makes of the weights, whatever the number of threads.
    void stores_what_the_codecs_make() {
        const Exported plain = write(demo, "fp32");
        const auto weights = plain.checkpoint;
        GgufRequest request;
        for (const char* format : {"q4_K", "Q3_K_M", "recipe:IQ4_XS", "mxfp4_ggml", "bf16"}) {
            request.format = parse_spec(format);
            const Exported made = write(weights, request, 1, "one.gguf");
            write(weights, request, 5, "five.gguf");
            QVERIFY(read_all(path("one.gguf")) == read_all(path("five.gguf")));
            for (const TensorInfo& tensor : made.checkpoint->tensors) {
                const QByteArray expected = encoded(*weights, tensor, nullptr);
                QVERIFY2(bytes_of(*made.checkpoint, tensor) == expected, tensor.name.c_str());
            }
            // Straight from the Hugging Face model it is the same.
            compare(*write(open_checkpoint(demo.toStdString()), request).checkpoint, *made.checkpoint);
        }
    }

    /// The exported model predicts what the source with the format's weights does.
    void quantized_logits() {
        const auto source = open_checkpoint(demo.toStdString());
        GgufRequest request;
        request.format = parse_spec("q4_K");
        request.overrides = parse_tensor_types("token_embd=f32,^output.weight=f32", "rules");
        const Exported made = write(source, request);
        QVERIFY(made.summary.notes.empty());
        const std::vector<FormatSpec> specs = {request.format};
        const auto device = make_cpu_device();
        JobControl job;
        const QuantizedWeights quantized(*source, specs, *device, job);
        const std::vector<int> ids = {0, 72, 101, 300, 412, 9, 9, 77, 1000};
        const double apart = difference(Decoder(made.checkpoint).run(ids), Decoder(source).run(ids, quantized.hook(0)));
        QVERIFY2(apart < 1e-5, std::to_string(apart).c_str());
        QVERIFY(difference(Decoder(made.checkpoint).run(ids), Decoder(source).run(ids)) > 1e-3);
    }

    void overrides() {
        GgufRequest request;
        request.format = parse_spec("q4_K");
        request.overrides = parse_tensor_types("attn_v=q8_0,blk\\.0\\.=f16,attn=q6_K", "rules");
        request.overrides.push_back({"model.layers.3.mlp.*", parse_spec("bf16"), nullptr});
        const Exported made = write(open_checkpoint(demo.toStdString()), request);
        const auto type = [&](const char* name) {
            return made.checkpoint->tensors[*made.checkpoint->find(name)].dtype;
        };
        QCOMPARE(type("blk.0.attn_v.weight"), DType::q8_0);
        QCOMPARE(type("blk.0.attn_q.weight"), DType::f16);
        QCOMPARE(type("blk.1.attn_q.weight"), DType::q6_K);
        QCOMPARE(type("blk.1.ffn_up.weight"), DType::q4_K);
        QCOMPARE(type("blk.3.ffn_up.weight"), DType::bf16);
        QCOMPARE(type("blk.0.attn_norm.weight"), DType::f32);
    }

    void importances() {
        const auto source = open_checkpoint(demo.toStdString());
        ImportanceMatrix imatrix;
        GgufRequest request;
        request.format = parse_spec("fp32");
        const Exported plain = write(source, request, 0, "plain.gguf");
        for (const TensorInfo& tensor : plain.checkpoint->tensors)
            if (tensor.layer && tensor.shape.size() == 2)
                for (std::uint64_t column = 0; column < tensor.columns(); ++column)
                    imatrix.entries[tensor.name].push_back(1.0F + static_cast<float>(column % 7));
        request.format = parse_spec("iq2_xxs");
        QVERIFY(failure([&] { write(source, request); }).contains("needs importances"));
        request.format = parse_spec("IQ3_XS");
        QVERIFY(write(source, request).summary.notes.front().starts_with("llama-quantize makes IQ3_XS with"));
        request.format = parse_spec("iq2_xxs");
        request.imatrix = &imatrix;
        const Exported made = write(source, request);
        const auto& config = *made.checkpoint->config;
        QCOMPARE(config.value("quantize.imatrix.entries_count", 0), 35);
        QCOMPARE(made.summary.notes.size(), std::size_t{2}); // of the embedding and the head
        const auto type = [&](const char* name) {
            return made.checkpoint->tensors[*made.checkpoint->find(name)].dtype;
        };
        QCOMPARE(type("token_embd.weight"), DType::q2_K);
        QCOMPARE(type("output.weight"), DType::q5_K);
        QCOMPARE(type("blk.2.attn_k.weight"), DType::iq2_xxs);
        for (const TensorInfo& tensor : made.checkpoint->tensors)
            if (const auto* values = imatrix.find(tensor.name))
                QVERIFY2(bytes_of(*made.checkpoint, tensor) == encoded(*plain.checkpoint, tensor, values->data()),
                         tensor.name.c_str());
        imatrix.entries["blk.2.attn_k.weight"].pop_back();
        QVERIFY(failure([&] { write(source, request); }).contains("blk.2.attn_k.weight"));
    }

    /// Weights that stand in for the checkpoint's are taken in Hugging Face's order of rows, whatever the container.
    void replacements() {
        GgufRequest request;
        request.format = parse_spec("fp32");
        const auto source = open_checkpoint(demo.toStdString());
        const Exported plain = write(source, request, 0, "plain.gguf");
        int calls = 0;
        request.replacement = [&](const LinearTensor&, Matrix& weight) {
            ++calls;
            for (Index row = 0; row < weight.rows(); ++row)
                weight.row(row) *= 1.0F + static_cast<float>(row);
        };
        const Exported made = write(source, request, 0, "made.gguf");
        QCOMPARE(calls, 35);
        const Exported again = write(plain.checkpoint, request, 0, "again.gguf");
        compare(*again.checkpoint, *made.checkpoint);
        const WeightReader before(source, read_decoder_config(*source));
        const WeightReader after(made.checkpoint, read_decoder_config(*made.checkpoint));
        const Matrix q = before.layer(1)[Slot::q]->weight, changed = after.layer(1)[Slot::q]->weight;
        for (Index row = 0; row < q.rows(); ++row)
            QCOMPARE(changed(row, 3), q(row, 3) * (1.0F + static_cast<float>(row)));
    }

    void notes_what_was_quantized_already() {
        write(demo, "q8_0");
        const auto quantized = open_checkpoint(path("out.gguf"));
        GgufRequest request;
        request.format = parse_spec("q4_K");
        const Exported made = write(quantized, request, 0, "again.gguf");
        QCOMPARE(made.summary.notes.size(), std::size_t{1});
        QVERIFY(made.summary.notes.front().starts_with("37 tensors were quantized already"));
        request.format = parse_spec("q8_0");
        QVERIFY(write(quantized, request, 0, "same.gguf").summary.notes.empty());
        QVERIFY(read_all(path("same.gguf")) == read_all(path("out.gguf")));
    }

    void big_endian() {
        Files files;
        GgufRequest request;
        request.format = parse_spec("q8_0");
        const Exported made = write(open_checkpoint(files.write("be.gguf", big_endian_gguf())), request);
        QCOMPARE(made.checkpoint->container, std::string("GGUF v3"));
        QCOMPARE(made.checkpoint->architecture, std::string("llama"));
        QCOMPARE(bytes_of(*made.checkpoint, made.checkpoint->tensors[0]), le(1.0F) + le(-2.0F));
    }

    void summary() {
        const Exported made = write(demo, "recipe:Q8_0");
        QCOMPARE(made.summary.bytes, static_cast<std::uint64_t>(read_all(path("out.gguf")).size()));
        QCOMPARE(made.summary.tensors, std::uint64_t{48});
        QVERIFY(made.summary.bits_per_weight > 8.5 && made.summary.bits_per_weight < 8.53);
    }

    void refuses_what_it_cannot_write() {
        const auto source = open_checkpoint(demo.toStdString());
        GgufRequest request;
        request.format = parse_spec("nf4");
        QVERIFY(failure([&] { write(source, request); }).contains("format nf4: is not one that GGUF files hold"));
        request.format = parse_spec("q4_K");
        request.overrides = {{"*", parse_spec("int8"), nullptr}};
        QVERIFY(failure([&] { write(source, request); }).contains("int8: is not one that GGUF files hold"));
        QVERIFY(failure([&] { write(tiny_models + "gemma2-scalar", "q8_0"); }).contains("scales its attention by"));
        QVERIFY(failure([&] { AtomicFile("/nowhere/out.gguf"); }).contains("cannot be written"));
        QVERIFY(!QFile::exists(folder_.filePath("out.gguf")));
    }

    void refuses_unknown_models_data() {
        QTest::addColumn<QByteArray>("config");
        QTest::addColumn<QString>("what");
        QTest::addRow("no config") << QByteArray() << "has no config.json beside it";
        QTest::addRow("no type") << QByteArray("{\"hidden_size\": 8}") << "says no model_type";
        QTest::addRow("a vision model") << QByteArray("{\"model_type\": \"clip\"}") << "of the architecture 'clip'";
        QTest::addRow("a model of both") << QByteArray("{\"model_type\": \"x_vl\", \"text_config\": {\"model_type\": "
                                                       "\"x_text\", \"hidden_size\": 8}}")
                                         << "of the architecture 'x_text'";
        QTest::addRow("experts") << QByteArray("{\"model_type\": \"mixtral\"}") << "of the architecture 'mixtral'";
    }
    void refuses_unknown_models() {
        QFETCH(QByteArray, config);
        QFETCH(QString, what);
        Files files;
        const std::string model = files.write(
            "model.safetensors",
            safetensors(R"({"model.embed_tokens.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16));
        if (!config.isEmpty())
            files.write("config.json", config);
        const QString refusal = failure([&] { write(QString::fromStdString(model), "q8_0"); });
        QVERIFY2(refusal.contains(what), qPrintable(refusal));
        QVERIFY(QDir(folder_.path()).entryList(QDir::Files | QDir::Hidden).isEmpty());
    }

    void cancelled() {
        GgufRequest request;
        request.format = parse_spec("q4_K");
        JobControl job;
        job.cancel();
        const auto device = make_cpu_device();
        {
            AtomicFile file(path("out.gguf"));
            QVERIFY_EXCEPTION_THROWN(export_gguf(open_checkpoint(demo.toStdString()), request, *device, job, file),
                                     Cancelled);
        }
        QVERIFY(QDir(folder_.path()).entryList(QDir::Files | QDir::Hidden).isEmpty());
    }
};

} // namespace

QTEST_GUILESS_MAIN(TestGgufExport)
#include "test_gguf_export.moc"
