#include "gpu/algebra.h"

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "gpu/column_major.h"
#include "gpu/cuda.h"

namespace qs::cuda {

namespace {

class BlasHandle {
public:
    BlasHandle(const AlgebraLibraries& libraries, cudaStream_t stream) : libraries_(libraries) {
        QS_LIBRARY_CHECK(libraries_.cublasCreate(&handle_));
        QS_LIBRARY_CHECK(libraries_.cublasSetStream(handle_, stream));
    }
    ~BlasHandle() { static_cast<void>(libraries_.cublasDestroy(handle_)); }
    BlasHandle(const BlasHandle&) = delete;
    BlasHandle& operator=(const BlasHandle&) = delete;
    operator cublasHandle_t() const { return handle_; }

private:
    const AlgebraLibraries& libraries_;
    cublasHandle_t handle_ = nullptr;
};

class SolverHandle {
public:
    SolverHandle(const AlgebraLibraries& libraries, cudaStream_t stream) : libraries_(libraries) {
        QS_LIBRARY_CHECK(libraries_.cusolverDnCreate(&handle_));
        QS_LIBRARY_CHECK(libraries_.cusolverDnSetStream(handle_, stream));
    }
    ~SolverHandle() { static_cast<void>(libraries_.cusolverDnDestroy(handle_)); }
    SolverHandle(const SolverHandle&) = delete;
    SolverHandle& operator=(const SolverHandle&) = delete;
    operator cusolverDnHandle_t() const { return handle_; }

private:
    const AlgebraLibraries& libraries_;
    cusolverDnHandle_t handle_ = nullptr;
};

cublasOperation_t blas(Op op) {
    return op == Op::none ? CUBLAS_OP_N : CUBLAS_OP_T;
}

cublasFillMode_t blas(Triangle triangle) {
    return triangle == Triangle::lower ? CUBLAS_FILL_MODE_LOWER : CUBLAS_FILL_MODE_UPPER;
}

cublasSideMode_t blas(Side side) {
    return side == Side::left ? CUBLAS_SIDE_LEFT : CUBLAS_SIDE_RIGHT;
}

cudaDataType blas(DType type) {
    switch (type) {
    case DType::f64:
        return CUDA_R_64F;
    case DType::f16:
        return CUDA_R_16F;
    case DType::bf16:
        return CUDA_R_16BF;
    default:
        return CUDA_R_32F;
    }
}

/// TF32 is never used but where it is asked for.
cublasComputeType_t compute_type(DType type, Precision precision) {
    if (type == DType::f64)
        return CUBLAS_COMPUTE_64F;
    return type == DType::f32 && precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// A scalar in the type of a computation, as gemm() wants to be pointed to it.
class Scalar {
public:
    Scalar(double value, DType type) : f64_(value), f32_(static_cast<float>(value)), is_f64_(type == DType::f64) {}
    const void* address() const { return is_f64_ ? static_cast<const void*>(&f64_) : &f32_; }

private:
    double f64_;
    float f32_;
    bool is_f64_;
};

/// Memory of the GPU that belongs to a matrix, and the stream whose work may still need it.
struct OwnedDeviceMemory final : MatrixMemory {
    OwnedDeviceMemory(std::size_t bytes, int ordinal, std::shared_ptr<Stream> stream_of_use)
        : stream(std::move(stream_of_use)) {
        data = static_cast<std::byte*>(buffer.reserve(bytes));
        place = ordinal;
    }
    ~OwnedDeviceMemory() override { static_cast<void>(cudaStreamSynchronize(*stream)); }
    OwnedDeviceMemory(const OwnedDeviceMemory&) = delete;
    OwnedDeviceMemory& operator=(const OwnedDeviceMemory&) = delete;

    std::shared_ptr<Stream> stream;
    DeviceBuffer buffer;
};

/// The algebra of matrices that lie on the GPU, which must be current when it is called. copy() takes others too.
class ResidentAlgebra final : public Algebra {
public:
    ResidentAlgebra(int ordinal, const LibraryPaths& paths)
        : ordinal_(ordinal), libraries_(paths), blas_(libraries_, *stream_), solver_(libraries_, *stream_) {}

    std::string description() const override { return libraries_.versions + " on cuda:" + std::to_string(ordinal_); }
    const std::shared_ptr<Stream>& stream() const { return stream_; }

protected:
    DeviceMatrix do_make(DType type, std::size_t rows, std::size_t columns) override {
        const std::size_t bytes = matrix_bytes(type, rows, columns, columns);
        DeviceMatrix matrix{std::make_shared<OwnedDeviceMemory>(bytes, ordinal_, stream_), type, rows, columns,
                            columns};
        if (bytes > 0)
            QS_CUDA_CHECK(cudaMemsetAsync(matrix.data(), 0, bytes, *stream_));
        return matrix;
    }

    void do_copy(const DeviceMatrix& from, const DeviceMatrix& to) override {
        const bool to_host = to.place() == MatrixMemory::host, from_host = from.place() == MatrixMemory::host;
        const cudaMemcpyKind kind = to_host     ? cudaMemcpyDeviceToHost
                                    : from_host ? cudaMemcpyHostToDevice
                                                : cudaMemcpyDeviceToDevice;
        const std::size_t element = matrix_bytes(from.type(), 1, 1, 1), width = from.columns() * element;
        if (from.stride() == from.columns() && to.stride() == to.columns())
            QS_CUDA_CHECK(cudaMemcpyAsync(to.data(), from.data(), from.rows() * width, kind, *stream_));
        else
            QS_CUDA_CHECK(cudaMemcpy2DAsync(to.data(), to.stride() * element, from.data(), from.stride() * element,
                                            width, from.rows(), kind, *stream_));
        // The host's memory belongs to the caller again when the call returns.
        if (to_host || from_host)
            stream_->synchronize();
    }

    void do_product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                    const DeviceMatrix& c, Precision precision) override {
        const Gemm x = column_major_product(a, op_a, b, op_b, c);
        const Scalar scale(alpha, c.type()), kept(beta, c.type());
        QS_LIBRARY_CHECK(libraries_.cublasGemmEx(blas_, blas(x.op_a), blas(x.op_b), x.m, x.n, x.k, scale.address(),
                                                 x.a.data(), blas(x.a.type()), x.lda, x.b.data(), blas(x.b.type()),
                                                 x.ldb, kept.address(), c.data(), blas(c.type()), x.ldc,
                                                 compute_type(a.type(), precision), CUBLAS_GEMM_DEFAULT));
    }

    void do_rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h,
                        Triangle triangle) override {
        const Syrk s = column_major_update(x, h, triangle);
        if (h.type() == DType::f64) {
            QS_LIBRARY_CHECK(libraries_.cublasDsyrk(blas_, blas(s.triangle), CUBLAS_OP_N, s.n, s.k, &alpha,
                                                    x.as<double>(), s.lda, &beta, h.as<double>(), s.ldc));
        } else {
            const auto scale = static_cast<float>(alpha), kept = static_cast<float>(beta);
            QS_LIBRARY_CHECK(libraries_.cublasSsyrk(blas_, blas(s.triangle), CUBLAS_OP_N, s.n, s.k, &scale,
                                                    x.as<float>(), s.lda, &kept, h.as<float>(), s.ldc));
        }
    }

