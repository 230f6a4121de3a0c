#include <QtTest>

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/device/device.h"
#include "core/device/device_group.h"

using namespace qs;

/// The CUDA module as the program meets it, on machines with and without a GPU.
class ModuleTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        // Beside the executables of the build tree, also when the tree was carried to another machine.
        const auto path = executable_dir() / "../bin/quantoscope-cuda.so";
        void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        QVERIFY2(handle != nullptr, ::dlerror());
        using Entry = const CudaModule* (*)();
        const auto entry = reinterpret_cast<Entry>(::dlsym(handle, "quantoscope_cuda_module"));
        QVERIFY(entry != nullptr);
        module_ = entry();
        QVERIFY(module_ != nullptr);
    }

    void has_the_abi_of_the_program() { QCOMPARE(module_->abi, cuda_module_abi); }

    void exports_nothing_else() {
        void* handle = ::dlopen((executable_dir() / "../bin/quantoscope-cuda.so").c_str(), RTLD_NOW | RTLD_LOCAL);
        QVERIFY(handle != nullptr);
        // A function of the core that the module holds a copy of.
        QVERIFY(::dlsym(handle, "_ZN2qs10parse_specESt17basic_string_viewIcSt11char_traitsIcEE") == nullptr);
    }

    void lists_devices_or_the_reason_why_there_is_none() {
        const auto devices = module_->list();
        QVERIFY(!devices.empty());
        for (const DeviceInfo& info : devices) {
            QCOMPARE(info.kind, std::string("cuda"));
            QVERIFY(!info.name.empty());
            QCOMPARE(info.usable, info.reason.empty());
            if (info.usable) {
                QVERIFY(info.id.starts_with("cuda:"));
                QVERIFY(info.memory_bytes > 0);
                QVERIFY(!info.compute_capability.empty());
            }
        }
    }

    void the_program_lists_the_same() {
        const auto expected = with_gpu_group(module_->list());
        const auto all = list_devices();
        QCOMPARE(all.size(), expected.size() + 1);
        QCOMPARE(all.front().id, std::string("cpu"));
        for (std::size_t i = 0; i < expected.size(); ++i) {
            QCOMPARE(all[i + 1].id, expected[i].id);
            QCOMPARE(all[i + 1].reason, expected[i].reason);
        }
    }

    void an_error_crosses_the_boundary() {
        try {
            module_->make(999);
            QFAIL("there is no GPU with the number 999");
        } catch (const Error& error) {
            QCOMPARE(error.where(), std::string("device 'cuda:999'"));
            QVERIFY(!error.reason().empty());
            QCOMPARE(error.remedy(), std::string("use --device cpu"));
        }
    }

    void makes_the_devices_it_calls_usable() {
        const auto devices = module_->list();
        const auto found = std::find_if(devices.begin(), devices.end(), [](const auto& info) { return info.usable; });
        if (found == devices.end())
            QSKIP(devices.front().reason.c_str());
        const auto device = make_device(found->id);
        QCOMPARE(device->info().name, found->name);
    }

private:
    const CudaModule* module_ = nullptr;
};

QTEST_GUILESS_MAIN(ModuleTest)
#include "module_test.moc"
