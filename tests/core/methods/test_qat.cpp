// Before Qt, whose macro `emit` is a name in it.
#include <tbb/global_control.h>

#include <QDir>
#include <QTemporaryDir>
#include <QTest>

#include "core/base/error.h"
#include "core/export/write_trained.h"
#include "core/formats/registry.h"
#include "core/methods/fake_quantizer.h"
#include "core/methods/qat.h"
#include "core/model/generation.h"
#include "core/model/quantized_weights.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

bool close(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

Matrix matrix(std::initializer_list<float> row) {
    Matrix result(1, static_cast<Index>(row.size()));
    std::ranges::copy(row, result.data());
    return result;
}

/// A short training of a tiny model on the ids that come with it.
QatRequest tiny_request(const QString& model, const char* format) {
    QatRequest request;
    request.format = parse_spec(format);
    const std::vector<int> ids = tiny_ids(model);
    for (std::size_t begin = 0; begin + 8 <= ids.size(); begin += 4)
        request.training.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                      ids.begin() + static_cast<std::ptrdiff_t>(begin + 8));
    request.validation = request.training;
    request.steps = 20;
    request.batch = 3;
    request.validate_every = 5;
    return request;
}

/// Texts that a model writes behind its BOS token.
std::vector<std::vector<int>> stories_of(const Decoder& decoder, int count, Index length) {
    JobControl job;
    Session session(decoder, length);
    Sampler sampler({.temperature = 1}, 1);
    std::vector<std::vector<int>> texts;
    for (int i = 0; i < count; ++i) {
        session.rewind(0);
        std::vector<int>& text = texts.emplace_back(1, 1);
        while (std::cmp_less(text.size(), length))
            text.push_back(sampler.choose(session.feed(std::span(&text.back(), 1), job)));
    }
    return texts;
}

