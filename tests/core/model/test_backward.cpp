// Before Qt, whose macro `emit` is a name in it.
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <QDir>
#include <QTest>

#include <random>

#include "core/base/error.h"
#include "core/model/backward.h"
#include "core/model/product.h"
#include "tests/core/model/double_decoder.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

/// A parameter tensor and its gradient.
struct Checked {
    std::string name;
    std::span<float> values;
    std::span<const float> gradient;
};

template <class M>
void add(std::vector<Checked>& tensors, const std::string& name, M& values, const M& gradient) {
    if (values.size() > 0)
        tensors.push_back({name,
                           {values.data(), static_cast<std::size_t>(values.size())},
                           {gradient.data(), static_cast<std::size_t>(gradient.size())}});
}

void add(std::vector<Checked>& tensors, const std::string& name, Norm& values, const Norm& gradient) {
    add(tensors, name + " weight", values.weight, gradient.weight);
    add(tensors, name + " bias", values.bias, gradient.bias);
}

std::vector<Checked> tensors_of(const DecoderConfig& config, Parameters& values, const DecoderGradients& gradients) {
    std::vector<Checked> tensors;
    for (std::size_t i = 0; i < values.layers.size(); ++i) {
        LayerWeights& layer = values.layers[i];
        const LayerWeights& gradient = gradients.layers[i];
        const std::string in = "layer " + std::to_string(i) + " ";
        for (std::size_t slot = 0; slot < slot_count; ++slot)
            if (auto& linear = layer.linears[slot]) {
                add(tensors, linear->tensor.name, linear->weight, gradient.linears[slot]->weight);
                add(tensors, linear->tensor.name + " bias", linear->bias, gradient.linears[slot]->bias);
            }
        add(tensors, in + "attention norm", layer.attention_norm, gradient.attention_norm);
        add(tensors, in + "attention output norm", layer.attention_output_norm, gradient.attention_output_norm);
        add(tensors, in + "mlp norm", layer.mlp_norm, gradient.mlp_norm);
        add(tensors, in + "mlp output norm", layer.mlp_output_norm, gradient.mlp_output_norm);
        add(tensors, in + "q norm", layer.q_norm, gradient.q_norm);
        add(tensors, in + "k norm", layer.k_norm, gradient.k_norm);
    }
    add(tensors, "output norm", values.head.norm, gradients.head.norm);
    if (!config.tied_head)
        add(tensors, "head", values.head.weight, gradients.head.weight);
    add(tensors, "embedding", values.embedding, gradients.embedding);
    add(tensors, "positions", values.positions, gradients.positions);
    return tensors;
}

/// What the loss changes by from values − step to values + step, and what the gradient says it does: over the steps
/// that are left of them in float32.
struct Change {
    double expected = 0, found = 0;
};
template <class Loss>
Change change(const Checked& tensor, std::span<const double> step, Loss loss) {
    const std::vector<float> kept(tensor.values.begin(), tensor.values.end());
    Change result;
    for (const double sign : {-1.0, 1.0}) {
        for (std::size_t i = 0; i < step.size(); ++i) {
            tensor.values[i] = static_cast<float>(static_cast<double>(kept[i]) + sign * step[i]);
            result.found += sign * static_cast<double>(tensor.gradient[i]) * static_cast<double>(tensor.values[i]);
        }
        result.expected += sign * loss();
    }
    std::ranges::copy(kept, tensor.values.begin());
    return result;
}

constexpr double step_size = 1e-4;

/// A step along the gradient, which every value of it has a part in.
std::vector<double> step_along(const Checked& tensor, double norm) {
    std::vector<double> step;
    for (const float g : tensor.gradient)
        step.push_back(step_size * static_cast<double>(g) / norm);
    return step;
}

double norm_of(std::span<const float> values) {
    double sum = 0;
    for (const float value : values)
        sum += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(sum);
}

} // namespace

/// The gradients of every parameter of every family against finite differences of a loss in float64.
class Backward : public QObject {
    Q_OBJECT

private:
    const JobControl job_;

