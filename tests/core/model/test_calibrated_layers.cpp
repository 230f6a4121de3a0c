#include <QTemporaryDir>
#include <QTest>

#include "core/analysis/importance.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/formats/registry.h"
#include "core/model/calibrated_layers.h"
#include "core/model/collect_imatrix.h"
#include "core/model/evaluation.h"
#include "core/model/product.h"
#include "core/model/text_windows.h"
#include "core/model/tokenizer.h"
#include "core/model/variants.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

using Texts = std::vector<std::vector<int>>;

Variant variant(const char* format, const char* method, Activations activations = Activations::none) {
    return {parse_spec(format), parse_method(method), activations};
}

/// Made up, but of one kind: tokens follow each other by a rule with a little noise.
Texts made_texts(int vocabulary, std::size_t count, std::size_t length, unsigned seed) {
    Texts texts(count);
    unsigned state = seed;
    for (auto& text : texts)
        for (std::size_t i = 0; i < length; ++i) {
            state = state * 1664525U + 1013904223U;
            text.push_back(static_cast<int>((i * 7 + (state >> 28)) % static_cast<unsigned>(vocabulary)));
        }
    return texts;
}

using MatrixByName = std::map<std::string, Matrix>;

/// All layers of one variant.
std::vector<LayerWeights> quantized_layers(const Decoder& decoder, const Variant& variant, const Texts& texts) {
    JobControl job;
    CalibratedLayers layers(decoder, {variant}, texts, job);
    std::vector<LayerWeights> made(static_cast<std::size_t>(decoder.config().layers));
    for (int layer = 0; layer < decoder.config().layers; ++layer) {
        const LayerWeights weights = decoder.weights().layer(layer);
        layers.begin(weights);
        layers.quantize(0, made[static_cast<std::size_t>(layer)]);
    }
    return made;
}

const Linear& linear_of(const std::vector<LayerWeights>& layers, const LinearTensor& tensor) {
    for (const auto& linear : layers[static_cast<std::size_t>(tensor.layer)].linears)
        if (linear && linear->tensor.tensor == tensor.tensor)
            return *linear;
    throw Error(tensor.name, "is missing");
}

/// The inputs of every linear layer of a model with some of its weights replaced, all texts below each other.
MatrixByName inputs_of(const Decoder& decoder, const Texts& texts, const WeightHook& hook) {
    MatrixByName inputs;
    for (const auto& text : texts)
        decoder.run(text, hook, [&](const LinearTensor& tensor, const Matrix& in, const Matrix&) {
            Matrix& all = inputs[tensor.name];
            all.conservativeResize(all.rows() + in.rows(), in.cols());
            all.bottomRows(in.rows()) = in;
        });
    return inputs;
}

std::size_t count_of(const Texts& texts) {
    std::size_t tokens = 0;
    for (const auto& text : texts)
        tokens += text.size();
    return tokens;
}

} // namespace

/// Methods over whole decoders: what they are calibrated on, and what comes of it.
class TestCalibratedLayers : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<Device> device_ = make_cpu_device(2);
    QTemporaryDir folder_;

    Evaluation run(const Decoder& decoder, const std::vector<Variant>& variants, const Texts& windows,
                   const Texts& calibration, JobControl& job, const std::string& state = {},
                   std::size_t group_tokens = 16384, int threads = 0) {
        EvaluationRequest request;
        request.windows = windows;
        request.variants = variants;
        request.calibration = calibration;
        request.state = state;
        request.group_tokens = group_tokens;
        request.threads = threads;
        return evaluate(decoder, request, *device_, job);
    }

