#include <QtTest>

#include <random>

#include "core/base/error.h"
#include "core/device/device.h"
#include "core/device/discovery.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"
#include "tests/gpu/emulated_setting.h"

using namespace qs;

namespace {

std::vector<float> normal_weights(std::size_t count) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> distribution(0, 0.02F);
    std::vector<float> weights(count);
    for (float& weight : weights)
        weight = distribution(random);
    return weights;
}

QString reason_of_the_gpu() {
    for (const DeviceInfo& info : list_devices())
        if (info.kind == "cuda")
            return QString::fromStdString(info.reason);
    return "no entry";
}

} // namespace

/// What the CUDA device does where memory is short, and what is said of GPUs that cannot be used.
class FailuresTest : public QObject {
    Q_OBJECT

private slots:
    void a_usable_gpu_is_chosen() {
        QCOMPARE(reason_of_the_gpu(), QString());
        QCOMPARE(make_device("auto")->info().id, std::string("cuda:0"));
    }

    void without_a_driver() {
        const Setting status("STATUS", 35), driver("DRIVER", 0);
        QCOMPARE(reason_of_the_gpu(), QString("no NVIDIA driver is installed"));
        QCOMPARE(make_device("auto")->info().id, std::string("cpu"));
        refused("no NVIDIA driver is installed");
    }

    void with_an_old_driver() {
        const Setting status("STATUS", 35), driver("DRIVER", 12020);
        QCOMPARE(reason_of_the_gpu(),
                 QString("the NVIDIA driver is too old: it is for CUDA 12.2, the program needs 13.0"));
    }

    void without_a_gpu() {
        const Setting gpus("GPUS", 0);
        QCOMPARE(reason_of_the_gpu(), QString("the NVIDIA driver finds no GPU"));
    }

    void with_a_gpu_older_than_the_code() {
        const Setting capability("CAPABILITY", 61);
        QVERIFY(reason_of_the_gpu().startsWith("the GPU is older than compute capability 7.5"));
        QCOMPARE(make_device("auto")->info().id, std::string("cpu"));
    }

    void with_a_driver_that_fails() {
        const Setting status("STATUS", 802);
        QVERIFY(reason_of_the_gpu().startsWith("the NVIDIA driver reports: "));
    }

    /// Less and less memory: the numbers stay, and the device says what it did.
    void out_of_memory_data() {
        QTest::addColumn<long long>("memory");
        QTest::addColumn<QString>("note");
        QTest::newRow("enough") << (1LL << 30) << "";
        QTest::newRow("not for a tensor that stays") << (40LL << 20) << "";
        QTest::newRow("only for smaller pieces") << (9LL << 20) << "was done in pieces of 262144 weights";
        QTest::newRow("none to speak of") << (64LL << 10) << "was done on the CPU";
    }