    /// The batch of the texts and the gradient of its mean loss.
    DecoderGradients gradients(const Decoder& decoder, const Parameters& p, const std::vector<Batch>& batches,
                               double* loss) {
        DecoderGradients gradients = zero_gradients(decoder.config(), p.layers, p.head, p.positions.rows());
        gradients.embedding = Matrix::Zero(p.embedding.rows(), p.embedding.cols());
        *loss = 0;
        for (const Batch& batch : batches)
            *loss += add_gradients(decoder.config(), p.layers, p.head, batch, 1, gradients, job_);
        return gradients;
    }

private slots:
    void every_parameter_of_every_family_data() {
        QTest::addColumn<QString>("file");
        for (const QString& model : QDir(tiny_models).entryList(QDir::Dirs | QDir::NoDotAndDotDot))
            QTest::newRow(qPrintable(model)) << tiny_models + model + "/model.safetensors";
        QTest::newRow("llama gguf") << tiny_models + "llama/model.gguf";
    }

    void every_parameter_of_every_family() {
        QFETCH(QString, file);
        const Decoder decoder = open_decoder(file);
        const DecoderConfig& config = decoder.config();
        // Two texts of different lengths in one batch, longer than the sliding windows.
        std::vector<int> text = tiny_ids(QFileInfo(file).dir().dirName());
        text.resize(std::min<std::size_t>(text.size(), 14));
        std::vector<std::vector<int>> texts = {text, {text.rbegin(), text.rbegin() + 7}};
        Parameters p = load_parameters(decoder, 14);
        const auto loss = [&] {
            const DoubleDecoder exact(config, p);
            return exact.loss(texts[0]) + exact.loss(texts[1]);
        };

        double found_loss = 0;
        const DecoderGradients found = gradients(decoder, p, decoder.start(texts), &found_loss);
        QVERIFY(std::abs(found_loss / loss() - 1) < 1e-6);
        std::mt19937 random(1);
        double worst = 0;
        for (const Checked& tensor : tensors_of(config, p, found)) {
            const double norm = norm_of(tensor.gradient);
            const auto check = [&](const std::vector<double>& step, double size) {
                const auto [expected, got] = change(tensor, step, loss);
                const double error = std::abs(got - expected) / (2 * step_size * size);
                worst = std::max(worst, error);
                QVERIFY2(error < 1e-4, qPrintable(QString::fromStdString(tensor.name) + ": " + QString::number(error)));
            };
            const bool no_part = norm < 1e-5; // the bias of keys, which moves all scores of a query alike
            if (!no_part)
                check(step_along(tensor, norm), norm);
            for (int sample = 0; sample < 12; ++sample) {
                std::vector<double> step(tensor.values.size());
                step[random() % step.size()] = step_size;
                check(step, no_part ? 1
                                    : static_cast<double>(std::abs(*std::ranges::max_element(
                                          tensor.gradient, {}, [](float g) { return std::abs(g); }))));
            }
        }
        qInfo("largest relative error %.1e", worst);
    }

    /// Attention and sums that go over more than one block of rows, with gradients of several batches added.
    void long_texts() {
        const Decoder decoder = open_decoder(tiny_models + "mistral");
        Parameters p = load_parameters(decoder, 0);
        std::mt19937 random(2);
        std::vector<std::vector<int>> texts(12, std::vector<int>(150));
        for (auto& text : texts)
            for (int& token : text)
                token = static_cast<int>(random() % static_cast<unsigned>(decoder.config().vocabulary));
        const std::vector<Batch> batches = decoder.start(texts);
        QVERIFY(batches.size() > 1);
        const auto loss = [&] {
            double sum = 0;
            for (const auto& text : texts)
                sum += DoubleDecoder(decoder.config(), p).loss(text);
            return sum;
        };
        double found_loss = 0;
        const DecoderGradients found = gradients(decoder, p, batches, &found_loss);
        for (const Checked& tensor : tensors_of(decoder.config(), p, found)) {
            if (!tensor.name.starts_with("model.layers.0"))
                continue;
            const double norm = norm_of(tensor.gradient);
            const auto [expected, got] = change(tensor, step_along(tensor, norm), loss);
            QVERIFY2(std::abs(got / expected - 1) < 1e-4, tensor.name.c_str());
        }
    }

