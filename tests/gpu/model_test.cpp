#include <QDir>
#include <QtTest>

#include <algorithm>
#include <chrono>
#include <random>

#include "core/base/error.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"
#include "core/methods/qat.h"
#include "core/model/continuations.h"
#include "core/model/evaluation.h"
#include "core/model/generation.h"
#include "core/model/layer_runner.h"
#include "core/model/variants.h"
#include "tests/core/model/double_decoder.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

Matrix random_matrix(Index rows, Index columns, unsigned seed, float scale = 1) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0, scale);
    return Matrix::NullaryExpr(rows, columns, [&] { return normal(engine); });
}

double relative(double a, double b) {
    return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-30});
}

/// Which attention of which texts.
struct AttentionCase {
    int heads, kv_heads, head_dim, window;
    double cap;
    std::vector<Index> lengths;
};

/// The largest difference of any gradient beside the largest value of its tensor; gradients that rounding alone makes,
/// as those of the bias of keys, count as 0.
double worst_difference(const std::vector<LayerWeights>& a, const std::vector<LayerWeights>& b) {
    double worst = 0;
    const auto compare = [&](const auto& x, const auto& y) {
        if (x.size() != y.size())
            worst = std::numeric_limits<double>::infinity();
        else if (y.size() > 0)
            worst = std::max(
                worst, static_cast<double>((x - y).cwiseAbs().maxCoeff() / std::max(y.cwiseAbs().maxCoeff(), 1e-2F)));
    };
    for (std::size_t i = 0; i < b.size(); ++i) {
        for (std::size_t slot = 0; slot < slot_count; ++slot)
            if (b[i].linears[slot]) {
                compare(a[i].linears[slot]->weight, b[i].linears[slot]->weight);
                compare(a[i].linears[slot]->bias, b[i].linears[slot]->bias);
            }
        for (const auto norm : norms_of(b[i])) {
            compare((a[i].*norm).weight, (b[i].*norm).weight);
            compare((a[i].*norm).bias, (b[i].*norm).bias);
        }
    }
    return worst;
}

} // namespace

