#include <QTest>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/analysis/pipeline.h"
#include "core/base/parallel.h"
#include "core/device/device_group.h"
#include "core/device/fallback.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"
#include "tests/core/device/made_devices.h"

using namespace qs;
using namespace qs::test;

namespace {

DeviceInfo gpu(int ordinal, const std::string& name, bool usable = true) {
    DeviceInfo info;
    info.id = "cuda:" + std::to_string(ordinal);
    info.name = name;
    info.kind = "cuda";
    info.memory_bytes = std::uint64_t{80} << 30;
    info.compute_capability = name == "A" ? "8.0" : "9.0";
    info.usable = usable;
    return info;
}

/// A group of made devices, and what is made visible of them.
struct Group {
    explicit Group(int count) {
        std::vector<std::unique_ptr<Device>> all;
        for (int i = 0; i < count; ++i) {
            auto member = std::make_unique<NamedDevice>("cuda:" + std::to_string(i), "cuda", 1);
            members.push_back(member.get());
            all.push_back(std::move(member));
        }
        device = make_device_group(std::move(all));
    }

    std::vector<int> calls() const {
        std::vector<int> counts;
        for (const NamedDevice* member : members)
            counts.push_back(member->calls);
        return counts;
    }

    std::vector<NamedDevice*> members;
    std::unique_ptr<Device> device;
};

/// Waits until `count` threads are here; false after half a minute.
class Meeting {
public:
    explicit Meeting(int count) : missing_(count) {}
    bool join() {
        --missing_;
        for (int i = 0; i < 30000 && missing_ > 0; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return missing_ <= 0;
    }

private:
    std::atomic<int> missing_;
};

} // namespace

/// Several devices that work as one.
class TestDeviceGroup : public QObject {
    Q_OBJECT
private slots:
    void calls_end_with_the_first_failure() {
        std::vector<std::atomic<int>> done(1000);
        for_each_on_threads(done.size(), 7, [&](std::size_t i) { ++done[i]; });
        QVERIFY(std::ranges::all_of(done, [](int times) { return times == 1; }));
        for_each_on_threads(0, 7, [](std::size_t) { QFAIL("there is nothing to do"); });
        std::atomic<int> begun = 0;
        const auto failing = [&](std::size_t i) {
            ++begun;
            if (i == 3)
                throw Error("body", "fails");
        };
        QVERIFY_THROWS_EXCEPTION(Error, for_each_on_threads(1000000, 2, failing));
        QVERIFY(begun < 1000000);
    }

    void it_is_described_by_its_members() {
        const DeviceInfo info = group_info({gpu(0, "A"), gpu(2, "B"), gpu(3, "A")});
        QCOMPARE(info.id, std::string("cuda"));
        QCOMPARE(info.kind, std::string("cuda"));
        QCOMPARE(info.name, std::string("2 x A + B"));
        QCOMPARE(info.compute_capability, std::string("8.0, 9.0"));
        QCOMPARE(info.memory_bytes, std::uint64_t{240} << 30);
        QCOMPARE(info.members, 3);
        QVERIFY(info.usable);
    }

    void it_is_listed_where_there_are_several() {
        const DeviceInfo cpu = make_cpu_device(1)->info();
        const auto listed = with_gpu_group({cpu, gpu(0, "A", false), gpu(1, "A"), gpu(2, "A")});
        QCOMPARE(listed.size(), std::size_t{5});
        QCOMPARE(listed[1].id, std::string("cuda"));
        QCOMPARE(listed[1].name, std::string("2 x A"));
        QCOMPARE(listed[2].id, std::string("cuda:0"));
        QCOMPARE(with_gpu_group({cpu, gpu(0, "A", false), gpu(1, "A")}).size(), std::size_t{3});
        QCOMPARE(with_gpu_group({cpu}).size(), std::size_t{1});
    }

    void calls_go_to_whoever_has_fewest() {
        Group group(3);
        Meeting meeting(6);
        std::atomic<int> late = 0;
        for (NamedDevice* member : group.members)
            member->while_working = [&] { late += meeting.join() ? 0 : 1; };
        const std::vector<float> weights = random_weights(256, 1);
        const auto specs = parse_specs("nf4");
        JobControl job;
        group.device->for_each(6, [&](std::size_t i) {
            if (i % 3 == 0)
                group.device->analyze(view(weights, DType::f32, 256), specs, job);
            else if (i % 3 == 1)
                group.device->histogram(view(weights, DType::f32, 256), specs, -1, 1, 10, job);
            else
                group.device->quantize(weights.data(), {1, 256}, specs[0], nullptr, nullptr, nullptr, job);
        });
        QCOMPARE(late.load(), 0);
        QCOMPARE(group.calls(), (std::vector<int>{2, 2, 2}));
    }