    void out_of_memory() {
        QFETCH(long long, memory);
        QFETCH(QString, note);
        const Setting setting("MEMORY", memory);
        const TensorShape shape{1300, 2048};
        const auto weights = normal_weights(shape.count());
        const TensorView view{DType::f32, false, reinterpret_cast<const std::byte*>(weights.data()), shape};
        const auto specs = parse_specs("nf4,int8,q4_0");
        JobControl cpu_job, job;
        const TensorReport expected = make_cpu_device()->analyze(view, specs, cpu_job);
        const auto device = make_device("cuda");
        const TensorReport report = device->analyze(view, specs, job);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            QCOMPARE(report.results[i].usage, expected.results[i].usage);
            QCOMPARE(report.results[i].sums.max_abs, expected.results[i].sums.max_abs);
            QCOMPARE(report.results[i].sqnr_db(), expected.results[i].sqnr_db());
        }
        QCOMPARE(report.statistics.std, expected.statistics.std);
        QCOMPARE(job.done(), cpu_job.done());
        const auto notes = device->notes();
        QCOMPARE(notes.empty(), note.isEmpty());
        if (!notes.empty())
            QCOMPARE(QString::fromStdString(notes[0]),
                     "out of memory on emulated GPU (cuda:0): a matrix of 1300 x 2048 " + note);
    }

    /// More tensors of a file than can stay, again and again: each time the same numbers.
    void tensors_that_stay_make_room_for_others() {
        const Setting setting("MEMORY", 24LL << 20);
        const TensorShape shape{512, 1024};
        constexpr std::size_t tensors = 9;
        const auto weights = normal_weights(shape.count() * tensors);
        QTemporaryFile temporary;
        QVERIFY(temporary.open());
        temporary.write(reinterpret_cast<const char*>(weights.data()),
                        static_cast<qint64>(weights.size() * sizeof(float)));
        temporary.close();
        const auto file = MappedFile::open(temporary.fileName().toStdString());
        const auto specs = parse_specs("nf4,q4_K");
        const auto cpu = make_cpu_device(), gpu = make_device("cuda");
        for (const std::size_t i : {0U, 0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 0U, 8U, 7U, 7U}) {
            const TensorView view{DType::f32, false, file->bytes().data() + i * shape.count() * sizeof(float), shape,
                                  file.get()};
            // Small tensors are analysed without coming to stay; histograms make them stay.
            JobControl cpu_job, job;
            const HistogramSet expected = cpu->histogram(view, specs, -0.1, 0.1, 100, cpu_job);
            const HistogramSet set = gpu->histogram(view, specs, -0.1, 0.1, 100, job);
            QCOMPARE(set.weights.counts, expected.weights.counts);
            QCOMPARE(set.reconstructions[1].counts, expected.reconstructions[1].counts);
            const TensorReport cpu_report = cpu->analyze(view, specs, cpu_job), report = gpu->analyze(view, specs, job);
            QCOMPARE(report.results[0].usage, cpu_report.results[0].usage);
            QCOMPARE(report.results[1].usage, cpu_report.results[1].usage);
            QCOMPARE(report.statistics.min, cpu_report.statistics.min);
        }
        QVERIFY(gpu->notes().empty());
    }

    void too_little_memory_that_can_be_page_locked() {
        const Setting setting("PINNED", 100000);
        const TensorShape shape{64, 1024};
        const auto weights = normal_weights(shape.count());
        std::vector<float> decoded(shape.count()), expected(shape.count());
        JobControl job;
        const FormatSpec spec = parse_spec("nf4");
        const auto device = make_device("cuda");
        device->quantize(weights.data(), shape, spec, nullptr, nullptr, decoded.data(), job);
        make_cpu_device()->quantize(weights.data(), shape, spec, nullptr, nullptr, expected.data(), job);
        QVERIFY(decoded == expected);
        QCOMPARE(device->notes().size(), std::size_t{1});
    }

    /// The last one, as a GPU that is lost stays lost.
    void a_gpu_that_is_lost_leaves_the_work_to_the_cpu() {
        const TensorShape shape{64, 1024};
        const auto weights = normal_weights(shape.count());
        const TensorView view{DType::f32, false, reinterpret_cast<const std::byte*>(weights.data()), shape};
        const auto specs = parse_specs("nf4,q4_K");
        JobControl job;
        const TensorReport expected = make_cpu_device()->analyze(view, specs, job);
        const Setting setting("LOST", 2);
        QVERIFY_EXCEPTION_THROWN(make_device("cuda")->analyze(view, specs, job), Error);
        const auto device = with_cpu_fallback(make_device("cuda"));
        const TensorReport report = device->analyze(view, specs, job);
        QCOMPARE(report.results[1].usage, expected.results[1].usage);
        QCOMPARE(device->info().id, std::string("cpu"));
        QCOMPARE(device->notes().size(), std::size_t{1});
        QVERIFY(QString::fromStdString(device->notes()[0]).startsWith("emulated GPU (cuda:0) has failed: "));
    }

private:
    static void refused(const std::string& reason) {
        try {
            make_device("cuda");
            QFAIL("a GPU that cannot be used was made");
        } catch (const Error& error) {
            QCOMPARE(error.reason(), reason);
            QCOMPARE(error.remedy(), std::string("use --device cpu"));
        }
    }
};

QTEST_GUILESS_MAIN(FailuresTest)
#include "failures_test.moc"
