#include <QtTest>

#include <algorithm>

#include "core/device/device.h"
#include "tests/gpu/algebra_compare.h"

using namespace qs;
using namespace qs::test;

/// The algebra of a real GPU beside the CPU's.
class GpuAlgebraTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        const auto devices = list_devices();
        const auto found = std::find_if(devices.begin(), devices.end(),
                                        [](const auto& info) { return info.kind == "cuda" && info.usable; });
        if (found == devices.end())
            QSKIP(devices.back().reason.c_str());
        gpu_ = make_device(found->id);
        const std::string description = gpu_->algebra().description();
        if (!description.starts_with("cuBLAS"))
            QSKIP(description.c_str());
    }

    void products_of_f32() { compare_products<float>(gpu(), cpu()); }
    void products_of_f64() { compare_products<double>(gpu(), cpu()); }
    void products_of_16_bits() { compare_16_bits(gpu(), cpu()); }
    void tf32() { compare_tf32(gpu(), cpu()); }
    void rank_updates_of_f32() { compare_updates<float>(gpu(), cpu()); }
    void rank_updates_of_f64() { compare_updates<double>(gpu(), cpu()); }
    void factors_of_f32() { compare_factors<float>(gpu(), cpu()); }
    void factors_of_f64() { compare_factors<double>(gpu(), cpu()); }
    void solves_of_f32() { compare_solves<float>(gpu(), cpu()); }
    void solves_of_f64() { compare_solves<double>(gpu(), cpu()); }
    void failures() { compare_failures(gpu(), cpu()); }

    void the_same_from_run_to_run() {
        const auto x = random_matrix<float>(2000, 576);
        const DeviceMatrix on_gpu = gpu().upload(x.handle());
        const auto run = [&] {
            const DeviceMatrix h = gpu().make(DType::f32, 576, 576);
            gpu().rank_update(1, on_gpu, 0, h, Triangle::upper);
            gpu().cholesky_of_inverse(h, Triangle::upper);
            return fetched<float>(gpu(), h).elements;
        };
        const auto first = run();
        for (int repeat = 0; repeat < 3; ++repeat)
            QVERIFY(run() == first);
    }

private:
    Algebra& gpu() { return gpu_->algebra(); }
    Algebra& cpu() { return cpu_->algebra(); }

    std::unique_ptr<Device> gpu_, cpu_ = make_cpu_device();
};

QTEST_GUILESS_MAIN(GpuAlgebraTest)
#include "algebra_test.moc"