private slots:
    void streaming_is_holding_everything_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("method");
        for (const char* model : {"llama", "gpt2", "qwen2", "phi3", "gemma2"})
            for (const char* method : {"gptq", "awq:clip=0", "hqq"})
                QTest::newRow(qPrintable(QString("%1 %2").arg(model, method))) << model << method;
    }

    /// Each matrix is what the method makes of it on inputs of a whole model: with GPTQ of the one quantized as far as
    /// the layer before, else of the unquantized one.
    void streaming_is_holding_everything() {
        QFETCH(QString, model);
        QFETCH(QString, method);
        const Decoder decoder = open_decoder(tiny_models + model);
        const Texts texts = made_texts(decoder.config().vocabulary, 3, 30, 5);
        const Variant chosen = variant("int4:group=16,scales=fp32", method.toUtf8().constData());
        const std::vector<LayerWeights> made = quantized_layers(decoder, chosen, texts);
        JobControl job;
        for (const LinearTensor& tensor : decoder.weights().linears()) {
            const WeightHook hook = [&](const LinearTensor& other, Matrix& weight) {
                if (chosen.method.id == "gptq" && other.layer < tensor.layer)
                    weight = linear_of(made, other).weight;
            };
            const Matrix inputs = inputs_of(decoder, texts, hook).at(tensor.name);
            const Matrix weight = decoder.weights().load(tensor);
            Calibration calibration(static_cast<std::size_t>(weight.cols()));
            calibration.add(inputs.data(), static_cast<std::size_t>(inputs.rows()));
            const TensorShape shape{static_cast<std::uint64_t>(weight.rows()),
                                    static_cast<std::uint64_t>(weight.cols())};
            const Matrix& found = linear_of(made, tensor).weight;
            if (chosen.method.id == "awq" && tensor.role != Role::mlp_down)
                continue; // scales are shared; see below
            const auto expected =
                apply_method(chosen.method, chosen.format, weight.data(), shape, calibration, job).weight;
            const Matrix held = Eigen::Map<const Matrix>(expected.data(), weight.rows(), weight.cols());
            // Codes on an edge may fall either way where sums are made in another order.
            const auto differing = ((found - held).cwiseAbs().array() > 1e-5f * held.cwiseAbs().maxCoeff()).count();
            QVERIFY2(differing <= found.size() / 50, qPrintable(QString::fromStdString(tensor.name)));
        }
    }

    /// q, k and v are scaled by the same; o keeps its scale where heads share keys and values; q and k are not clipped.
    void awq_shares_scales() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        QVERIFY(decoder.config().heads != decoder.config().kv_heads);
        const Texts texts = made_texts(decoder.config().vocabulary, 3, 30, 5);
        JobControl job;
        std::map<Role, MethodResult> results;
        CalibratedLayers layers(decoder, {variant("int3:group=16", "awq")}, texts, job);
        const LayerWeights weights = decoder.weights().layer(0);
        LayerWeights target;
        layers.begin(weights);
        layers.quantize(0, target,
                        [&](const LinearTensor& tensor, const MethodResult& result) { results[tensor.role] = result; });
        QCOMPARE(results.size(), std::size_t{7});
        QCOMPARE(results.at(Role::attention_q).smoothing, results.at(Role::attention_k).smoothing);
        QCOMPARE(results.at(Role::attention_q).smoothing, results.at(Role::attention_v).smoothing);
        QCOMPARE(results.at(Role::mlp_gate).smoothing, results.at(Role::mlp_up).smoothing);
        QVERIFY(std::ranges::all_of(results.at(Role::attention_o).smoothing, [](float s) { return s == 1; }));
        QVERIFY(!results.at(Role::attention_q).method.flag("clip"));
        QVERIFY(!results.at(Role::attention_k).method.flag("clip"));
        QVERIFY(results.at(Role::attention_v).method.flag("clip"));
    }

    /// SmoothQuant scales only what stands behind a norm, and its layers round their inputs.
    void smoothquant_simulates() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const auto made = quantized_layers(decoder, variant("int8", "smoothquant"),
                                           made_texts(decoder.config().vocabulary, 3, 30, 5));
        const Linear& linear = *made[0][Slot::down];
        const Matrix inputs = Matrix::Random(5, linear.weight.cols());
        Matrix rounded = inputs, expected, found;
        round_activations(Activations::int8, rounded.data(), 5, static_cast<std::size_t>(rounded.cols()));
        multiply(rounded, linear.weight, expected);
        multiply_by(linear, inputs, found);
        QVERIFY(difference(found, expected) < 1e-6);
        QVERIFY((rounded - inputs).cwiseAbs().maxCoeff() > 0);
    }

    void inputs_are_rounded() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts texts = made_texts(decoder.config().vocabulary, 2, 20, 3);
        JobControl job;
        std::vector<Variant> variants;
        for (const auto activations : {Activations::none, Activations::int8, Activations::fp8, Activations::mxfp8})
            variants.push_back(variant("fp32", "rtn", activations));
        const Evaluation evaluation = run(decoder, variants, texts, {}, job);
        QCOMPARE(evaluation.variants[0].scores.kld_mean, 0.0);
        const LinearTensor tensor = decoder.weights().linears().front();
        const Matrix inputs = inputs_of(decoder, texts, {}).at(tensor.name), weight = decoder.weights().load(tensor);
        for (const VariantResult& result : evaluation.variants) {
            Matrix rounded = inputs, exact, simulated;
            round_activations(result.variant.activations, rounded.data(), static_cast<std::size_t>(inputs.rows()),
                              static_cast<std::size_t>(inputs.cols()));
            multiply(inputs, weight, exact);
            multiply(rounded, weight, simulated);
            const double expected = static_cast<double>((simulated - exact).norm() / exact.norm());
            QVERIFY(std::abs(result.linears.at(tensor.name).relative_error() - expected) < 1e-5);
            QCOMPARE(expected > 0, result.variant.activations != Activations::none);
        }
        QVERIFY(evaluation.variants[2].scores.kld_mean > evaluation.variants[1].scores.kld_mean);
        QVERIFY(evaluation.variants[1].scores.kld_mean > 0);
    }

    /// With eight bits for small groups every method all but gives the model back.
    /// (Four bits, a step sixteen times as large, have some two hundred times the divergence.)
    void fine_formats_change_nothing() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts texts = made_texts(decoder.config().vocabulary, 4, 30, 5);
        std::vector<Variant> variants;
        for (const char* method : {"gptq", "gptq:act_order", "awq", "hqq", "smoothquant:activations=none"})
            variants.push_back(variant("int8:scope=group,group=16,scales=fp32", method));
        JobControl job;
        for (const VariantResult& result : run(decoder, variants, texts, texts, job).variants)
            QVERIFY2(result.scores.kld_mean < 1e-3, result.variant.text().c_str());
        QCOMPARE(job.done(), job.total());
    }

    /// On a trained model and a text that was not calibrated on.
    void better_than_rounding() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const Decoder decoder = open_decoder(stories + "derived/gguf/stories260K-f32.gguf");
        const auto tokenizer = open_tokenizer(decoder.weights().checkpoint());
        const auto mapped =
            MappedFile::open(QStringLiteral(QUANTOSCOPE_SHARED_DATA "/text/tinystories_sample.txt").toStdString());
        Texts windows = text_windows(*tokenizer, decoder.config(), as_text(mapped->bytes()), {"<|endoftext|>", 0, 0});
        const auto half = static_cast<std::ptrdiff_t>(windows.size() / 2);
        const Texts calibration(windows.begin() + half, windows.end());
        windows.resize(static_cast<std::size_t>(half));
        JobControl job;
        const auto variants = combine(parse_specs("int4:group=64,int3:group=64"), parse_methods("rtn,gptq,awq,hqq"));
        const Evaluation evaluation = run(decoder, variants, windows, calibration, job);
        QCOMPARE(evaluation.variants.size(), std::size_t{8});
        for (std::size_t i = 0; i < 8; ++i) {
            const VariantResult &result = evaluation.variants[i], &rounded = evaluation.variants[i / 4 * 4];
            QVERIFY2(i % 4 == 0 || result.scores.kld_mean < rounded.scores.kld_mean, result.variant.text().c_str());
            QVERIFY(result.seconds > 0);
        }
    }

    /// In groups of windows, after which the layers are kept, on other threads, and with results from a file.
    void groups_threads_and_files_do_not_matter() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts windows = made_texts(decoder.config().vocabulary, 5, 25, 7),
                    calibration = made_texts(decoder.config().vocabulary, 3, 30, 5);
        const auto variants = combine(parse_specs("int4:group=16,llm_int8"), parse_methods("rtn,gptq,awq,llm_int8"));
        const std::string state = folder_.filePath("groups.json").toStdString();
        JobControl first, second, third, fourth;
        const Evaluation whole = run(decoder, variants, windows, calibration, first, {}, 16384, 1);
        const Evaluation parts = run(decoder, variants, windows, calibration, second, state, 25, 4);
        QCOMPARE(second.done(), second.total());
        const Evaluation read = run(decoder, variants, windows, calibration, third, state);
        QCOMPARE(third.total(), std::uint64_t{0});
        for (const Evaluation* other : {&parts, &read})
            for (std::size_t i = 0; i < variants.size(); ++i) {
                const VariantResult &a = whole.variants[i], &b = other->variants[i];
                QCOMPARE(b.scores.tokens, std::size_t{5 * 24});
                if (a.variant.method.id != "llm_int8") // whose outliers are those of what is multiplied at once
                    QCOMPARE(b.scores.kld_mean, a.scores.kld_mean);
                QCOMPARE(b.bits_per_weight, a.bits_per_weight);
            }
        QCOMPARE(read.variants[1].seconds, parts.variants[1].seconds);
        // Another calibration text: what does not look at it has its results.
        run(decoder, variants, windows, windows, fourth, state);
        QVERIFY(fourth.total() > 0);
        QCOMPARE(fourth.done(), fourth.total());
    }

    void an_interrupted_run_goes_on() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts windows = made_texts(decoder.config().vocabulary, 4, 25, 7);
        EvaluationRequest request;
        request.windows = windows;
        request.calibration = windows;
        request.variants = {variant("int3:group=16", "gptq"), variant("nf4", "awq")};
        JobControl job, rest, none;
        const Evaluation whole = evaluate(decoder, request, *device_, none);
        request.state = folder_.filePath("interrupted.json").toStdString();
        request.group_tokens = 50;
        const auto stop = [&](const Evaluation&) { job.cancel(); };
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job, stop), Cancelled);
        const Evaluation resumed = evaluate(decoder, request, *device_, rest);
        for (std::size_t i = 0; i < 2; ++i) {
            QCOMPARE(resumed.variants[i].scores.tokens, std::size_t{4 * 24});
            QCOMPARE(resumed.variants[i].scores.kld_mean, whole.variants[i].scores.kld_mean);
        }
    }

    void is_cancelled_within_a_layer() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts texts = made_texts(decoder.config().vocabulary, 3, 30, 5);
        JobControl job;
        CalibratedLayers layers(decoder, {variant("int4", "gptq")}, texts, job);
        const LayerWeights weights = decoder.weights().layer(0);
        LayerWeights target;
        layers.begin(weights);
        std::size_t made = 0;
        QVERIFY_EXCEPTION_THROWN(layers.quantize(0, target,
                                                 [&](const LinearTensor&, const MethodResult&) {
                                                     ++made;
                                                     job.cancel();
                                                 }),
                                 Cancelled);
        QCOMPARE(made, std::size_t{1});
    }

    void what_cannot_be_made_is_refused() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Texts texts = made_texts(decoder.config().vocabulary, 1, 30, 5);
        JobControl job;
        QVERIFY_EXCEPTION_THROWN(CalibratedLayers(decoder, {variant("nf4", "hqq")}, texts, job), Error);
        QVERIFY_EXCEPTION_THROWN(CalibratedLayers(decoder, {variant("int4", "gptq")}, {}, job), Error);
        QVERIFY(is_defined(variant("Q4_K_M", "rtn")) && !is_defined(variant("Q4_K_M", "gptq")));
    }

    void importance_matrix_data() {
        QTest::addColumn<QString>("model");
        for (const char* model : {"llama", "qwen3", "phi3"})
            QTest::newRow(model) << model;
    }

    /// The means of the squared inputs, in a file from which they are found again under each tensor.
    void importance_matrix() {
        QFETCH(QString, model);
        const Decoder decoder = open_decoder(tiny_models + model);
        const Texts texts = made_texts(decoder.config().vocabulary, 3, 30, 5);
        ImatrixCollector collector(30);
        JobControl job;
        QVERIFY(collect_imatrix(decoder, texts, collector, job).empty());
        QCOMPARE(job.done(), job.total());
        const auto inputs = inputs_of(decoder, texts, {});
        const Checkpoint& checkpoint = decoder.weights().checkpoint();
        for (const char* name : {"imatrix.gguf", "imatrix.dat"}) {
            const std::string path = folder_.filePath(name).toStdString();
            name[8] == 'g' ? collector.write_gguf(path) : collector.write_binary(path);
            const ImportanceMatrix matrix = open_imatrix(path);
            for (const LinearTensor& linear : decoder.weights().linears()) {
                const auto found = importance_of(matrix, checkpoint, checkpoint.tensors[linear.tensor]).values;
                const Matrix& in = inputs.at(linear.name);
                QCOMPARE(static_cast<Index>(found.size()), in.cols());
                for (Index i = 0; i < in.cols(); ++i) {
                    const double mean = in.col(i).cast<double>().squaredNorm() / static_cast<double>(count_of(texts));
                    QVERIFY(std::abs(static_cast<double>(found[static_cast<std::size_t>(i)]) - mean) <= 1e-5 * mean);
                }
            }
        }
    }
};

QTEST_GUILESS_MAIN(TestCalibratedLayers)
#include "test_calibrated_layers.moc"