    void a_tensor_of_a_file_returns_to_its_member() {
        QTemporaryDir folder;
        std::vector<StoredTensor> tensors;
        for (unsigned i = 0; i < 6; ++i)
            tensors.push_back(stored("tensor " + std::to_string(i), "F32", {4, 64}, random_weights(256, i)));
        const auto checkpoint = open_checkpoint(write_safetensors(folder, "six.safetensors", tensors).toStdString());
        Group group(3);
        JobControl job;
        const auto member_of = [&](std::size_t tensor) {
            const auto before = group.calls();
            group.device->histogram(view_of(*checkpoint, checkpoint->tensors[tensor]), parse_specs("nf4"), -1, 1, 10,
                                    job);
            const auto after = group.calls();
            return std::ranges::mismatch(before, after).in1 - before.begin();
        };
        std::vector<std::ptrdiff_t> homes;
        for (std::size_t i = 0; i < 6; ++i)
            homes.push_back(member_of(i));
        // One after another they spread over the memory of all.
        QCOMPARE(group.calls(), (std::vector<int>{2, 2, 2}));
        for (const std::size_t i : {5, 0, 3, 3, 1, 2, 4})
            QCOMPARE(member_of(i), homes[i]);

        // Where the member is busy another takes it.
        Meeting meeting(3);
        std::atomic<int> late = 0;
        for (NamedDevice* member : group.members) {
            member->calls = 0;
            member->while_working = [&] { late += meeting.join() ? 0 : 1; };
        }
        group.device->for_each(3, [&](std::size_t) {
            group.device->histogram(view_of(*checkpoint, checkpoint->tensors[0]), parse_specs("nf4"), -1, 1, 10, job);
        });
        QCOMPARE(late.load(), 0);
        QCOMPARE(group.members[static_cast<std::size_t>(homes[0])]->calls.load(), 2);
    }

    void results_are_those_of_one() {
        const auto checkpoint = open_checkpoint(QUANTOSCOPE_RESOURCES_DIR "/demo");
        const Selection selection = select_tensors(*checkpoint);
        const auto specs = parse_specs("nf4,int8,q4_0,q4_K");
        JobControl job, group_job;
        NamedDevice one("cuda:0", "cuda", 1);
        Group group(3);
        const auto expected = analyze(*checkpoint, selection.tensors, specs, one, job);
        const auto reports = analyze(*checkpoint, selection.tensors, specs, *group.device, group_job);
        QCOMPARE(group_job.done(), job.done());
        QCOMPARE(reports.size(), expected.size());
        for (std::size_t i = 0; i < reports.size(); ++i)
            for (std::size_t k = 0; k < specs.size(); ++k) {
                QVERIFY(reports[i].results[k].spec == expected[i].results[k].spec);
                QVERIFY(std::memcmp(&reports[i].results[k].sums, &expected[i].results[k].sums, sizeof(ErrorSums)) == 0);
                QVERIFY(reports[i].results[k].usage == expected[i].results[k].usage);
            }
        QVERIFY(std::ranges::all_of(group.calls(), [](int calls) { return calls > 0; }));
    }

    void notes_and_bandwidths_are_joined() {
        Group group(3);
        group.members[0]->said.add("one");
        group.members[2]->said.add("two");
        QCOMPARE(group.device->notes(), (std::vector<std::string>{"one", "two"}));
        JobControl job;
        QCOMPARE(group.device->measure_read_gbps(1, job), 30.0);
        QCOMPARE(group.device->measure_copy_gbps(job), 0.0);
        QCOMPARE(&group.device->algebra(), &group.members[0]->algebra());
        QCOMPARE(group.device->info().name, std::string("Made cuda:0 + Made cuda:1 + Made cuda:2"));
    }

    void the_cpu_goes_on_where_one_is_lost() {
        const auto checkpoint = open_checkpoint(QUANTOSCOPE_RESOURCES_DIR "/demo");
        const Selection selection = select_tensors(*checkpoint);
        const auto specs = parse_specs("nf4");
        Group group(2);
        group.members[1]->works_for = 2;
        const auto device = with_cpu_fallback(std::move(group.device), 1);
        JobControl job;
        const auto cpu = make_cpu_device(1);
        const auto expected = analyze(*checkpoint, selection.tensors, specs, *cpu, job);
        const auto reports = analyze(*checkpoint, selection.tensors, specs, *device, job);
        for (std::size_t i = 0; i < reports.size(); ++i)
            QCOMPARE(reports[i].results[0].sums.sum_d2, expected[i].results[0].sums.sum_d2);
        QCOMPARE(device->info().id, std::string("cpu"));
        QCOMPARE(device->notes(),
                 (std::vector<std::string>{"Made cuda:0 + Made cuda:1 (cuda) has failed: the GPU has fallen off the "
                                           "bus; the CPU does the work instead"}));
    }
};

QTEST_APPLESS_MAIN(TestDeviceGroup)
#include "test_device_group.moc"