    void do_solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) override {
        const Trsm s = column_major_solve(side, t, triangle, op, b);
        if (b.type() == DType::f64) {
            const double one = 1;
            QS_LIBRARY_CHECK(libraries_.cublasDtrsm(blas_, blas(s.side), blas(s.triangle), blas(s.op),
                                                    CUBLAS_DIAG_NON_UNIT, s.m, s.n, &one, t.as<double>(), s.lda,
                                                    b.as<double>(), s.ldb));
        } else {
            const float one = 1;
            QS_LIBRARY_CHECK(libraries_.cublasStrsm(blas_, blas(s.side), blas(s.triangle), blas(s.op),
                                                    CUBLAS_DIAG_NON_UNIT, s.m, s.n, &one, t.as<float>(), s.lda,
                                                    b.as<float>(), s.ldb));
        }
    }

    void do_cholesky(const DeviceMatrix& a, Triangle triangle) override {
        const int info = a.type() == DType::f64 ? factorize<double>(a, triangle, libraries_.cusolverDnDpotrf_bufferSize,
                                                                    libraries_.cusolverDnDpotrf, "cusolverDnDpotrf")
                                                : factorize<float>(a, triangle, libraries_.cusolverDnSpotrf_bufferSize,
                                                                   libraries_.cusolverDnSpotrf, "cusolverDnSpotrf");
        if (info > 0)
            throw_not_positive_definite(static_cast<std::size_t>(info));
    }