/// Decoders on a GPU, forward and backward, beside the CPU.
class GpuModelTest : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<Device> gpu_, cpu_ = make_cpu_device();
    JobControl job_;

    LayerMath& math() { return *gpu_->layer_math(); }

    /// Runs steps on matrices on both machines and compares what they leave in them, beside the largest value of a
    /// matrix or `least`.
    template <class Steps>
    void compare(const DecoderConfig& config, const std::vector<Matrix>& start, Steps steps, double tolerance = 2e-6,
                 double least = 1e-2) {
        HostMachine host(config);
        DeviceMachine device(config, math());
        std::vector<Matrix> expected = start;
        steps(host, expected);
        for (int repeat = 0; repeat < 2; ++repeat) {
            std::vector<DeviceTensor> on_device(start.size());
            for (std::size_t i = 0; i < start.size(); ++i)
                device.upload(start[i], on_device[i]);
            steps(device, on_device);
            std::vector<Matrix> again;
            for (std::size_t i = 0; i < start.size(); ++i) {
                Matrix found;
                device.download(on_device[i], found);
                QCOMPARE(found.rows(), expected[i].rows());
                QCOMPARE(found.cols(), expected[i].cols());
                if (found.size() == 0)
                    continue;
                const double scale = std::max(static_cast<double>(expected[i].cwiseAbs().maxCoeff()), least);
                const double error = static_cast<double>((found - expected[i]).cwiseAbs().maxCoeff()) / scale;
                QVERIFY2(error < tolerance, qPrintable(QString("matrix %1: %2").arg(i).arg(error)));
            }
        }
    }

    /// Vectors of a norm for a machine.
    static BasicNorm<RowVector> norm_for(HostMachine&, const Norm& norm) { return norm; }
    static DeviceNorm norm_for(DeviceMachine& machine, const Norm& norm) {
        DeviceNorm copy;
        machine.upload(norm, copy);
        return copy;
    }

    static void read(HostMachine&, const RowVector& from, Matrix& to) { to = from; }
    static void read(DeviceMachine& machine, const DeviceTensor& from, DeviceTensor& to) { machine.assign(from, to); }

    /// Logits of a text, and the hidden states' way there.
    Matrix logits_of(const Decoder& decoder, const std::vector<std::vector<int>>& texts, LayerMath* math) {
        LayerRunner runner(decoder.config(), math);
        std::vector<Batch> batches = decoder.start(texts);
        ReadyLayer ready;
        for (int layer = 0; layer < decoder.config().layers; ++layer) {
            const LayerWeights weights = decoder.weights().layer(layer);
            runner.prepare(weights, ready);
            runner.advance(ready, batches, {}, job_);
        }
        const Head head = decoder.load_head();
        ReadyHead ready_head;
        runner.prepare(head, ready_head);
        Matrix all(0, decoder.config().vocabulary), part;
        for (const Batch& batch : batches) {
            runner.logits(ready_head, batch, 0, static_cast<Index>(batch.tokens.size()), part);
            all.conservativeResize(all.rows() + part.rows(), Eigen::NoChange);
            all.bottomRows(part.rows()) = part;
        }
        return all;
    }

    struct Gradients {
        double loss = 0;
        DecoderGradients of;
    };
    Gradients gradients_of(const Decoder& decoder, const Parameters& p, const std::vector<std::vector<int>>& texts,
                           bool with_teacher, LayerMath* math) {
        std::vector<LayerWeights> other = p.layers;
        for (LayerWeights& layer : other)
            layer[Slot::down]->weight.topRows(3) *= 2; // more than a norm takes away
        ModelRunner student(decoder.config(), p.head, math), teacher(decoder.config(), p.head, math);
        student.set_weights(p.layers);
        teacher.set_weights(other);
        Gradients result;
        result.of.layers = zeros_like(p.layers);
        student.begin_gradients(result.of);
        for (const Batch& batch : decoder.start(texts)) {
            const Matrix states = with_teacher ? teacher.run_layers(batch, job_) : Matrix();
            result.loss += student.add_gradients(batch, 0.5, result.of, job_, with_teacher ? &states : nullptr);
        }
        student.finish_gradients(result.of);
        return result;
    }

    static void all_models() {
        QTest::addColumn<QString>("file");
        for (const QString& model : QDir(tiny_models).entryList(QDir::Dirs | QDir::NoDotAndDotDot))
            QTest::newRow(qPrintable(model)) << tiny_models + model + "/model.safetensors";
    }

    /// Texts of different lengths.
    static std::vector<std::vector<int>> texts_of(const QString& file) {
        const std::vector<int> ids = tiny_ids(QFileInfo(file).dir().dirName());
        return {ids, {ids.rbegin(), ids.rbegin() + 7}, {ids.begin() + 3, ids.begin() + 5}};
    }

