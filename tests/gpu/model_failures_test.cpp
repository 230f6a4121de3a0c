#include <QtTest>

#include "core/device/fallback.h"
#include "core/formats/registry.h"
#include "core/methods/qat.h"
#include "core/model/evaluation.h"
#include "core/model/variants.h"
#include "tests/core/model/models.h"
#include "tests/gpu/emulated_setting.h"

using namespace qs;
using namespace qs::test;

/// Decoders on an emulated GPU that fails: the CPU does the work, with its results, and the device says so.
class GpuModelFailures : public QObject {
    Q_OBJECT

private:
    EvaluationRequest request() {
        EvaluationRequest request;
        const std::vector<int> ids = tiny_ids("llama");
        request.windows = {ids, {ids.rbegin(), ids.rbegin() + 9}};
        request.variants = combine(parse_specs("nf4"), {parse_method("rtn")});
        return request;
    }

    /// Exactly the CPU's results: nothing is left of what the GPU began.
    void evaluates_as_the_cpu(Device& device) {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        JobControl cpu_job, job;
        const Evaluation expected = evaluate(decoder, request(), *make_cpu_device(), cpu_job);
        const Evaluation found = evaluate(decoder, request(), device, job);
        QCOMPARE(job.done(), cpu_job.done());
        QCOMPARE(found.reference.perplexity, expected.reference.perplexity);
        QCOMPARE(found.variants[0].scores.perplexity, expected.variants[0].scores.perplexity);
        for (const auto& [name, linear] : found.variants[0].linears) {
            QCOMPARE(linear.error2, expected.variants[0].linears.at(name).error2);
            QCOMPARE(linear.output2, expected.variants[0].linears.at(name).output2);
        }
    }

    static bool tells(const Device& device, const char* text) {
        for (const std::string& note : device.notes())
            if (note.find(text) != std::string::npos)
                return true;
        return false;
    }

private slots:
    void the_model_does_not_fit() {
        const auto device = with_cpu_fallback(make_device("cuda"));
        QVERIFY(device->layer_math() != nullptr);
        {
            const Setting memory("MEMORY", 4096);
            evaluates_as_the_cpu(*device);
        }
        QVERIFY(device->layer_math() == nullptr);
        QVERIFY(tells(*device, "the CPU runs the model instead of cuda:0: "));
        QVERIFY(tells(*device, "does not fit in the memory of the GPU"));
    }

    void memory_ends_halfway() {
        // The more memory, the later.
        for (long long kib = 8; kib <= 256; kib *= 2) {
            const auto device = with_cpu_fallback(make_device("cuda"));
            const Setting memory("MEMORY", kib << 10);
            evaluates_as_the_cpu_nearly(*device);
        }
    }

    void the_first_of_several_gpus_runs_the_models() {
        const Setting gpus("GPUS", 3);
        const auto device = with_cpu_fallback(make_device("cuda"));
        QVERIFY(device->layer_math() != nullptr);
        evaluates_as_the_cpu_nearly(*device);
        QVERIFY(device->notes().empty());
    }

    /// The emulated driver does not recover: the last of the tests.
    void the_gpu_is_lost_in_a_training() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        QatRequest training;
        training.format = parse_spec("int4");
        training.training = training.validation = request().windows;
        training.steps = 3;
        training.batch = 2;
        training.validate_every = 1;
        JobControl cpu_job, job;
        const QatResult expected = train_qat(decoder, training, *make_cpu_device(), cpu_job);
        const auto device = with_cpu_fallback(make_device("cuda"));
        const Setting lost("LOST", 400);
        const QatResult found = train_qat(decoder, training, *device, job);
        QCOMPARE(found.curve.size(), expected.curve.size());
        for (std::size_t i = 0; i < found.curve.size(); ++i)
            QVERIFY(std::abs(found.curve[i].validation_loss / expected.curve[i].validation_loss - 1) < 1e-5);
        QVERIFY(tells(*device, "the CPU runs the model instead of cuda:0: "));
        evaluates_as_the_cpu(*device);
    }

private:
    /// Whether the GPU or the CPU did it.
    void evaluates_as_the_cpu_nearly(Device& device) {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        JobControl cpu_job, job;
        const Evaluation expected = evaluate(decoder, request(), *make_cpu_device(), cpu_job);
        const Evaluation found = evaluate(decoder, request(), device, job);
        QCOMPARE(job.done(), cpu_job.done());
        QVERIFY(std::abs(found.reference.perplexity / expected.reference.perplexity - 1) < 1e-5);
        for (const auto& [name, linear] : found.variants[0].linears)
            QVERIFY(std::abs(linear.output2 / expected.variants[0].linears.at(name).output2 - 1) < 1e-5);
    }
};

QTEST_GUILESS_MAIN(GpuModelFailures)
#include "model_failures_test.moc"
