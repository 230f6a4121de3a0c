#include <QTemporaryDir>
#include <QTest>

#include <algorithm>
#include <fstream>
#include <map>

#include "core/export/huggingface_export.h"
#include "core/export/layout.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"
#include "core/model/calibrated_layers.h"
#include "tests/core/export/layout_readers.h"
#include "tests/core/export/made_model.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");

using Texts = std::vector<std::vector<int>>;

Texts texts_of(const Decoder& decoder) {
    Texts texts(2);
    unsigned state = 3;
    for (auto& text : texts)
        for (int i = 0; i < 40; ++i) {
            state = state * 1664525U + 1013904223U;
            text.push_back(static_cast<int>((state >> 8) % static_cast<unsigned>(decoder.config().vocabulary)));
        }
    return texts;
}

HuggingFaceRequest request_of(const char* format, const char* method, const char* layout = "auto") {
    HuggingFaceRequest request;
    request.variant = {parse_spec(format), parse_method(method)};
    request.layout = layout;
    request.threads = 2;
    return request;
}

/// What the method makes of every linear layer, by name.
std::map<std::string, MethodResult> results_of(const Decoder& decoder, Variant variant, const Texts& texts) {
    if (variant.method.id == "llm_int8")
        variant.method = parse_method("rtn");
    std::map<std::string, MethodResult> results;
    JobControl job;
    CalibratedLayers layers(decoder, {variant}, texts, job);
    LayerWeights target;
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        const LayerWeights weights = decoder.weights().layer(layer);
        layers.begin(weights);
        layers.quantize(0, target,
                        [&](const LinearTensor& tensor, const MethodResult& result) { results[tensor.name] = result; });
    }
    return results;
}

/// A linear layer of a written model, by its layout's reader.
Matrix read_linear(const Checkpoint& checkpoint, const LinearTensor& tensor, const Variant& variant) {
    const Json config(*checkpoint.config);
    const Json& quantization = config["quantization_config"];
    const std::string module = module_name(tensor), method = quantization["quant_method"];
    const auto inputs = static_cast<std::size_t>(tensor.inputs);
    if (method == "gptq")
        return read_gptq(checkpoint, module, quantization["bits"],
                         quantization["checkpoint_format"] == "gptq_v2" ? 0 : 1);
    if (method == "awq")
        return read_awq(checkpoint, module, inputs);
    if (method == "hqq")
        return read_hqq(checkpoint, module);
    if (method == "compressed-tensors")
        return variant.format.id == "fp8_e4m3" ? read_fp8(checkpoint, module, inputs)
                                               : read_blocks(checkpoint, module, inputs);
    return quantization["load_in_8bit"].get<bool>() ? read_int8(checkpoint, module)
                                                    : read_four_bits(checkpoint, module, variant.format.id);
}

std::vector<float> floats_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    std::vector<float> values(tensor.elements());
    load_weights(tensor.dtype, false, checkpoint.data(tensor).data(), 0, values.size(), values.data());
    return values;
}

QStringList files_in(const QString& folder) {
    return QDir(folder).entryList(QDir::AllEntries | QDir::Hidden | QDir::NoDotAndDotDot);
}

} // namespace

