#include <QDir>
#include <QTemporaryDir>
#include <QTest>

#include <cmath>

#include "core/base/error.h"
#include "core/formats/load.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

Matrix read_logits(const QString& path) {
    const auto checkpoint = open_checkpoint(path.toStdString());
    const TensorInfo& tensor = checkpoint->tensors.at(0);
    Matrix logits(static_cast<Index>(tensor.shape[0]), static_cast<Index>(tensor.shape[1]));
    load_weights(tensor.dtype, false, checkpoint->data(tensor).data(), 0, static_cast<std::size_t>(logits.size()),
                 logits.data());
    return logits;
}

QString refusal(const QString& path) {
    try {
        open_decoder(path);
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

} // namespace

/// The forward pass against Hugging Face transformers in float64 (data/, made by make_reference_models.py) and against
/// the reference perplexities of a trained model.
class Decoders : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

    /// A tiny model with some of its config changed.
    QString changed_model(const QString& model, const nlohmann::json& changes) {
        const QString name = folder_.filePath(QString::number(QDir(folder_.path()).count()));
        QDir().mkpath(name);
        QFile::copy(tiny_models + model + "/model.safetensors", name + "/model.safetensors");
        nlohmann::json config = read_json(tiny_models + model + "/config.json");
        config.merge_patch(changes);
        QFile file(name + "/config.json");
        if (file.open(QIODevice::WriteOnly))
            file.write(config.dump().c_str());
        return name;
    }

private slots:
    void logits_of_every_family_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("file");
        for (const QString& model : QDir(tiny_models).entryList(QDir::Dirs | QDir::NoDotAndDotDot)) {
            QTest::newRow(qPrintable(model)) << model << "model.safetensors";
            if (QFile::exists(tiny_models + model + "/model.gguf"))
                QTest::newRow(qPrintable(model + " gguf")) << model << "model.gguf";
        }
    }

    void logits_of_every_family() {
        QFETCH(QString, model);
        QFETCH(QString, file);
        const QString folder = tiny_models + model + "/";
        const Matrix expected = read_logits(folder + "logits.safetensors");
        const Matrix logits = open_decoder(folder + file).run(tiny_ids(model));
        QCOMPARE(logits.rows(), expected.rows());
        QCOMPARE(logits.cols(), expected.cols());
        const double worst = difference(logits, expected);
        QVERIFY2(worst < 1e-5, qPrintable(QString::number(worst)));
    }

    /// What the files above test would not be tested if it changed nothing.
    void settings_matter_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("change");
        QTest::newRow("llama3") << "llama3"
                                << R"({"rope_scaling": null})";
        QTest::newRow("yarn") << "llama-yarn"
                              << R"({"rope_scaling": null})";
        QTest::newRow("yarn beta") << "llama-yarn"
                                   << R"({"rope_scaling": {"beta_fast": 32}})";
        QTest::newRow("dynamic") << "llama-dynamic"
                                 << R"({"rope_scaling": null})";
        QTest::newRow("mistral window") << "mistral"
                                        << R"({"sliding_window": 8})";
        QTest::newRow("qwen window layers") << "qwen2-window"
                                            << R"({"max_window_layers": 0})";
        QTest::newRow("gemma2 cap") << "gemma2"
                                    << R"({"attn_logit_softcapping": null})";
        QTest::newRow("gemma2 scalar") << "gemma2-scalar"
                                       << R"({"query_pre_attn_scalar": 8})";
        QTest::newRow("gemma3 local base") << "gemma3"
                                           << R"({"rope_local_base_freq": 60})";
        QTest::newRow("gemma3 pattern") << "gemma3"
                                        << R"({"sliding_window_pattern": 2})";
        QTest::newRow("longrope") << "phi3-long"
                                  << R"({"original_max_position_embeddings": 48})";
        QTest::newRow("activation") << "gpt2"
                                    << R"({"activation_function": "relu"})";
    }

    void settings_matter() {
        QFETCH(QString, model);
        QFETCH(QString, change);
        const QString changed = changed_model(model, nlohmann::json::parse(change.toStdString()));
        const Matrix expected = read_logits(tiny_models + model + "/logits.safetensors");
        QVERIFY(difference(open_decoder(changed).run(tiny_ids(model)), expected) > 1e-3);
    }

    /// The CPU's vectors and the formulas that a GPU shares with it.
    void activations_have_one_formula() {
        const Matrix x = Matrix(RowVector::LinSpaced(4001, -20, 20));
        for (const Activation activation :
             {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu}) {
            Matrix found = x;
            apply_activation(activation, found);
            for (Index i = 0; i < x.size(); ++i)
                QVERIFY(std::abs(found(i) - activated(activation, x(i))) <= 2e-6F * std::max(0.1F, std::abs(x(i))));
        }
        Matrix capped = x;
        soft_cap(3, capped);
        for (Index i = 0; i < x.size(); ++i)
            QVERIFY(std::abs(capped(i) - soft_capped(3, x(i))) < 1e-6F);
    }

    void texts_do_not_see_each_other() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const std::vector<int> ids = tiny_ids("llama");
        const std::vector<std::vector<int>> texts = {{ids.begin(), ids.begin() + 11}, {ids.begin() + 11, ids.end()}};
        std::vector<Batch> batches = decoder.start(texts);
        QCOMPARE(batches.size(), std::size_t{1});
        JobControl job;
        LayerActivations activations;
        for (int layer = 0; layer < decoder.config().layers; ++layer)
            decoder.advance(decoder.weights().layer(layer), batches, activations, {}, job);
        Matrix together;
        decoder.logits(decoder.load_head(), batches[0].hidden, together);
        QVERIFY(difference(together.topRows(11), decoder.run(texts[0])) < 1e-6);
        QVERIFY(difference(together.bottomRows(29), decoder.run(texts[1])) < 1e-6);
    }

    /// Observers see the matrices in Hugging Face's order of rows, however they are stored.
    void observed_layers() {
        for (const QString model : {"llama", "gpt2", "phi3"}) {
            std::vector<Matrix> outputs;
            int names = 0;
            for (const QString file : {"/model.safetensors", "/model.gguf"}) {
                const Decoder decoder = open_decoder(tiny_models + model + file);
                std::size_t seen = 0;
                const auto observer = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix& out) {
                    QCOMPARE(inputs.cols(), tensor.inputs);
                    QCOMPARE(out.cols(), tensor.outputs);
                    const Matrix product = inputs * decoder.weights().load(tensor).transpose();
                    QVERIFY(difference(product, out) < 1e-5);
                    if (outputs.size() <= seen)
                        outputs.push_back(out);
                    else
                        QVERIFY(difference(out, outputs[seen]) < 1e-5);
                    ++seen;
                    ++names;
                };
                decoder.run(tiny_ids(model), {}, observer);
                QCOMPARE(seen, decoder.weights().linears().size());
            }
            QVERIFY(names > 0);
        }
    }

    void a_hook_replaces_weights() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        int hooked = 0;
        const Matrix logits = decoder.run({5, 7, 5}, [&](const LinearTensor& tensor, Matrix& weight) {
            ++hooked;
            QCOMPARE(weight.rows(), tensor.outputs);
            weight.setZero();
        });
        QCOMPARE(hooked, 14);
        // Nothing is added to the embedding, so equal tokens have equal logits.
        QVERIFY(logits.row(0) == logits.row(2) && logits.row(0) != logits.row(1));
    }

    void refusals_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("change");
        QTest::addColumn<QString>("name");
        QTest::newRow("type") << "llama"
                              << R"({"model_type": "mamba"})"
                              << "mamba";
        QTest::newRow("experts") << "llama"
                                 << R"({"num_local_experts": 8})"
                                 << "mixture of experts";
        QTest::newRow("rope") << "llama"
                              << R"({"rope_scaling": {"type": "spiral"}})"
                              << "spiral";
        QTest::newRow("activation") << "llama"
                                    << R"({"hidden_act": "mish"})"
                                    << "mish";
        QTest::newRow("quantized") << "llama"
                                   << R"({"quantization_config": {"bits": 4}})"
                                   << "quantization_config";
        QTest::newRow("shapes") << "llama"
                                << R"({"intermediate_size": 32})"
                                << "mlp.gate_proj.weight";
        QTest::newRow("layers") << "llama"
                                << R"({"num_hidden_layers": 3})"
                                << "layers.2";
        QTest::newRow("fewer layers") << "llama"
                                      << R"({"num_hidden_layers": 1})"
                                      << "layers.1";
        QTest::newRow("other parts") << "qwen3"
                                     << R"({"model_type": "llama"})"
                                     << "_norm.weight";
        QTest::newRow("scaling of gpt2") << "gpt2"
                                         << R"({"scale_attn_by_inverse_layer_idx": true})"
                                         << "scale_attn_by_inverse_layer_idx";
    }

    void refusals() {
        QFETCH(QString, model);
        QFETCH(QString, change);
        QFETCH(QString, name);
        const QString message = refusal(changed_model(model, nlohmann::json::parse(change.toStdString())));
        QVERIFY2(message.contains(name), qPrintable(message));
    }

    void a_token_that_is_not_there() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        QVERIFY_EXCEPTION_THROWN(decoder.run({1, 44}), Error);
        QVERIFY_EXCEPTION_THROWN(decoder.run({-1}), Error);
        QVERIFY_EXCEPTION_THROWN(open_decoder(tiny_models + "gpt2").run(std::vector<int>(49)), Error);
    }

    void perplexity_of_stories_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<double>("nll");
        const auto row = [](const char* file, double nll) { QTest::newRow(file) << QString(file) << nll; };
        // REFERENCE.md of the model: two independent forward passes in double precision.
        row("model.safetensors", 1.266441);
        row("sharded", 1.266441);
        row("model-f16.safetensors", 1.266465);
        row("model-bf16.safetensors", 1.265748);
        row("gguf/stories260K-f32.gguf", 1.266441);
        row("gguf/stories260K-f16.gguf", 1.266461);
        row("gguf/stories260K-bf16.gguf", 1.265850);
        row("gguf/stories260K-q8_0.gguf", 1.267415);
        row("gguf/stories260K-q5_1.gguf", 1.281302);
        row("gguf/stories260K-q4_k_m.gguf", 1.282171);
        row("gguf/stories260K-iq4_nl.gguf", 1.332370);
        row("gguf/stories260K-q4_0.gguf", 1.339303);
    }

    void perplexity_of_stories() {
        QFETCH(QString, file);
        QFETCH(double, nll);
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const Decoder decoder = open_decoder(stories + "derived/" + file);
        double sum = 0;
        std::size_t count = 0;
        const std::vector<std::vector<int>> texts = read_json(stories + "reference_ids.json");
        for (const auto& text : texts)
            for (const double token : nll_of(decoder.run(text), text)) {
                sum += token;
                ++count;
            }
        QCOMPARE(count, std::size_t{1804});
        const double found = sum / static_cast<double>(count);
        QVERIFY2(std::abs(found - nll) < 1e-5, qPrintable(QString::number(found, 'g', 9)));
    }
};

QTEST_GUILESS_MAIN(Decoders)
#include "test_decoder.moc"