private slots:
    void initTestCase() {
        const auto devices = list_devices();
        const auto found =
            std::ranges::find_if(devices, [](const auto& info) { return info.kind == "cuda" && info.usable; });
        if (found == devices.end())
            QSKIP(devices.back().reason.c_str());
        gpu_ = make_device(found->id);
        if (gpu_->layer_math() == nullptr)
            QSKIP(gpu_->algebra().description().c_str());
    }

    void norms_data() {
        QTest::addColumn<bool>("centred");
        QTest::addColumn<int>("size");
        for (const int size : {1, 5, 16, 33, 300})
            for (const bool centred : {false, true})
                QTest::addRow("%s %d", centred ? "layer" : "rms", size) << centred << size;
    }

    void norms() {
        QFETCH(bool, centred);
        QFETCH(int, size);
        DecoderConfig config;
        config.norm = centred ? NormKind::layer : NormKind::rms;
        const Norm norm{random_matrix(1, size, 1), centred ? RowVector(random_matrix(1, size, 2)) : RowVector()};
        const Matrix in = random_matrix(130, size, 3), d_out = random_matrix(130, size, 4);
        compare(
            config, {in, {}, d_out, random_matrix(130, size, 5), {}, {}},
            [&](auto& machine, auto& m) {
                const auto own = norm_for(machine, norm);
                auto gradient = norm_for(machine, norm);
                machine.normalise(own, m[0], m[1]);
                machine.backward_norm(own, m[0], m[2], gradient, m[3]);
                read(machine, gradient.weight, m[4]);
                if (centred)
                    read(machine, gradient.bias, m[5]);
            },
            1e-5);
        // The same of five heads side by side, in place.
        const Matrix heads = random_matrix(70, 5 * size, 6), d_heads = random_matrix(70, 5 * size, 7);
        compare(
            config, {heads, heads, d_heads, {}},
            [&](auto& machine, auto& m) {
                const auto own = norm_for(machine, norm);
                auto gradient = norm_for(machine, norm);
                machine.normalise_heads(own, m[0]);
                machine.backward_norm_heads(own, m[1], gradient, m[2]);
                read(machine, gradient.weight, m[3]);
            },
            1e-5);
    }

    void activations_data() {
        QTest::addColumn<int>("activation");
        QTest::newRow("silu") << static_cast<int>(Activation::silu);
        QTest::newRow("gelu") << static_cast<int>(Activation::gelu);
        QTest::newRow("gelu tanh") << static_cast<int>(Activation::gelu_tanh);
        QTest::newRow("relu") << static_cast<int>(Activation::relu);
    }

    void activations() {
        QFETCH(int, activation);
        DecoderConfig config;
        config.activation = static_cast<Activation>(activation);
        const Matrix gate = random_matrix(13, 77, 1, 3), up = random_matrix(13, 77, 2), d = random_matrix(13, 77, 3);
        for (const bool gated : {true, false}) {
            config.gated = gated;
            compare(config, {gate, up, d, {}, {}, {}}, [](auto& machine, auto& m) {
                machine.activate(m[0], m[1], m[3]);
                machine.backward_activate(m[0], m[1], m[2], m[4], m[5]);
            });
        }
    }

    void parts_and_sums() {
        const DecoderConfig config;
        const Matrix a = random_matrix(9, 31, 1), b = random_matrix(9, 31, 2);
        compare(config, {a, b, {}, {}, {}, {}, {}}, [](auto& machine, auto& m) {
            machine.sum(m[0], m[1], m[2]);
            machine.add(m[2], m[1]);
            machine.take_columns(m[0], 5, 11, m[3]);
            machine.take_rows(m[0], 2, 4, m[4]);
            machine.put_rows(m[4], 5, m[1]);
            machine.join({&m[0], &m[3], &m[1]}, m[5]);
            machine.clear(3, 7, m[6]);
        });
        compare(config, {30 * a, b}, [](auto& machine, auto& m) {
            machine.soft_cap(20, m[0]);
            machine.backward_soft_cap(20, m[0], m[1]);
        });
        DeviceMachine device(config, math());
        DeviceTensor x, y;
        const Matrix large = random_matrix(300, 1001, 3), other = random_matrix(300, 1001, 4);
        device.upload(large, x);
        device.upload(other, y);
        QVERIFY(relative(math().squared_norm(x.matrix(), nullptr), large.cast<double>().squaredNorm()) < 1e-12);
        QVERIFY(relative(math().squared_norm(x.matrix(), &y.matrix()), (large - other).cast<double>().squaredNorm()) <
                1e-12);
    }

    void linear_layers() {
        const DecoderConfig config;
        Linear linear;
        linear.weight = random_matrix(23, 31, 1);
        linear.bias = random_matrix(1, 23, 2);
        const Matrix in = random_matrix(70, 31, 3), d_out = random_matrix(70, 23, 4);
        const auto run = [&](auto& machine, auto& m, auto& own, auto& gradient) {
            machine.apply(own, m[0], m[2]);
            machine.backward_linear(own, m[0], m[1], gradient, m[3], false);
            machine.backward_linear(own, m[0], m[1], gradient, m[3], true);
            machine.assign(gradient.weight, m[4]);
            read(machine, gradient.bias, m[5]);
        };
        compare(config, {in, d_out, {}, {}, {}, {}}, [&](auto& machine, auto& m) {
            if constexpr (std::is_same_v<std::decay_t<decltype(machine)>, HostMachine>) {
                Linear gradient = linear;
                run(machine, m, linear, gradient);
            } else {
                DeviceLinear own, gradient;
                for (DeviceLinear* copy : {&own, &gradient}) {
                    machine.upload(linear.weight, copy->weight);
                    machine.upload(linear.bias, copy->bias);
                }
                run(machine, m, own, gradient);
            }
        });
    }

    void attention_data() {
        QTest::addColumn<AttentionCase>("c");
        QTest::newRow("one token") << AttentionCase{1, 1, 8, 0, 0, {1}};
        QTest::newRow("shared heads") << AttentionCase{6, 2, 5, 0, 0, {37, 3, 64, 1, 33}};
        QTest::newRow("window") << AttentionCase{4, 2, 32, 9, 0, {70, 8, 10}};
        QTest::newRow("window of one") << AttentionCase{2, 1, 16, 1, 0, {40}};
        QTest::newRow("window and cap") << AttentionCase{4, 1, 40, 50, 3, {130}};
        QTest::newRow("64") << AttentionCase{2, 2, 64, 0, 5, {67}};
        QTest::newRow("80") << AttentionCase{3, 1, 80, 33, 0, {100, 31}};
        QTest::newRow("128") << AttentionCase{2, 1, 128, 0, 0, {65, 32}};
        QTest::newRow("192") << AttentionCase{2, 1, 192, 17, 2, {50}};
        QTest::newRow("256") << AttentionCase{2, 1, 256, 0, 0, {41, 16}};
        QTest::newRow("many texts") << AttentionCase{2, 1, 8, 0, 0, std::vector<Index>(150, 3)};
    }

    void attention() {
        QFETCH(AttentionCase, c);
        DecoderConfig config;
        config.heads = c.heads;
        config.kv_heads = c.kv_heads;
        config.head_dim = c.head_dim;
        config.attention_scale = 1 / std::sqrt(c.head_dim);
        config.attention_softcap = c.cap;
        std::vector<Sequence> sequences;
        Index rows = 0;
        for (const Index length : c.lengths) {
            sequences.push_back({rows, length});
            rows += length;
        }
        const Index wide = c.heads * c.head_dim, narrow = c.kv_heads * c.head_dim;
        compare(
            config,
            {random_matrix(rows, wide, 1, 2),
             random_matrix(rows, narrow, 2),
             random_matrix(rows, narrow, 3),
             random_matrix(rows, wide, 4),
             {},
             {},
             {},
             {}},
            [&](auto& machine, auto& m) {
                BasicActivations<std::decay_t<decltype(m[0])>> a;
                machine.assign(m[0], a.q);
                machine.assign(m[1], a.k);
                machine.assign(m[2], a.v);
                machine.attend(c.window, sequences, a);
                machine.assign(a.attended, m[4]);
                machine.backward_attend(c.window, sequences, a, m[3], m[5], m[6], m[7]);
            },
            1e-5, 1);
    }

    /// Queries that go on where keys and values have begun.
    void attention_that_goes_on() {
        DecoderConfig config;
        config.heads = 4;
        config.kv_heads = 2;
        config.head_dim = 24;
        for (const int window : {0, 13}) {
            const Matrix q = random_matrix(7, 96, 1), k = random_matrix(90, 48, 2), v = random_matrix(90, 48, 3);
            Matrix expected(7, 96), found;
            attend(config, window, q, 50, k.topRows(57), v.topRows(57), expected);
            DeviceMachine device(config, math());
            DeviceTensor on_q, on_k, on_v, out, log_sums;
            device.upload(q, on_q);
            device.upload(k, on_k);
            device.upload(v, on_v);
            device.clear(7, 96, out);
            device.clear(7, 4, log_sums);
            const Sequence all{0, 7};
            math().attend({4, 2, 24, 1, 0, static_cast<std::size_t>(window)}, std::span(&all, 1), 50, on_q.matrix(),
                          on_k.matrix(), on_v.matrix(), out.matrix(), log_sums.matrix());
            device.download(out, found);
            QVERIFY(difference(found, expected) < 1e-5);
        }
    }

    void rotary_embeddings() {
        DecoderConfig config;
        config.head_dim = 12;
        RopeSettings settings;
        settings.dimensions = 8; // a part of the head
        const RopeTable table = make_rope_table(settings, 40);
        const std::vector<Sequence> sequences = {{0, 17}, {17, 40}, {57, 1}};
        compare(config, {random_matrix(58, 36, 1), random_matrix(58, 36, 2)}, [&](auto& machine, auto& m) {
            machine.turn(table, sequences, m[0]);
            machine.turn_back(table, sequences, m[1]);
        });
    }

    void losses_data() {
        QTest::addColumn<int>("vocabulary");
        for (const int vocabulary : {2, 44, 257, 3001})
            QTest::addRow("%d", vocabulary) << vocabulary;
    }

    void losses() {
        QFETCH(int, vocabulary);
        const DecoderConfig config;
        const std::vector<int> targets = {0, vocabulary - 1, -1, 1, vocabulary / 2};
        const Matrix logits = random_matrix(5, vocabulary, 1, 4), teacher = random_matrix(5, vocabulary, 2, 4);
        std::vector<double> sums;
        compare(config, {logits, logits, teacher}, [&](auto& machine, auto& m) {
            sums.push_back(machine.losses(0.1, targets, nullptr, m[0]));
            sums.push_back(machine.losses(0.1, targets, &m[2], m[1]));
        });
        for (std::size_t i = 2; i < sums.size(); ++i)
            QVERIFY2(relative(sums[i], sums[i % 2]) < 1e-6,
                     qPrintable(QString::number(relative(sums[i], sums[i % 2]))));

        const std::vector<int> scored = {0, vocabulary - 1, 0, 1, vocabulary / 2};
        const TokenScores expected = score(Distributions(Matrix(logits)), Distributions(Matrix(teacher)), scored);
        DeviceMachine device(config, math());
        DeviceTensor model, reference;
        device.upload(logits, model);
        device.upload(teacher, reference);
        const std::vector<RowScore> found = math().score(model.matrix(), reference.matrix(), scored);
        for (std::size_t i = 0; i < found.size(); ++i) {
            QVERIFY(std::abs(found[i].nll - static_cast<double>(expected.nll[i])) < 1e-6 * (1 + found[i].nll));
            QVERIFY(relative(found[i].kld, static_cast<double>(expected.kld[i])) < 1e-5);
            QCOMPARE(found[i].same_top, expected.same_top[i] != 0);
        }
        for (const RowScore& row : math().score(model.matrix(), model.matrix(), scored))
            QVERIFY(row.kld == 0 && row.same_top);
    }

    void what_does_not_fit_is_refused() {
        const DecoderConfig config;
        DeviceMachine device(config, math());
        DeviceTensor a, b;
        device.clear(3, 5, a);
        device.clear(3, 6, b);
        QVERIFY_THROWS_EXCEPTION(Error, math().add(a.matrix(), b.matrix()));
        QVERIFY_THROWS_EXCEPTION(Error, math().add(b.matrix().part(0, 0, 3, 5), a.matrix()));
        std::vector<float> host(15);
        QVERIFY_THROWS_EXCEPTION(Error, math().add(host_matrix(host.data(), 3, 5), a.matrix()));
        const std::vector<int> targets = {0, 5, 0};
        QVERIFY_THROWS_EXCEPTION(Error, math().losses(1, targets, nullptr, a.matrix()));
    }

    void logits_of_every_family_data() { all_models(); }

    void logits_of_every_family() {
        QFETCH(QString, file);
        const Decoder decoder = open_decoder(file);
        const auto texts = texts_of(file);
        const Matrix expected = logits_of(decoder, texts, nullptr), found = logits_of(decoder, texts, &math());
        QVERIFY2(difference(found, expected) < 1e-5, qPrintable(QString::number(difference(found, expected))));
        QVERIFY(logits_of(decoder, texts, &math()) == found);
    }

    void gradients_of_every_family_data() { all_models(); }

    void gradients_of_every_family() {
        QFETCH(QString, file);
        const Decoder decoder = open_decoder(file);
        const auto texts = texts_of(file);
        const Parameters p = load_parameters(decoder, 0);
        for (const bool with_teacher : {false, true}) {
            const Gradients expected = gradients_of(decoder, p, texts, with_teacher, nullptr);
            const Gradients found = gradients_of(decoder, p, texts, with_teacher, &math());
            QVERIFY2(relative(found.loss, expected.loss) < 1e-5,
                     qPrintable(QString("%1 %2 %3").arg(with_teacher).arg(found.loss).arg(expected.loss)));
            const double worst = worst_difference(found.of.layers, expected.of.layers);
            // The difference of two distributions has fewer digits than either.
            QVERIFY2(worst < (with_teacher ? 3e-4 : 1e-4), qPrintable(QString::number(worst)));
            if (with_teacher)
                continue;
            const Gradients again = gradients_of(decoder, p, texts, with_teacher, &math());
            QVERIFY(again.loss == found.loss && worst_difference(again.of.layers, found.of.layers) == 0);
        }
    }

    /// A step along the gradient of a matrix changes the loss, in float64, by what the gradient says.
    void gradients_by_differences() {
        const Decoder decoder = open_decoder(tiny_models + "gemma2");
        const auto texts = texts_of(tiny_models + "gemma2/model.safetensors");
        Parameters p = load_parameters(decoder, 0);
        const Gradients found = gradients_of(decoder, p, texts, false, &math());
        const auto loss = [&] {
            const DoubleDecoder exact(decoder.config(), p);
            double sum = 0;
            for (const auto& text : texts)
                sum += 0.5 * exact.loss(text);
            return sum;
        };
        for (const Slot slot : {Slot::q, Slot::k, Slot::v, Slot::o, Slot::gate, Slot::up, Slot::down}) {
            Matrix& weight = p.layers[0][slot]->weight;
            const Matrix kept = weight, &gradient = found.of.layers[0][slot]->weight;
            const float step = 1e-3F / gradient.norm();
            double expected = 0, got = 0;
            for (const float sign : {1.0F, -1.0F}) {
                weight = kept + sign * step * gradient;
                expected += static_cast<double>(sign) * loss();
                got += static_cast<double>(sign) * gradient.cast<double>().cwiseProduct(weight.cast<double>()).sum();
            }
            weight = kept;
            QVERIFY2(relative(expected, got) < 1e-3, qPrintable(QString::number(relative(expected, got))));
        }
    }

    void evaluations() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request;
        request.windows = texts_of(tiny_models + "llama/model.safetensors");
        request.calibration = {request.windows[0], request.windows[1]};
        request.variants = combine(parse_specs("fp32,nf4,int4"), {parse_method("rtn")});
        for (const char* method : {"gptq", "awq"})
            request.variants.push_back(combine(parse_specs("int4"), {parse_method(method)}).at(0));
        request.variants.push_back(request.variants[2]);
        request.variants.back().activations = Activations::int8;
        for (const bool all_matrices : {false, true}) {
            request.all_matrices = all_matrices;
            JobControl cpu_job, job;
            const Evaluation expected = evaluate(decoder, request, *cpu_, cpu_job);
            const Evaluation found = evaluate(decoder, request, *gpu_, job);
            QVERIFY(gpu_->notes().empty());
            QCOMPARE(job.done(), cpu_job.done());
            QCOMPARE(job.done(), job.total());
            const auto nll = [](const ScoreSummary& scores) { return std::log(scores.perplexity); };
            QVERIFY(relative(nll(found.reference), nll(expected.reference)) < 1e-6);
            QCOMPARE(found.variants.size(), expected.variants.size());
            for (std::size_t i = 0; i < found.variants.size(); ++i) {
                const VariantResult &here = found.variants[i], &there = expected.variants[i];
                // What GPTQ, AWQ and rounded inputs make of sums that differ in the last place may differ by a code.
                const double tolerance = i < 3 ? 1e-6 : 1e-2;
                QVERIFY2(relative(nll(here.scores), nll(there.scores)) < tolerance,
                         qPrintable(QString("%1: %2").arg(i).arg(relative(nll(here.scores), nll(there.scores)))));
                QVERIFY(std::abs(here.scores.kld_mean - there.scores.kld_mean) <
                        (i < 3 ? 1e-6 : 0.1 * there.scores.kld_mean));
                QCOMPARE(here.bits_per_weight, there.bits_per_weight);
                QCOMPARE(here.linears.size(), there.linears.size());
                for (const auto& [name, linear] : here.linears)
                    QVERIFY(std::abs(linear.relative_error() - there.linears.at(name).relative_error()) <
                            (i < 3 ? 1e-5 : 0.1));
            }
        }
    }

    void growing_texts_data() { all_models(); }

    /// Token by token, in a session, its copy and what is left of it when it is taken back.
    void growing_texts() {
        QFETCH(QString, file);
        const Decoder decoder = open_decoder(file);
        const std::vector<int> ids = texts_of(file)[0];
        const Matrix expected = decoder.run(ids);
        const auto as_expected = [&](const RowVector& logits, std::size_t tokens) {
            return difference(logits, expected.row(static_cast<Index>(tokens) - 1)) < 1e-5;
        };
        Session session(decoder, static_cast<Index>(ids.size()), {}, usual_resident_bytes, &math());
        QVERIFY(as_expected(session.feed(std::span(ids).first(9), job_), 9));
        Session copy = session;
        QVERIFY(as_expected(session.feed(std::span(&ids[9], 1), job_), 10));
        QVERIFY(as_expected(copy.feed(std::span(ids).subspan(9), job_), ids.size()));
        session.rewind(4);
        QVERIFY(as_expected(session.feed(std::span(ids).subspan(4, 7), job_), 11));
        QVERIFY(as_expected(session.feed(std::span(&ids[11], 1), job_), 12));
    }

    void continuations_side_by_side() {
        const Decoder decoder = open_decoder(tiny_models + "qwen2");
        const WeightHook coarse = [](const LinearTensor&, Matrix& weight) {
            weight = weight.unaryExpr([](float w) { return std::round(w * 8) / 8; });
        };
        ContinuationRequest request;
        request.prompt = {tiny_ids("qwen2")[0], tiny_ids("qwen2")[1]};
        request.tokens = 20;
        const auto expected = continue_side_by_side(decoder, {{}, coarse}, request, job_, {});
        const auto found = continue_side_by_side(decoder, {{}, coarse}, request, job_, {}, gpu_.get());
        QVERIFY(gpu_->notes().empty());
        for (std::size_t i = 0; i < 2; ++i) {
            QCOMPARE(found[i].tokens.size(), expected[i].tokens.size());
            for (std::size_t j = 0; j < found[i].tokens.size(); ++j) {
                QCOMPARE(found[i].tokens[j].token, expected[i].tokens[j].token);
                QVERIFY(relative(found[i].tokens[j].probabilities[1], expected[i].tokens[j].probabilities[1]) < 1e-4);
            }
        }
    }

    /// A figure rather than a test: a layer of a model of a billion parameters.
    void speed_of_the_forward_pass() {
        if (gpu_->info().name.starts_with("emulated"))
            QSKIP("an emulated GPU has no speed");
        DecoderConfig config;
        config.layers = 1;
        config.hidden = 2048;
        config.intermediate = 8192;
        config.heads = 32;
        config.kv_heads = 8;
        config.head_dim = 64;
        config.attention_scale = 0.125;
        config.rope.dimensions = 64;
        LayerWeights layer;
        double weights = 0;
        const auto set = [&](Slot slot, Index outputs, Index inputs) {
            layer[slot].emplace().weight = random_matrix(outputs, inputs, 1, 0.02F);
            weights += static_cast<double>(outputs * inputs);
        };
        set(Slot::q, 2048, 2048);
        set(Slot::k, 512, 2048);
        set(Slot::v, 512, 2048);
        set(Slot::o, 2048, 2048);
        set(Slot::gate, 8192, 2048);
        set(Slot::up, 8192, 2048);
        set(Slot::down, 2048, 8192);
        layer.attention_norm.weight = layer.mlp_norm.weight = RowVector::Ones(2048);
        Batch batch;
        batch.tokens.resize(2048);
        batch.sequences = {{0, 1024}, {1024, 1024}};
        batch.rope = std::make_shared<const RopeTables>(config, 1024);
        batch.hidden = random_matrix(2048, 2048, 2);
        std::vector<Batch> batches = {batch};
        LayerRunner runner(config, &math());
        ReadyLayer ready;
        runner.prepare(layer, ready);
        const auto seconds = [&](int times) {
            const auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < times; ++i)
                runner.advance(ready, batches, {}, job_);
            runner.hidden_of(batches[0]);
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        };
        seconds(3);
        const double once = seconds(20) / 20;
        qInfo("%.0f tokens a second through a layer of %.0f million weights: %.1f TFLOP/s of its products", 2048 / once,
              weights * 1e-6, 2 * 2048 * weights / once * 1e-12);
    }

    void trainings_data() {
        QTest::addColumn<int>("loss");
        QTest::newRow("text") << static_cast<int>(QatLoss::text);
        QTest::newRow("teacher") << static_cast<int>(QatLoss::teacher);
    }

    void trainings() {
        QFETCH(int, loss);
        const Decoder decoder = open_decoder(tiny_models + "llama");
        QatRequest request;
        request.format = parse_spec("int4");
        request.loss = static_cast<QatLoss>(loss);
        request.training = texts_of(tiny_models + "llama/model.safetensors");
        request.validation = request.training;
        request.steps = 2;
        request.batch = 2;
        request.validate_every = 1;
        request.learning_rate = 1e-3;
        JobControl cpu_job, job;
        const QatResult expected = train_qat(decoder, request, *cpu_, cpu_job);
        const QatResult found = train_qat(decoder, request, *gpu_, job);
        QVERIFY(gpu_->notes().empty());
        QCOMPARE(found.curve.size(), expected.curve.size());
        for (std::size_t i = 0; i < found.curve.size(); ++i) {
            const QatPoint &here = found.curve[i], &there = expected.curve[i];
            QVERIFY(std::isnan(here.loss) ? std::isnan(there.loss) : relative(here.loss, there.loss) < 1e-5);
            QVERIFY(relative(here.validation_loss, there.validation_loss) < 1e-5);
            QVERIFY(relative(here.validation_perplexity, there.validation_perplexity) < 1e-5);
        }
        JobControl again;
        const QatResult same = train_qat(decoder, request, *gpu_, again);
        for (const auto& [tensor, weight] : same.master)
            QVERIFY(weight == found.master.at(tensor));
        const ScoreSummary here = score_weights(decoder, found.hook(), request.validation, *gpu_, job_);
        const ScoreSummary there = score_weights(decoder, found.hook(), request.validation, *cpu_, job_);
        QVERIFY(relative(here.perplexity, there.perplexity) < 1e-6);
        QVERIFY(relative(here.kld_mean, there.kld_mean) < 1e-4);
    }
};

QTEST_GUILESS_MAIN(GpuModelTest)
#include "model_test.moc"
