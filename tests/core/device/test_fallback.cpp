#include <QTest>

#include <thread>

#include "core/device/device_group.h"
#include "core/device/discovery.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"
#include "tests/core/device/made_devices.h"

using namespace qs;
using namespace qs::test;

namespace {

DeviceInfo listed(const std::string& id, const std::string& kind, bool usable) {
    DeviceInfo info;
    info.id = id;
    info.kind = kind;
    info.usable = usable;
    return info;
}

} // namespace

/// Which device does the work, and what is said when it cannot.
class TestFallback : public QObject {
    Q_OBJECT
private slots:
    void the_default_is_the_first_usable_gpu() {
        const DeviceInfo cpu = listed("cpu", "cpu", true), none = listed("cuda", "cuda", false);
        const DeviceInfo old = listed("cuda:0", "cuda", false), gpu = listed("cuda:1", "cuda", true);
        QCOMPARE(default_device({cpu, none}), std::string("cpu"));
        QCOMPARE(default_device({cpu, old, gpu, listed("cuda:2", "cuda", true)}), std::string("cuda:1"));
        QCOMPARE(default_device({}), std::string("cpu"));
        QCOMPARE(default_device(with_gpu_group({cpu, old, gpu, listed("cuda:2", "cuda", true)})), std::string("cuda"));
    }

    void a_single_device_is_one_of_several() {
        const DeviceInfo cpu = listed("cpu", "cpu", true), old = listed("cuda:0", "cuda", false);
        const DeviceInfo gpu = listed("cuda:1", "cuda", true), other = listed("cuda:2", "cuda", true);
        const auto devices = with_gpu_group({cpu, old, gpu, other});
        for (const char* several : {"auto", "cuda"})
            QCOMPARE(single_device(devices, several), std::string("cuda:1"));
        for (const char* one : {"cpu", "cuda:0", "cuda:2"})
            QCOMPARE(single_device(devices, one), std::string(one));
        QCOMPARE(single_device({cpu, old}, "auto"), std::string("cpu"));
        QCOMPARE(single_device({cpu, old}, "cuda"), std::string("cuda"));
    }

    void the_counterpart_is_of_another_kind() {
        const std::vector<DeviceInfo> devices{listed("cpu", "cpu", true), listed("cuda:0", "cuda", false),
                                              listed("cuda:1", "cuda", true), listed("cuda:2", "cuda", true)};
        QCOMPARE(counterpart(devices, "cpu")->id, std::string("cuda:1"));
        QCOMPARE(counterpart(devices, "cuda:2")->id, std::string("cpu"));
        QCOMPARE(counterpart(devices, "gone")->id, std::string("cpu"));
        QVERIFY(counterpart({devices[0], devices[1]}, "cpu") == nullptr);
        QCOMPARE(counterpart({devices[0], listed("other", "cpu", true)}, "cpu")->id, std::string("other"));
    }

    void a_cpu_needs_none() {
        auto cpu = make_cpu_device(1);
        const Device* before = cpu.get();
        QCOMPARE(with_cpu_fallback(std::move(cpu)).get(), before);
    }

    void the_cpu_goes_on() {
        const std::vector<float> weights = random_weights(64 * 64, 1);
        const auto specs = parse_specs("nf4,int8");
        const TensorView tensor = view(weights, DType::f32, 64);
        JobControl job;
        auto gpu = std::make_unique<NamedDevice>("cuda:0", "cuda", 1);
        gpu->works_for = 1;
        gpu->said.add("half of it was done in smaller pieces");
        const auto device = with_cpu_fallback(std::move(gpu));

        const TensorReport first = device->analyze(tensor, specs, job);
        QCOMPARE(device->info().id, std::string("cuda:0"));
        QCOMPARE(device->notes().size(), std::size_t{1});
        const TensorReport second = device->analyze(tensor, specs, job);
        QCOMPARE(second.results[0].sums.sum_d2, first.results[0].sums.sum_d2);
        QCOMPARE(device->info().id, std::string("cpu"));
        QVERIFY(device->histogram(tensor, specs, -1, 1, 10, job).weights.counts.size() == 10);
        const std::vector<std::string> notes = device->notes();
        QCOMPARE(notes.size(), std::size_t{2});
        QCOMPARE(notes[1], std::string("Made cuda:0 (cuda:0) has failed: the GPU has fallen off the bus; the CPU does "
                                       "the work instead"));
    }

    void the_inputs_fault_is_not_the_devices() {
        const std::vector<float> weights = random_weights(256, 2);
        const TensorView tensor = view(weights, DType::f32, 256);
        JobControl job;
        const auto device = with_cpu_fallback(std::make_unique<NamedDevice>("cuda:0", "cuda", 1));
        QVERIFY_THROWS_EXCEPTION(Error, device->analyze(tensor, parse_specs("iq2_xxs"), job));
        QVERIFY(device->notes().empty());
        QCOMPARE(device->info().id, std::string("cuda:0"));
        job.cancel();
        QVERIFY_THROWS_EXCEPTION(Cancelled, device->analyze(tensor, parse_specs("nf4"), job));
        QVERIFY(device->notes().empty());
    }

    void notes_are_said_once_from_any_thread() {
        Notes notes;
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&notes] {
                for (int n = 0; n < 100; ++n)
                    notes.add("note " + std::to_string(n % 10));
            });
        for (std::thread& thread : threads)
            thread.join();
        QCOMPARE(notes.all().size(), std::size_t{10});
        QVERIFY(make_cpu_device(1)->notes().empty());
    }
};

QTEST_APPLESS_MAIN(TestFallback)
#include "test_fallback.moc"