    void do_invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle) override {
        const int info = factor.type() == DType::f64
                             ? factorize<double>(factor, triangle, libraries_.cusolverDnDpotri_bufferSize,
                                                 libraries_.cusolverDnDpotri, "cusolverDnDpotri")
                             : factorize<float>(factor, triangle, libraries_.cusolverDnSpotri_bufferSize,
                                                libraries_.cusolverDnSpotri, "cusolverDnSpotri");
        if (info > 0)
            throw Error("inverse", "the factor has a zero on its diagonal, in row " + std::to_string(info));
    }

    bool reaches(int place) const override { return place == ordinal_ || place == MatrixMemory::host; }

private:
    /// potrf or potri in the workspace that it asks for, which is kept for the next call. Returns what it reports.
    template <class T, class AskSize, class Run>
    int factorize(const DeviceMatrix& a, Triangle triangle, AskSize ask_size, Run run, const char* name) {
        const Potr p = column_major_factor(a, triangle);
        int size = 0;
        check_library(ask_size(solver_, blas(p.triangle), p.n, a.as<T>(), p.lda, &size), name);
        T* workspace = workspace_.reserve_for<T>(static_cast<std::size_t>(size));
        int* report = report_.reserve_for<int>(1);
        check_library(run(solver_, blas(p.triangle), p.n, a.as<T>(), p.lda, workspace, size, report), name);
        int info = 0;
        QS_CUDA_CHECK(cudaMemcpyAsync(&info, report, sizeof info, cudaMemcpyDeviceToHost, *stream_));
        stream_->synchronize();
        if (info < 0)
            throw Error("cuSOLVER", "finds argument " + std::to_string(-info) + " of a factorization wrong");
        return info;
    }

    int ordinal_;
    AlgebraLibraries libraries_;
    DeviceBuffer workspace_, report_;
    std::shared_ptr<Stream> stream_ = std::make_shared<Stream>();
    BlasHandle blas_;
    SolverHandle solver_;
};

/// Brings the operands of one call to the place where it is done, and results back.
class Guests {
public:
    /// `maker` makes and `mover` copies: the algebra of the place, and one that reaches all operands.
    Guests(Algebra& maker, Algebra& mover, int place) : maker_(maker), mover_(mover), place_(place) {}

    /// An operand that is only read.
    DeviceMatrix read(const DeviceMatrix& matrix) {
        if (matrix.place() == place_)
            return matrix;
        DeviceMatrix guest = maker_.make(matrix.type(), matrix.rows(), matrix.columns());
        mover_.copy(matrix, guest);
        return guest;
    }

    /// An operand that is read and written.
    DeviceMatrix update(const DeviceMatrix& matrix) {
        DeviceMatrix guest = read(matrix);
        if (matrix.place() != place_)
            results_.emplace_back(guest, matrix);
        return guest;
    }

    void bring_back() {
        for (const auto& [guest, home] : results_)
            mover_.copy(guest, home);
    }

private:
    Algebra& maker_;
    Algebra& mover_;
    int place_;
    std::vector<std::pair<DeviceMatrix, DeviceMatrix>> results_;
};

/// Does each call on the GPU where that is possible, else on the CPU.
class CudaAlgebra final : public QueuedAlgebra {
public:
    CudaAlgebra(int ordinal, Algebra& cpu, LibraryPaths paths)
        : ordinal_(ordinal), cpu_(cpu), paths_(std::move(paths)) {}

    ~CudaAlgebra() override {
        int before = 0;
        static_cast<void>(cudaGetDevice(&before));
        static_cast<void>(cudaSetDevice(ordinal_));
        gpu_.reset();
        static_cast<void>(cudaSetDevice(before));
    }
    CudaAlgebra(const CudaAlgebra&) = delete;
    CudaAlgebra& operator=(const CudaAlgebra&) = delete;

    std::string description() const override {
        const std::lock_guard lock(mutex_);
        std::string text = gpu() == nullptr ? cpu_.description() : gpu()->description();
        if (!shortfall_.empty())
            text += "; " + shortfall_;
        return text;
    }

