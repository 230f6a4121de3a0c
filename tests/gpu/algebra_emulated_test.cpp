#include <QTest>

#include "core/device/device.h"
#include "gpu/algebra.h"
#include "tests/gpu/algebra_compare.h"

using namespace qs;
using namespace qs::test;

namespace {

/// A variable of the environment while it lives.
class Setting {
public:
    Setting(const char* name, const char* value) : name_(name) { qputenv(name, value); }
    ~Setting() { qunsetenv(name_); }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

private:
    const char* name_;
};

} // namespace

/// The code of gpu/algebra.cpp, with libraries that stand for cuBLAS and cuSOLVER and compute on the host.
class EmulatedAlgebraTest : public QObject {
    Q_OBJECT

private slots:
    void init() { gpu_ = cuda::make_cuda_algebra(0, cpu(), paths()); }

    void says_what_computes() {
        QCOMPARE(QString::fromStdString(gpu().description()), QString("cuBLAS 13.0, cuSOLVER 12.0 on cuda:0"));
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

    void matrices_lie_on_the_device() {
        const auto a = random_matrix<float>(3, 4);
        QCOMPARE(gpu().upload(a.handle()).place(), 0);
        QCOMPARE(gpu().make(DType::f64, 2, 2).place(), 0);
        try {
            cpu().copy(gpu().upload(a.handle()), gpu().upload(a.handle()));
            QFAIL("the CPU cannot reach the device");
        } catch (const Error& error) {
            QCOMPARE(error.reason(), std::string("a matrix lies on another device"));
        }
    }

    void tf32_only_where_asked_for() {
        // 1 + 2⁻¹² is no number of TF32.
        const std::vector<float> a{1.000244140625F}, one{1};
        float c = 0;
        const auto multiply = [&](Precision precision) {
            gpu().product(1, host_matrix(a.data(), 1, 1), Op::none, host_matrix(one.data(), 1, 1), Op::none, 0,
                          host_matrix(&c, 1, 1), precision);
            return c;
        };
        QCOMPARE(multiply(Precision::full), 1.000244140625F);
        QCOMPARE(multiply(Precision::tf32), 1.0F);
    }

    void a_matrix_may_outlive_its_algebra() {
        const auto a = random_matrix<float>(30, 30);
        const DeviceMatrix c = gpu().make(DType::f32, 30, 30);
        gpu().product(1, gpu().upload(a.handle()), Op::none, gpu().upload(a.handle()), Op::none, 0, c);
        gpu_.reset();
        gpu_ = cuda::make_cuda_algebra(0, cpu(), paths());
        QVERIFY(distance(fetched<float>(gpu(), c), naive_product(a, Op::none, a, Op::none)) < tolerance<float>(30));
    }

    void without_a_library_the_cpu_computes() {
        without({{"/nowhere/libcublas.so"}, {EMULATED_ALGEBRA}}, "cuBLAS: cannot be loaded: /nowhere/libcublas.so");
        without({{EMULATED_ALGEBRA}, {"/nowhere/libcusolver.so"}}, "cuSOLVER: cannot be loaded");
        without({{"libm.so.6"}, {EMULATED_ALGEBRA}}, "cuBLAS: has no function cublasGetProperty");
        const Setting version("QUANTOSCOPE_EMULATED_BLAS_VERSION", "11");
        without(paths(), "cuBLAS: is of version 11, the program was built for version 13");
    }

    void the_first_path_that_loads_is_taken() {
        gpu_ = cuda::make_cuda_algebra(0, cpu(), {{"/nowhere/libcublas.so", EMULATED_ALGEBRA}, {EMULATED_ALGEBRA}});
        QVERIFY(gpu().description().starts_with("cuBLAS 13.0"));
        QCOMPARE(cuda::toolkit_paths().cublas,
                 (std::vector<std::string>{"libcublas.so.13", "libcublas.so", "/usr/local/cuda/lib64/libcublas.so.13",
                                           "/usr/local/cuda/lib64/libcublas.so"}));
        QCOMPARE(cuda::toolkit_paths().cusolver.front(), std::string("libcusolver.so.12"));
    }

    void without_memory_the_cpu_computes() {
        const auto a = random_matrix<float>(50, 50);
        const auto expected = naive_product(a, Op::none, a, Op::none);
        // Of three matrices one, two, or none find room: for all the product is right.
        for (const char* bytes : {"25000", "15000", "1000"}) {
            init();
            const Setting memory("QUANTOSCOPE_EMULATED_MEMORY", bytes);
            const DeviceMatrix left = gpu().upload(a.handle()), right = gpu().upload(a.handle());
            const DeviceMatrix c = gpu().make(DType::f32, 50, 50);
            QCOMPARE(c.place(), MatrixMemory::host);
            QVERIFY(gpu().description().ends_with("the GPU had no memory left, so the CPU kept a matrix"));
            gpu().product(1, left, Op::none, right, Op::none, 0, c);
            QVERIFY(distance(fetched<float>(gpu(), c), expected) < tolerance<float>(50));
            QVERIFY(gpu().description().ends_with("the GPU had no memory left, so the CPU multiplied matrices"));
        }
    }

    void without_memory_for_a_workspace_the_cpu_computes() {
        const auto a = positive_definite<double>(50);
        Matrix<double> expected = a;
        cpu().cholesky(expected.handle());
        const DeviceMatrix factored = gpu().upload(a.handle());
        const Setting memory("QUANTOSCOPE_EMULATED_MEMORY", "21000");
        gpu().cholesky(factored);
        QVERIFY(distance(fetched<double>(gpu(), factored), expected) == 0);
        QVERIFY(gpu().description().ends_with("so the CPU factored a matrix"));
    }

    void without_memory_in_a_library_the_cpu_computes() {
        const auto a = random_matrix<float>(8, 8);
        const DeviceMatrix h = gpu().make(DType::f32, 8, 8);
        {
            const Setting status("QUANTOSCOPE_EMULATED_BLAS_STATUS", "3");
            gpu().rank_update(1, gpu().upload(a.handle()), 0, h, Triangle::lower);
        }
        QVERIFY(gpu().description().ends_with("so the CPU updated a matrix"));
        const auto expected = only(Triangle::lower, naive_product(a, Op::transposed, a, Op::none));
        QVERIFY(distance(fetched<float>(gpu(), h), expected) < tolerance<float>(8));
    }

    void failures_name_the_call_and_the_status() {
        const auto a = positive_definite<double>(4);
        const DeviceMatrix matrix = gpu().upload(a.handle()), c = gpu().make(DType::f64, 4, 4);
        {
            const Setting status("QUANTOSCOPE_EMULATED_BLAS_STATUS", "13");
            throws([&] { gpu().product(1, matrix, Op::none, matrix, Op::none, 0, c); },
                   "cuBLAS: cublasGemmEx failed: CUBLAS_STATUS_EXECUTION_FAILED; use --device cpu if it happens again");
            throws([&] { gpu().rank_update(1, matrix, 0, c, Triangle::lower); },
                   "cuBLAS: cublasDsyrk failed: CUBLAS_STATUS_EXECUTION_FAILED; use --device cpu if it happens again");
            throws([&] { gpu().solve(Side::left, matrix, Triangle::lower, Op::none, c); },
                   "cuBLAS: cublasDtrsm failed: CUBLAS_STATUS_EXECUTION_FAILED; use --device cpu if it happens again");
        }
        const Setting status("QUANTOSCOPE_EMULATED_SOLVER_STATUS", "7");
        throws(
            [&] { gpu().cholesky(matrix); },
            "cuSOLVER: cusolverDnDpotrf failed: CUSOLVER_STATUS_INTERNAL_ERROR; use --device cpu if it happens again");
    }

    void a_singular_factor_is_named() {
        const Matrix<float> zeros(3, 3);
        throws([&] { gpu().invert_from_cholesky(gpu().upload(zeros.handle())); },
               "inverse: the factor has a zero on its diagonal, in row 1");
    }

private:
    static cuda::LibraryPaths paths() { return {{EMULATED_ALGEBRA}, {EMULATED_ALGEBRA}}; }

    Algebra& gpu() { return *gpu_; }
    Algebra& cpu() { return cpu_->algebra(); }

    void without(const cuda::LibraryPaths& paths, const std::string& reason) {
        gpu_ = cuda::make_cuda_algebra(0, cpu(), paths);
        const std::string description = gpu().description();
        QVERIFY2(description.starts_with("Eigen on the CPU"), description.c_str());
        QVERIFY2(description.find("the GPU does no algebra: " + reason) != std::string::npos, description.c_str());
        QCOMPARE(gpu().make(DType::f32, 2, 2).place(), MatrixMemory::host);
        compare_products<float>(gpu(), cpu());
        compare_factors<double>(gpu(), cpu());
    }

    template <class Body>
    static void throws(Body body, const char* message) {
        try {
            body();
        } catch (const Error& error) {
            QCOMPARE(QString(error.what()), QString(message));
            return;
        }
        QFAIL("nothing was thrown");
    }

    std::unique_ptr<Device> cpu_ = make_cpu_device(2);
    std::unique_ptr<Algebra> gpu_;
};

QTEST_GUILESS_MAIN(EmulatedAlgebraTest)
#include "algebra_emulated_test.moc"