template <class Run>
QString refusal(Run run) {
    try {
        run();
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

} // namespace

/// Quantization-aware training, from its parts to what it wins on a trained model.
class Qat : public QObject {
    Q_OBJECT

private:
    std::unique_ptr<Device> device_ = make_cpu_device(2);
    JobControl job_;

    QatResult train(const Decoder& decoder, const QatRequest& request) {
        JobControl job;
        return train_qat(decoder, request, *device_, job);
    }

private slots:
    void adamw_by_hand() {
        // Two steps with gradients 0.5 and −0.25: m = 0.05, 0.02; v = 0.0125, 0.015; corrected 0.5, 0.02 / 0.19;
        // 0.25, 0.015 / 0.0975.
        const AdamW adamw{.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .decay = 0.1};
        float parameter = 2, mean = 0, square = 0;
        float gradient = 0.5;
        adamw_step(adamw, 1, 0.01, {&parameter, 1}, {&gradient, 1}, {&mean, 1}, {&square, 1});
        const double after_one = 2 * (1 - 0.01 * 0.1) - 0.01;
        QVERIFY(close(parameter, after_one, 1e-6));
        gradient = -0.25;
        adamw_step(adamw, 2, 0.01, {&parameter, 1}, {&gradient, 1}, {&mean, 1}, {&square, 1});
        QVERIFY(close(mean, 0.02, 1e-6) && close(square, 0.015, 1e-6));
        const double moved = 0.01 * (0.02 / 0.19) / std::sqrt(0.015 / 0.0975);
        QVERIFY(close(parameter, after_one * (1 - 0.01 * 0.1) - moved, 1e-6));
    }

    void rate_climbs_and_falls() {
        QCOMPARE(cosine_rate(1, 100, 10, 2.0, 0.1), 0.2);
        QCOMPARE(cosine_rate(10, 100, 10, 2.0, 0.1), 2.0);
        QVERIFY(close(cosine_rate(55, 100, 10, 2.0, 0.1), 1.1, 1e-12)); // halfway down
        QVERIFY(close(cosine_rate(100, 100, 10, 2.0, 0.1), 0.2, 1e-12));
        QCOMPARE(cosine_rate(1, 1, 0, 2.0, 0.1), 0.2);
    }

    /// The scale of mxfp4 rounds 7.5 down to 1, so that levels reach 6: 7.5 saturates, 6.5 is rounded.
    void gradients_stop_where_a_format_saturates() {
        Matrix weight = Matrix::Constant(1, 32, 0.5F), quantized;
        weight(0, 0) = 7.5F;
        weight(0, 1) = -6.5F;
        weight(0, 2) = -7.5F;
        const auto quantizer = make_fitting_quantizer(parse_spec("mxfp4"), {1, 32}, *device_);
        quantizer->quantize(weight, quantized, job_);
        QCOMPARE(quantized(0, 0), 6.0F);
        Matrix gradient = Matrix::Constant(1, 32, 3);
        quantizer->backward(weight, gradient, job_);
        QCOMPARE(gradient(0, 0), 0.0F);
        QCOMPARE(gradient(0, 1), 3.0F);
        QCOMPARE(gradient(0, 2), 0.0F);
        QCOMPARE(gradient.sum(), 30 * 3.0F);
    }

    void gradients_pass_where_scales_reach_everything() {
        const Matrix weight = Matrix::Random(16, 256);
        for (const char* format : {"int8", "int4:affine", "int3", "int2", "nf4", "fp4", "nf4:dq", "fp8_e4m3"}) {
            const Matrix before = Matrix::Random(16, 256);
            Matrix gradient = before;
            make_fitting_quantizer(parse_spec(format), {16, 256}, *device_)->backward(weight, gradient, job_);
            QVERIFY2(gradient == before, format);
        }
    }

    void learned_steps_by_hand() {
        // Codes −4 … 3 at step 0.5: q = 0.6, −2.2, 4, −5; decoded 1, −2, 3, −4.
        const Matrix weight = matrix({0.3F, -1.1F, 2.0F, -2.5F});
        const auto quantizer = make_learned_quantizer(parse_spec("int3:scope=tensor,scales=fp32"), weight);
        QCOMPARE(quantizer->steps().size(), std::size_t{1});
        quantizer->steps()[0] = 0.5F;
        Matrix quantized;
        quantizer->quantize(weight, quantized, job_);
        QVERIFY(quantized == matrix({0.5F, -1.0F, 1.5F, -2.0F}));
        Matrix gradient = matrix({1, 2, 4, 8});
        quantizer->backward(weight, gradient, job_);
        QVERIFY(gradient == matrix({1, 2, 0, 0}));
        const double sum = 1 * (1 - 0.6) + 2 * (-2 + 2.2) + 4 * 3 + 8 * -4;
        QVERIFY(close(quantizer->step_gradients()[0], sum / std::sqrt(4 * 3.0), 1e-6));
    }

    void learned_steps_follow_the_formats_groups() {
        Matrix weight = Matrix::Random(3, 40);
        const auto quantizer = make_learned_quantizer(parse_spec("int4:group=16"), weight);
        QCOMPARE(quantizer->steps().size(), std::size_t{9});
        // Steps begin at least as close to the weights as rounding to nearest is.
        Matrix learned, fitted;
        quantizer->quantize(weight, learned, job_);
        make_fitting_quantizer(parse_spec("int4:group=16"), {3, 40}, *device_)->quantize(weight, fitted, job_);
        QVERIFY((learned - weight).norm() <= (fitted - weight).norm());
        for (const char* format : {"nf4", "int4:affine", "mxint8"})
            QVERIFY2(refusal([&] { make_learned_quantizer(parse_spec(format), weight); }).contains("no step size"),
                     format);
    }

    void does_not_depend_on_threads() {
        const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 4);
        const Decoder decoder = open_decoder(tiny_models + "qwen3");
        for (const bool learned : {false, true}) {
            QatRequest request = tiny_request("qwen3", "int3:group=8");
            request.learned_steps = learned;
            request.threads = 1;
            const QatResult one = train(decoder, request);
            QVERIFY(one.best_step > 0);
            for (const int threads : {2, 4}) {
                request.threads = threads;
                const QatResult result = train(decoder, request);
                QCOMPARE(result.best_loss, one.best_loss);
                for (const auto& [tensor, weight] : one.master)
                    QVERIFY(result.master.at(tensor) == weight);
            }
            request.seed = 2;
            QVERIFY(train(decoder, request).curve.back().loss != one.curve.back().loss);
        }
    }

    void stops_and_keeps_the_best() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const QatRequest request = tiny_request("llama", "int3:group=8");
        JobControl job;
        const QatResult stopped = train_qat(decoder, request, *device_, job, [&](const QatPoint& point) {
            if (point.step == 12)
                job.cancel();
        });
        QVERIFY(stopped.stopped);
        QCOMPARE(stopped.curve.back().step, 12);
        QCOMPARE(stopped.best_step, 10);
        const QatResult whole = train(decoder, request);
        QVERIFY(!whole.stopped);
        QCOMPARE(whole.curve.size(), std::size_t{21});
        QCOMPARE(whole.curve[10].validation_loss, stopped.best_loss);
        // What is kept is what was measured.
        const ScoreSummary scores = score_weights(decoder, stopped.hook(), request.validation, *device_, job_);
        QVERIFY(close(scores.perplexity, whole.curve[10].validation_perplexity, 1e-6));
        QVERIFY(close(scores.kld_mean, stopped.best_loss, 1e-4));
    }

    /// The first point is rounding to nearest, as evaluating the format gives it.
    void begins_as_rounding_to_nearest() {
        const Decoder decoder = open_decoder(tiny_models + "gpt2");
        for (const char* format : {"nf4", "int4", "Q4_K_M"}) {
            QatRequest request = tiny_request("gpt2", format);
            request.steps = 1;
            const std::vector<FormatSpec> specs{request.format};
            const QuantizedWeights rounded(decoder.weights().checkpoint(), specs, *device_, job_);
            const ScoreSummary scores = score_weights(decoder, rounded.hook(0), request.validation, *device_, job_);
            QVERIFY2(close(train(decoder, request).curve[0].validation_perplexity, scores.perplexity, 1e-6), format);
        }
    }

    void is_written_and_opens_again() {
        for (const char* model : {"gpt2", "llama-tied", "phi3"}) {
            const QTemporaryDir folder;
            const Decoder decoder = open_decoder(tiny_models + model);
            const QatRequest request = tiny_request(model, "int3:group=8");
            const QatResult result = train(decoder, request);
            AtomicFile file(folder.filePath("model.safetensors").toStdString());
            JobControl writing;
            write_trained(decoder, result.hook(), file, folder.filePath("model.safetensors").toStdString(), *device_,
                          writing);
            QVERIFY(writing.total() > 0);
            QCOMPARE(writing.done(), writing.total());
            const Decoder written = open_decoder(folder.path());
            const std::vector<int> ids = tiny_ids(model);
            QVERIFY2(written.run(ids) == decoder.run(ids, result.hook()), model);
            QVERIFY2(written.run(ids) != decoder.run(ids), model);
        }
        const Decoder gguf = open_decoder(tiny_models + "llama/model.gguf");
        QVERIFY(refusal([&] { check_writable(gguf, "out.safetensors"); }).contains("OUT.gguf"));
    }

    /// GGUF files from either container.
    void is_written_as_gguf() {
        for (const char* model : {"llama", "llama/model.gguf", "gpt2"}) {
            const QTemporaryDir folder;
            const std::string path = folder.filePath("out.gguf").toStdString();
            const Decoder decoder = open_decoder(tiny_models + model);
            QatRequest request = tiny_request(QString(model).section('/', 0, 0), "int3:group=8");
            const QatResult result = train(decoder, request);
            AtomicFile file(path);
            write_trained(decoder, result.hook(), file, path, *device_, job_);
            const Decoder written = open_decoder(QString::fromStdString(path));
            const std::vector<int> ids = tiny_ids(QString(model).section('/', 0, 0));
            const Matrix expected = decoder.run(ids, result.hook());
            QVERIFY2((written.run(ids) - expected).norm() < 1e-5F * expected.norm(), model);
            QVERIFY2((decoder.run(ids) - expected).norm() > 1e-2F * expected.norm(), model);
        }
    }

    /// A cancelled export leaves nothing behind.
    void writing_can_be_cancelled() {
        const QTemporaryDir folder;
        const Decoder decoder = open_decoder(tiny_models + "llama");
        {
            AtomicFile file(folder.filePath("model.safetensors").toStdString());
            JobControl writing;
            writing.cancel();
            QVERIFY_EXCEPTION_THROWN(write_trained(decoder, {}, file, "model.safetensors", *device_, writing),
                                     Cancelled);
        }
        QVERIFY(QDir(folder.path()).isEmpty());
    }

    void says_what_can_be_trained() {
        QVERIFY(why_not_trained(parse_spec("int3")).empty());
        QVERIFY(why_not_trained(parse_spec("Q4_K_M")).empty());
        QVERIFY(!why_not_trained(parse_spec("iq2_xxs")).empty());
        QVERIFY(has_learned_steps(parse_spec("int3")));
        QVERIFY(!has_learned_steps(parse_spec("int3:affine")) && !has_learned_steps(parse_spec("nf4")));
    }

    void refuses_what_it_cannot_train() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        QatRequest request = tiny_request("llama", "int3");
        request.validation.clear();
        QVERIFY(refusal([&] { train(decoder, request); }).contains("longer text"));
        request = tiny_request("llama", "nf4");
        request.learned_steps = true;
        QVERIFY(refusal([&] { train(decoder, request); }).contains("nf4"));
        request = tiny_request("llama", "fp32");
        request.learning_rate = 1e30;
        QVERIFY(refusal([&] { train(decoder, request); }).contains("lower learning rate"));
    }

    /// A 64th of the root mean square of what rounding does to the weights.
    void learning_rate_of_the_format() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        std::vector<double> rates;
        for (const char* format : {"int8", "int3"}) {
            QatRequest request = tiny_request("llama", format);
            request.learning_rate = 0;
            request.steps = 1;
            const auto device = make_cpu_device();
            const std::vector<FormatSpec> specs{request.format};
            const QuantizedWeights rounded(decoder.weights().checkpoint(), specs, *device, job_);
            double sum = 0, count = 0;
            for (const LinearTensor& tensor : decoder.weights().linears()) {
                const Matrix weight = decoder.weights().load(tensor);
                Matrix quantized;
                rounded.quantize(0, tensor, weight, quantized);
                sum += (weight - quantized).cast<double>().squaredNorm();
                count += static_cast<double>(weight.size());
            }
            const double rate = train(decoder, request).learning_rate;
            QVERIFY(std::abs(rate * 64 - std::sqrt(sum / count)) < 1e-9 * rate);
            rates.push_back(rate);
        }
        QVERIFY(rates[1] > 10 * rates[0]);
    }

    void windows_are_divided() {
        QatRequest request;
        split_windows(std::vector<std::vector<int>>(25, {1, 2, 3}), 10, 100, request);
        QCOMPARE(request.validation.size(), std::size_t{2});
        QCOMPARE(request.training.size(), std::size_t{23});
        QatRequest few;
        split_windows({{1, 2}, {3, 4}}, 10, 1, few);
        QCOMPARE(few.validation.size(), std::size_t{1});
        QCOMPARE(few.training.size(), std::size_t{1});
        QVERIFY(refusal([&] { split_windows({{1, 2}}, 10, 1, few); }).contains("two windows"));
    }

    /// Three bits with one scale a row ruin a model of 260 thousand parameters. Training on stories that the model told
    /// itself wins a good part of it back on stories that others did.
    void recovers_what_rounding_loses() {
        if (!QFile::exists(stories + "derived/model.safetensors"))
            QSKIP("the model stories260K is not there");
        const Decoder decoder = open_decoder(stories + "derived/model.safetensors");
        QatRequest request;
        request.format = parse_spec("int3:scope=channel");
        request.training = stories_of(decoder, 64, 128);
        request.validation = read_json(stories + "reference_ids.json");
        request.steps = 60;
        request.batch = 8;
        request.learning_rate = 3e-3;
        const ScoreSummary unquantized = score_weights(decoder, {}, request.validation, *device_, job_);
        for (const auto& [loss, learned] : {std::pair(QatLoss::teacher, false), std::pair(QatLoss::text, true)}) {
            request.loss = loss;
            request.learned_steps = learned;
            const QatResult result = train(decoder, request);
            const ScoreSummary trained = score_weights(decoder, result.hook(), request.validation, *device_, job_);
            const double rounded = result.curve[0].validation_perplexity;
            qInfo("perplexity %.3f, before training %.3f, after it %.3f; KLD %.3f", unquantized.perplexity, rounded,
                  trained.perplexity, trained.kld_mean);
            QVERIFY(rounded > 1.2 * unquantized.perplexity);
            const double won = std::log(rounded / trained.perplexity);
            QVERIFY(won > 0.4 * std::log(rounded / unquantized.perplexity));
        }
    }
};

QTEST_GUILESS_MAIN(Qat)
#include "test_qat.moc"