    std::shared_ptr<Stream> queue() override {
        const std::lock_guard lock(mutex_);
        return gpu() == nullptr ? nullptr : gpu()->stream();
    }

protected:
    DeviceMatrix do_make(DType type, std::size_t rows, std::size_t columns) override {
        std::optional<DeviceMatrix> made;
        run("kept a matrix", [&](Algebra& algebra, Guests&) { made = algebra.make(type, rows, columns); });
        return *made;
    }

    void do_copy(const DeviceMatrix& from, const DeviceMatrix& to) override {
        const bool on_host = from.place() == MatrixMemory::host && to.place() == MatrixMemory::host;
        if (on_host)
            return cpu_.copy(from, to);
        const std::lock_guard lock(mutex_);
        const CurrentDevice current(ordinal_);
        mover().copy(from, to);
    }

    // Whether cuBLAS takes factors without elements nobody says: the CPU does those.
    void do_product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                    const DeviceMatrix& c, Precision precision) override {
        run(
            "multiplied matrices",
            [&](Algebra& algebra, Guests& guests) {
                algebra.product(alpha, guests.read(a), op_a, guests.read(b), op_b, beta, guests.update(c), precision);
            },
            !a.empty());
    }

    void do_rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h,
                        Triangle triangle) override {
        run(
            "updated a matrix",
            [&](Algebra& algebra, Guests& guests) {
                algebra.rank_update(alpha, guests.read(x), beta, guests.update(h), triangle);
            },
            !x.empty());
    }

    void do_cholesky(const DeviceMatrix& a, Triangle triangle) override {
        run("factored a matrix",
            [&](Algebra& algebra, Guests& guests) { algebra.cholesky(guests.update(a), triangle); });
    }

    void do_solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) override {
        run("solved for a triangle", [&](Algebra& algebra, Guests& guests) {
            algebra.solve(side, guests.read(t), triangle, op, guests.update(b));
        });
    }

    void do_invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle) override {
        run("inverted a matrix",
            [&](Algebra& algebra, Guests& guests) { algebra.invert_from_cholesky(guests.update(factor), triangle); });
    }

    bool reaches(int place) const override { return place == ordinal_ || place == MatrixMemory::host; }

private:
    /// Calls body(algebra, guests) with the GPU's algebra, or the CPU's where that does not suit the GPU, or the GPU
    /// has no algebra or no memory left. `what` tells what was then done.
    template <class Body>
    void run(const char* what, Body body, bool suits_gpu = true) {
        const std::lock_guard lock(mutex_);
        if (gpu() == nullptr)
            return run_on_cpu(body);
        const CurrentDevice current(ordinal_);
        if (!suits_gpu || !ran_on_gpu(what, body))
            run_on_cpu(body);
    }

    /// False where the GPU has no memory left; no operand has changed then.
    template <class Body>
    bool ran_on_gpu(const char* what, Body body) {
        try {
            Guests guests(*gpu(), *gpu(), ordinal_);
            body(*gpu(), guests);
            guests.bring_back();
            return true;
        } catch (const OutOfMemory&) {
            shortfall_ = std::string("the GPU had no memory left, so the CPU ") + what;
            return false;
        }
    }

    template <class Body>
    void run_on_cpu(Body body) {
        Guests guests(cpu_, mover(), MatrixMemory::host);
        body(cpu_, guests);
        guests.bring_back();
    }

    /// The algebra that reaches most.
    Algebra& mover() const {
        if (gpu() == nullptr)
            return cpu_;
        return *gpu();
    }

    /// Null where the libraries cannot be used, for which `shortfall_` then has the reason.
    ResidentAlgebra* gpu() const {
        if (!tried_) {
            tried_ = true;
            try {
                const CurrentDevice current(ordinal_);
                gpu_ = std::make_unique<ResidentAlgebra>(ordinal_, paths_);
            } catch (const Error& error) {
                shortfall_ = std::string("the GPU does no algebra: ") + error.what();
            }
        }
        return gpu_.get();
    }

    int ordinal_;
    Algebra& cpu_;
    LibraryPaths paths_;
    mutable std::mutex mutex_;
    mutable bool tried_ = false;
    mutable std::unique_ptr<ResidentAlgebra> gpu_;
    mutable std::string shortfall_;
};

} // namespace

std::unique_ptr<QueuedAlgebra> make_cuda_algebra(int ordinal, Algebra& cpu, LibraryPaths paths) {
    return std::make_unique<CudaAlgebra>(ordinal, cpu, std::move(paths));
}

} // namespace qs::cuda