/// Hugging Face folders, read again by decoders of their own.
class TestHuggingFace : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    JobControl job_;

    QString path(const char* name = "model") const { return folder_.filePath(name); }

    ExportSummary write(const Decoder& decoder, HuggingFaceRequest request, const Texts& texts = {}) {
        request.calibration = texts;
        request.overwrite = true;
        return export_huggingface(decoder, request, job_, path().toStdString());
    }

    /// The sentence of the Error, empty where there is none; no file may be left.
    template <class Work>
    QString refusal(const Work& work) const {
        try {
            work();
        } catch (const Error& error) {
            return error.what();
        }
        return {};
    }

    QString refusal_of(const Decoder& decoder, const HuggingFaceRequest& request, const Texts& texts = {}) {
        QTemporaryDir target;
        HuggingFaceRequest asked = request;
        asked.calibration = texts;
        const QString said =
            refusal([&] { export_huggingface(decoder, asked, job_, target.filePath("model").toStdString()); });
        return files_in(target.path()).isEmpty() ? said : QStringLiteral("left files behind");
    }

    /// The written model in float32, so that it runs.
    std::unique_ptr<QTemporaryDir> unpacked(const Decoder& decoder, const Variant& variant) const {
        auto folder = std::make_unique<QTemporaryDir>();
        const Checkpoint& source = decoder.weights().checkpoint();
        const auto written = open_checkpoint(path().toStdString());
        std::map<std::size_t, LinearTensor> linears;
        for (const LinearTensor& linear : decoder.weights().linears())
            linears[linear.tensor] = linear;
        std::vector<SafetensorsEntry> entries;
        for (const TensorInfo& tensor : source.tensors)
            entries.push_back(safetensors_entry(tensor.name, "F32", tensor.shape));
        SafetensorsWriter writer(folder->path().toStdString(), entries);
        for (std::size_t i = 0; i < source.tensors.size(); ++i) {
            const TensorInfo& tensor = source.tensors[i];
            if (!linears.contains(i)) {
                writer.put(tensor.name, bytes_of(floats_of(*written, written->tensors[*written->find(tensor.name)])));
                continue;
            }
            const Matrix read = read_linear(*written, linears[i], variant);
            const Matrix weight = tensor.transposed ? Matrix(read.transpose()) : read;
            writer.put(tensor.name, bytes_of(std::vector<float>(weight.data(), weight.data() + weight.size())));
        }
        writer.finish();
        copy_companions(source, folder->path().toStdString());
        return folder;
    }