    /// Σ p ln(p / q) and its gradient by differences; none beside itself.
    void divergence_from_a_teacher() {
        const Decoder decoder = open_decoder(tiny_models + "gemma2");
        const DecoderConfig& config = decoder.config();
        const std::vector<int> text = tiny_ids("gemma2");
        const Parameters teacher = load_parameters(decoder, 0);
        Parameters p = teacher;
        for (LayerWeights& layer : p.layers)
            layer[Slot::down]->weight.array() += 0.1F;
        const std::vector<Batch> batches = decoder.start(std::span(&text, 1));
        const Matrix hidden = run_layers(config, teacher.layers, batches[0], job_);
        const DoubleDecoder exact_teacher(config, teacher), exact(config, p);
        const auto loss = [&] { return exact.divergence(exact_teacher, text); };

        DecoderGradients found = zero_gradients(config, p.layers, p.head, 0);
        const double divergence = add_gradients(config, p.layers, p.head, batches[0], 1, found, job_, &hidden);
        QVERIFY(divergence > 0.01);
        QVERIFY(std::abs(divergence / loss() - 1) < 1e-4);
        for (const Checked& tensor : tensors_of(config, p, found)) {
            if (!tensor.name.starts_with("model.layers"))
                continue;
            const auto [expected, got] = change(tensor, step_along(tensor, norm_of(tensor.gradient)), loss);
            QVERIFY2(std::abs(got / expected - 1) < 1e-4, tensor.name.c_str());
        }
        const Matrix own = run_layers(config, p.layers, batches[0], job_);
        QVERIFY(std::abs(loss_of(config, p.head, batches[0], own, &own)) < 1e-9);
    }

    void does_not_depend_on_threads() {
        const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 4);
        const Decoder decoder = open_decoder(tiny_models + "gemma2");
        const Parameters p = load_parameters(decoder, 0);
        const std::vector<std::vector<int>> texts(40, tiny_ids("gemma2"));
        const std::vector<Batch> batches = decoder.start(texts);
        std::vector<DecoderGradients> results;
        for (const int threads : {1, 2, 4}) {
            double loss = 0;
            tbb::task_arena(threads).execute([&] { results.push_back(gradients(decoder, p, batches, &loss)); });
        }
        for (const DecoderGradients& result : results)
            for (std::size_t layer = 0; layer < result.layers.size(); ++layer) {
                QVERIFY(result.layers[layer][Slot::q]->weight == results[0].layers[layer][Slot::q]->weight);
                QVERIFY(result.layers[layer].mlp_norm.weight == results[0].layers[layer].mlp_norm.weight);
                QVERIFY(result.embedding == results[0].embedding);
            }
    }

    void loss_alone_is_the_same() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Parameters p = load_parameters(decoder, 0);
        const std::vector<std::vector<int>> texts = {tiny_ids("llama")};
        const std::vector<Batch> batches = decoder.start(texts);
        double loss = 0;
        gradients(decoder, p, batches, &loss);
        const Matrix hidden = run_layers(decoder.config(), p.layers, batches[0], job_);
        QCOMPARE(loss_of(decoder.config(), p.head, batches[0], hidden), loss);
        QCOMPARE(scored_tokens(batches[0]), texts[0].size() - 1);
    }

    void cancelled() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Parameters p = load_parameters(decoder, 0);
        const std::vector<std::vector<int>> texts = {tiny_ids("llama")};
        DecoderGradients gradients = zero_gradients(decoder.config(), p.layers, p.head, 0);
        JobControl job;
        job.cancel();
        QVERIFY_THROWS_EXCEPTION(
            Cancelled, add_gradients(decoder.config(), p.layers, p.head, decoder.start(texts)[0], 1, gradients, job));
    }
};

QTEST_GUILESS_MAIN(Backward)
#include "test_backward.moc"