private slots:
    void layouts_hold_what_methods_made_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<QString>("method");
        QTest::addColumn<QString>("layout");
        QTest::addColumn<QString>("chosen");
        const auto row = [](const char* format, const char* method, const char* layout, const char* chosen) {
            QTest::addRow("%s %s %s", format, method, chosen) << format << method << layout << chosen;
        };
        for (const char* format : {"nf4", "nf4:dq", "fp4:block=128", "fp4:block=256,dq"})
            row(format, "rtn", "auto", "bitsandbytes");
        row("nf4", "gptq", "auto", "bitsandbytes");
        row("llm_int8", "rtn", "auto", "bitsandbytes");
        row("llm_int8", "llm_int8:threshold=5", "auto", "bitsandbytes");
        for (const char* format : {"int8", "int4", "int3", "int2", "int8:affine", "int4:affine,group=64",
                                   "int3:affine,group=32", "int2:affine,scope=channel"})
            row(format, "rtn", "auto", "gptq");
        for (const char* method : {"gptq", "gptq:act_order", "gptq:act_order,static_groups"})
            row("int4:affine,group=64", method, "auto", "gptq");
        row("int3", "gptq:act_order", "auto", "gptq");
        row("int4:affine", "rtn", "awq", "awq");
        row("int4:group=32", "gptq", "awq", "awq");
        for (const char* format : {"int8", "int4:group=64", "int3:group=64", "int2:scope=channel"})
            row(format, "hqq", "auto", "hqq");
        row("int4:affine,group=64", "rtn", "hqq", "hqq");
        for (const char* format : {"fp8_e4m3", "fp8_e4m3:scale=channel", "mxfp4", "mxfp8_e4m3:scale=ceil", "nvfp4"})
            row(format, "rtn", "auto", "compressed-tensors");
    }

    void layouts_hold_what_methods_made() {
        QFETCH(QString, format);
        QFETCH(QString, method);
        QFETCH(QString, layout);
        QFETCH(QString, chosen);
        const Decoder decoder = open_decoder(demo);
        const HuggingFaceRequest request =
            request_of(format.toUtf8().constData(), method.toUtf8().constData(), layout.toUtf8().constData());
        const Texts texts = qs::method(request.variant.method.id).calibrates ? texts_of(decoder) : Texts();
        QCOMPARE(QString::fromStdString(layout_for(request.layout, request.variant).id), chosen);
        const ExportSummary summary = write(decoder, request, texts);

        const Checkpoint& source = decoder.weights().checkpoint();
        const auto written = open_checkpoint(path().toStdString());
        const auto results = results_of(decoder, request.variant, texts);
        for (const LinearTensor& linear : decoder.weights().linears()) {
            const Matrix found = read_linear(*written, linear, request.variant);
            const std::vector<float>& expected = results.at(linear.name).weight;
            QCOMPARE(found.size(), static_cast<Index>(expected.size()));
            // NVFP4's scale is stored as its reciprocal, which rounds once more.
            const float rounding = format == "nvfp4" ? 2e-7F : 0;
            const auto same = [&](float a, float b) { return std::abs(a - b) <= rounding * std::abs(b); };
            QVERIFY2(std::equal(expected.begin(), expected.end(), found.data(), same), linear.name.c_str());
        }
        const auto linears = decoder.weights().linears();
        for (std::size_t i = 0; i < source.tensors.size(); ++i) {
            if (std::ranges::find(linears, i, &LinearTensor::tensor) != linears.end())
                continue;
            const TensorInfo& tensor = source.tensors[i];
            const TensorInfo& kept = written->tensors[written->find(tensor.name).value()];
            QCOMPARE(kept.shape, tensor.shape);
            QCOMPARE(kept.dtype, chosen == "bitsandbytes" || chosen == "compressed-tensors" ? DType::bf16 : DType::f16);
            const std::vector<float> before = floats_of(source, tensor), after = floats_of(*written, kept);
            for (std::size_t j = 0; j < before.size(); ++j)
                QCOMPARE(after[j], kept.dtype == DType::bf16 ? before[j] : fp16_to_float(float_to_fp16(before[j])));
        }
        QCOMPARE(summary.tensors, written->tensors.size());
        QCOMPARE(summary.bits_per_weight,
                 8.0 * static_cast<double>(written->bytes()) / static_cast<double>(source.parameters()));
        for (const TensorInfo& tensor : written->tensors)
            QVERIFY2(tensor.offset % std::min<std::size_t>(8, tensor.bytes / tensor.elements()) == 0,
                     tensor.name.c_str());
        for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
            QVERIFY(QFile::exists(path() + "/" + file));
        QCOMPARE(files_in(folder_.path()), QStringList{"model"});
    }

    void configs_name_what_they_hold() {
        const Decoder decoder = open_decoder(demo);
        const auto config_of = [&](const HuggingFaceRequest& request, const Texts& texts = {}) {
            write(decoder, request, texts);
            return read_json(path() + "/config.json");
        };
        nlohmann::json config = config_of(request_of("nf4:dq", "rtn"));
        QCOMPARE(config["torch_dtype"].get<std::string>(), std::string("bfloat16"));
        QVERIFY(config["quantization_config"]["load_in_4bit"].get<bool>());
        QVERIFY(config["quantization_config"]["bnb_4bit_use_double_quant"].get<bool>());
        QCOMPARE(config["quantization_config"]["bnb_4bit_quant_type"].get<std::string>(), std::string("nf4"));
        QCOMPARE(config["hidden_size"].get<int>(), 256);
        config = config_of(request_of("llm_int8", "llm_int8:threshold=5"));
        QCOMPARE(config["quantization_config"]["llm_int8_threshold"].get<double>(), 5.0);
        config = config_of(request_of("int3:group=64", "gptq:act_order,damp=0.05"), texts_of(decoder));
        QCOMPARE(config["torch_dtype"].get<std::string>(), std::string("float16"));
        const nlohmann::json gptq = config["quantization_config"];
        QVERIFY(gptq == read_json(path() + "/quantize_config.json"));
        QCOMPARE(gptq["bits"].get<int>(), 3);
        QCOMPARE(gptq["group_size"].get<int>(), 64);
        QVERIFY(gptq["desc_act"].get<bool>() && gptq["sym"].get<bool>() && !gptq["static_groups"].get<bool>());
        QCOMPARE(gptq["damp_percent"].get<double>(), 0.05);
        QCOMPARE(gptq["checkpoint_format"].get<std::string>(), std::string("gptq"));
        config = config_of(request_of("int8", "rtn"));
        QCOMPARE(config["quantization_config"]["group_size"].get<int>(), -1);
        config = config_of(request_of("int4:affine,group=64", "awq"), texts_of(decoder));
        QCOMPARE(config["quantization_config"]["version"].get<std::string>(), std::string("gemm"));
        QCOMPARE(config["quantization_config"]["group_size"].get<int>(), 64);
    }

    /// A group without weights below zero has the zero point 0, which only the second version stores.
    void gptq_changes_its_version_for_zero_points_of_0() {
        const MadeModel model([](const std::string& name, std::vector<float>& values) {
            if (name == "model.layers.1.mlp.up_proj.weight")
                std::ranges::transform(values, values.begin(), [](float w) { return std::abs(w) + 0.01F; });
        });
        const Decoder decoder = model.decoder();
        const HuggingFaceRequest request = request_of("int4:affine,group=32", "rtn");
        const ExportSummary summary = write(decoder, request);
        QCOMPARE(summary.notes.size(), std::size_t{1});
        QVERIFY(summary.notes.front().find("gptq_v2") != std::string::npos);
        const auto config = read_json(path() + "/config.json")["quantization_config"];
        QCOMPARE(config["checkpoint_format"].get<std::string>(), std::string("gptq_v2"));
        QVERIFY(!config["sym"].get<bool>());
        const auto written = open_checkpoint(path().toStdString());
        for (const auto& [name, result] : results_of(decoder, request.variant, {})) {
            const Matrix found = read_gptq(*written, name.substr(0, name.rfind('.')), 4, 0);
            QVERIFY2(std::equal(result.weight.begin(), result.weight.end(), found.data()), name.c_str());
        }
    }

    void folded_models_compute_the_same_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("format");
        QTest::addColumn<QString>("layout");
        QTest::addColumn<QString>("changed"); // a tensor that scales are folded into
        const QString attention = ".input_layernorm.weight";
        for (const char* model : {"llama", "gemma", "gemma2", "gemma3", "phi3", "qwen2", "qwen3", "llama-biases"})
            QTest::newRow(model) << model << "int4:group=8,affine"
                                 << "awq"
                                 << "model.layers.0.input_layernorm.weight";
        QTest::newRow("made, awq") << ""
                                   << "int4:group=32,affine"
                                   << "awq"
                                   << "model.layers.1.self_attn.v_proj.bias";
        QTest::newRow("made, gptq") << ""
                                    << "int4:group=32"
                                    << "gptq"
                                    << "model.layers.1.mlp.up_proj.bias";
    }

    void folded_models_compute_the_same() {
        QFETCH(QString, model);
        QFETCH(QString, format);
        QFETCH(QString, layout);
        QFETCH(QString, changed);
        const MadeModel made;
        const Decoder decoder = model.isEmpty() ? made.decoder() : open_decoder(tiny_models + model);
        const Texts texts = texts_of(decoder);
        const HuggingFaceRequest request = request_of(format.toUtf8().constData(), "awq", layout.toUtf8().constData());
        write(decoder, request, texts);
        const auto results = results_of(decoder, request.variant, texts);
        const WeightHook hook = [&](const LinearTensor& tensor, Matrix& weight) {
            weight = Eigen::Map<const Matrix>(results.at(tensor.name).weight.data(), weight.rows(), weight.cols());
        };
        const auto written = unpacked(decoder, request.variant);
        const Decoder again = open_decoder(written->path());
        // Norms, biases, embedding and scales have been rounded to float16.
        const double error = difference(again.run(texts[0]), decoder.run(texts[0], hook));
        QVERIFY2(error < 1e-2, qPrintable(QString::number(error)));

        const Checkpoint& before = decoder.weights().checkpoint();
        const Checkpoint& after = again.weights().checkpoint();
        const std::string name = changed.toStdString();
        const auto old_values = floats_of(before, before.tensors[before.find(name).value()]),
                   new_values = floats_of(after, after.tensors[after.find(name).value()]);
        double moved = 0;
        for (std::size_t i = 0; i < old_values.size(); ++i)
            moved = std::max(moved, std::abs(static_cast<double>(old_values[i]) - new_values[i]));
        QVERIFY2(moved > 0.01, qPrintable(QString::number(moved)));
    }

    void gpt2_is_stored_as_linear_layers() {
        const Decoder decoder = open_decoder(tiny_models + "gpt2");
        const HuggingFaceRequest request = request_of("nf4", "rtn");
        write(decoder, request);
        const auto results = results_of(decoder, request.variant, {});
        const auto written = open_checkpoint(path().toStdString());
        for (const LinearTensor& linear : decoder.weights().linears()) {
            const Matrix found = read_linear(*written, linear, request.variant);
            QCOMPARE(found.rows(), linear.outputs);
            const auto& expected = results.at(linear.name).weight;
            QVERIFY(std::equal(expected.begin(), expected.end(), found.data()));
        }
        for (const auto& [format, layout] : {std::pair("int4:group=8", "awq"), std::pair("int4:group=8", "hqq"),
                                             std::pair("fp8_e4m3", "compressed-tensors")})
            QVERIFY2(refusal_of(decoder, request_of(format, "rtn", layout)).contains("Conv1D"), layout);
    }

    void casts() {
        const auto checkpoint = open_checkpoint(demo.toStdString());
        for (const auto& [format, type, name] :
             {std::tuple("fp32", DType::f32, "float32"), std::tuple("fp16", DType::f16, "float16"),
              std::tuple("bf16", DType::bf16, "bfloat16")}) {
            HuggingFaceRequest request = request_of(format, "rtn");
            request.overwrite = true;
            QVERIFY(is_cast(request.variant));
            const ExportSummary summary = export_cast(*checkpoint, request, job_, path().toStdString());
            QCOMPARE(summary.bits_per_weight, type == DType::f32 ? 32.0 : 16.0);
            const auto written = open_checkpoint(path().toStdString());
            QCOMPARE(written->tensors.size(), checkpoint->tensors.size());
            for (const TensorInfo& tensor : written->tensors) {
                QCOMPARE(tensor.dtype, type);
                const auto before = floats_of(*checkpoint, checkpoint->tensors[*checkpoint->find(tensor.name)]);
                const auto after = floats_of(*written, tensor);
                for (std::size_t i = 0; i < before.size(); ++i)
                    QCOMPARE(after[i], type == DType::f16 ? fp16_to_float(float_to_fp16(before[i])) : before[i]);
            }
            QCOMPARE(read_json(path() + "/config.json")["torch_dtype"].get<std::string>(), std::string(name));
        }
    }

    void many_files_have_an_index() {
        const Decoder decoder = open_decoder(demo);
        HuggingFaceRequest request = request_of("int4:affine", "rtn");
        write(decoder, request);
        const auto whole = open_checkpoint(path().toStdString());
        std::map<std::string, std::vector<std::uint8_t>> bytes;
        for (const TensorInfo& tensor : whole->tensors)
            bytes[tensor.name] = raw<std::uint8_t>(*whole, tensor.name);
        request.file_bytes = 300'000;
        write(decoder, request);
        QVERIFY(!QFile::exists(path() + "/model.safetensors"));
        const auto divided = open_checkpoint(path().toStdString());
        QVERIFY(divided->files.size() > 5);
        QCOMPARE(divided->tensors.size(), whole->tensors.size());
        for (const TensorInfo& tensor : divided->tensors)
            QVERIFY2(raw<std::uint8_t>(*divided, tensor.name) == bytes.at(tensor.name), tensor.name.c_str());
        QVERIFY(QFile::exists(
            path() + QString("/model-00001-of-%1.safetensors").arg(divided->files.size(), 5, 10, QLatin1Char('0'))));
    }

    void does_not_depend_on_the_threads() {
        const Decoder decoder = open_decoder(demo);
        HuggingFaceRequest request = request_of("int4:affine", "awq");
        QByteArray first;
        for (const int threads : {1, 2}) {
            request.threads = threads;
            write(decoder, request, texts_of(decoder));
            QFile file(path() + "/model.safetensors");
            QVERIFY(file.open(QIODevice::ReadOnly));
            const QByteArray all = file.readAll();
            QVERIFY(first.isEmpty() || all == first);
            first = all;
        }
    }

    void refuses_what_it_cannot_store() {
        const Decoder decoder = open_decoder(demo), tiny = open_decoder(tiny_models + "llama");
        QVERIFY(refusal_of(tiny, request_of("int4:group=8", "rtn")).contains("multiples of 32"));
        QVERIFY(refusal_of(tiny, request_of("int4", "rtn", "awq")).contains("whole groups"));
        QVERIFY(refusal_of(decoder, request_of("q4_K", "rtn")).contains("OUT.gguf"));
        QVERIFY(refusal_of(decoder, request_of("int4", "hqq", "gptq")).contains("int8, int4"));
        QVERIFY(refusal_of(decoder, request_of("int4", "rtn", "gptk")).contains("not known"));
        QVERIFY(refusal_of(decoder, request_of("int4", "gptq")).contains("calibrate"));
        QVERIFY(refusal_of(decoder, request_of("int4", "gptq:act_order", "awq"), texts_of(decoder))
                    .contains("follow each other"));
        const Decoder gguf = open_decoder(tiny_models + "llama/model.gguf");
        QVERIFY(refusal_of(gguf, request_of("nf4", "rtn")).contains("GGUF"));
        const Decoder gpt2 = open_decoder(tiny_models + "gpt2");
        QVERIFY(refusal_of(gpt2, request_of("int4:group=8", "awq", "gptq"), texts_of(gpt2)).contains("multiples"));
    }

    void refuses_tensors_that_are_not_finite() {
        for (const char* name : {"model.layers.1.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight",
                                 "model.embed_tokens.weight"}) {
            const MadeModel model([&](const std::string& tensor, std::vector<float>& values) {
                if (tensor == name)
                    values[5] = std::numeric_limits<float>::quiet_NaN();
            });
            for (const char* format : {"nf4", "int4:group=32"}) {
                const QString said = refusal_of(model.decoder(), request_of(format, "rtn"));
                QVERIFY2(said.contains("not finite") && said.contains(name), qPrintable(said));
            }
        }
        const MadeModel large([&](const std::string& tensor, std::vector<float>& values) {
            if (tensor == "model.embed_tokens.weight")
                values[5] = 1e6F;
        });
        QVERIFY(refusal_of(large.decoder(), request_of("int4:group=32", "rtn")).contains("beyond what F16"));
    }

    void leaves_other_folders_alone() {
        const Decoder decoder = open_decoder(demo);
        const QTemporaryDir target;
        const std::filesystem::path taken = target.filePath("taken").toStdString();
        std::filesystem::create_directory(taken);
        HuggingFaceRequest request = request_of("nf4", "rtn");
        export_huggingface(decoder, request, job_, taken); // an empty folder is filled
        const auto again = [&] { export_huggingface(decoder, request, job_, taken); };
        QVERIFY(refusal(again).contains("--overwrite"));
        std::ofstream(taken / "stray.txt") << "text";
        request.overwrite = true;
        again();
        QVERIFY(!std::filesystem::exists(taken / "stray.txt"));
        std::filesystem::create_directory(taken / "more");
        QVERIFY(refusal(again).contains("more than files"));
        QCOMPARE(files_in(target.path()), QStringList{"taken"});

        const MadeModel model;
        request = request_of("int4:group=32", "rtn");
        request.overwrite = true;
        QVERIFY(refusal([&] {
                    export_huggingface(model.decoder(), request, job_, model.path());
                }).contains("checkpoint itself"));
        QVERIFY(refusal([&] {
                    export_huggingface(decoder, request, job_, target.filePath("a/b").toStdString());
                }).contains("cannot be written"));
    }

    void leaves_nothing_when_it_is_cancelled() {
        const Decoder decoder = open_decoder(demo);
        const QTemporaryDir target;
        JobControl job;
        job.cancel();
        QVERIFY_THROWS_EXCEPTION(Cancelled, export_huggingface(decoder, request_of("int4", "rtn"), job,
                                                               target.filePath("model").toStdString()));
        QVERIFY(files_in(target.path()).isEmpty());
    }
};

QTEST_GUILESS_MAIN(TestHuggingFace)
#include "test_huggingface.moc"
