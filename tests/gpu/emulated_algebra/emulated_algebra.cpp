// cuBLAS and cuSOLVER for an emulated GPU: the functions that gpu/ looks up, on host memory by Eigen, in the order of
// the stream. Checks its arguments as the originals do, and uses the workspace that it asked for.
//
// The environment can make it fail, as a test wants it (read at each call):
//   QUANTOSCOPE_EMULATED_BLAS_STATUS    what every call of cuBLAS gives that computes
//   QUANTOSCOPE_EMULATED_SOLVER_STATUS  the same of cuSOLVER
//   QUANTOSCOPE_EMULATED_BLAS_VERSION   the major version of cuBLAS

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <cstdint>
#include <cstdlib>

#include "core/base/half.h"
#include "tests/gpu/column_major_reference.h"

using namespace qs;

struct cublasContext {
    cudaStream_t stream = nullptr;
};
struct cusolverDnContext {
    cudaStream_t stream = nullptr;
};

namespace {

int setting(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}

cublasStatus_t blas_status() {
    return static_cast<cublasStatus_t>(setting("QUANTOSCOPE_EMULATED_BLAS_STATUS", 0));
}

cusolverStatus_t solver_status() {
    return static_cast<cusolverStatus_t>(setting("QUANTOSCOPE_EMULATED_SOLVER_STATUS", 0));
}

template <class Handle, class Work>
void enqueue(Handle* handle, Work work) {
    static_cast<void>(emulated::enqueue_host_function(handle->stream, work));
}

/// op(A) of any type as float32 or float64.
template <class T>
reference::Dense<T> taken_as(cublasOperation_t op, const void* data, cudaDataType type, int rows, int columns,
                             int leading) {
    const bool transposed = op == CUBLAS_OP_T;
    if (type == CUDA_R_32F || type == CUDA_R_64F)
        return reference::taken(transposed, static_cast<const T*>(data), rows, columns, leading);
    const auto widen = type == CUDA_R_16BF ? bf16_to_float : fp16_to_float;
    return reference::taken(transposed, static_cast<const std::uint16_t*>(data), rows, columns, leading)
        .unaryExpr(widen)
        .template cast<T>();
}

/// The 10 bits of mantissa that TF32 has.
void round_to_tf32(reference::Dense<float>& matrix) {
    matrix = matrix.unaryExpr([](float value) { return qs::round_to_tf32(value); }).eval();
}

template <class T>
cublasStatus_t syrk(cublasHandle_t handle, cublasFillMode_t half, cublasOperation_t op, int n, int k, const T* alpha,
                    const T* a, int lda, const T* beta, T* c, int ldc) {
    if (n < 1 || k < 1 || lda < n || ldc < n || op != CUBLAS_OP_N)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (blas_status() == CUBLAS_STATUS_SUCCESS)
        enqueue(handle, [=, scale = *alpha, kept = *beta] {
            reference::syrk(half == CUBLAS_FILL_MODE_LOWER, n, k, scale, a, lda, kept, c, ldc);
        });
    return blas_status();
}

template <class T>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t half, cublasOperation_t op,
                    cublasDiagType_t diagonal, int m, int n, const T* alpha, const T* a, int lda, T* b, int ldb) {
    const bool left = side == CUBLAS_SIDE_LEFT;
    if (m < 1 || n < 1 || lda < (left ? m : n) || ldb < m || diagonal != CUBLAS_DIAG_NON_UNIT)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (blas_status() == CUBLAS_STATUS_SUCCESS)
        enqueue(handle, [=, scale = *alpha] {
            reference::trsm(left, half == CUBLAS_FILL_MODE_LOWER, op == CUBLAS_OP_T, m, n, scale, a, lda, b, ldb);
        });
    return blas_status();
}

cusolverStatus_t workspace_size(int n, int lda, int* size) {
    if (n < 1 || lda < n)
        return CUSOLVER_STATUS_INVALID_VALUE;
    *size = 3 * n;
    return CUSOLVER_STATUS_SUCCESS;
}

/// `compute(lower, n, a, lda)` returns the report.
template <class T, class Compute>
cusolverStatus_t factorize(cusolverDnHandle_t handle, cublasFillMode_t half, int n, T* a, int lda, T* workspace,
                           int size, int* report, Compute compute) {
    int wanted = 0;
    if (const auto status = workspace_size(n, lda, &wanted); status != CUSOLVER_STATUS_SUCCESS)
        return status;
    if (size < wanted || workspace == nullptr || report == nullptr)
        return CUSOLVER_STATUS_INVALID_VALUE;
    if (solver_status() == CUSOLVER_STATUS_SUCCESS)
        enqueue(handle, [=] {
            std::fill_n(workspace, size, T{1});
            *report = compute(half == CUBLAS_FILL_MODE_LOWER, n, a, lda);
        });
    return solver_status();
}

} // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT cublasStatus_t cublasGetProperty(libraryPropertyType type, int* value) {
    *value = type == MAJOR_VERSION ? setting("QUANTOSCOPE_EMULATED_BLAS_VERSION", CUBLAS_VER_MAJOR) : 0;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                   int k, const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                                   cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c,
                                   int ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
    const bool f64 = compute == CUBLAS_COMPUTE_64F;
    if (m < 1 || n < 1 || k < 1 || lda < (op_a == CUBLAS_OP_N ? m : k) || ldb < (op_b == CUBLAS_OP_N ? k : n) ||
        ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (type_a != type_b || (type_c == CUDA_R_64F) != f64 || (type_a == CUDA_R_64F) != f64)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (blas_status() != CUBLAS_STATUS_SUCCESS)
        return blas_status();
    const auto multiply = [=](auto scale, auto kept) {
        using T = decltype(scale);
        enqueue(handle, [=] {
            auto left = taken_as<T>(op_a, a, type_a, m, k, lda), right = taken_as<T>(op_b, b, type_b, k, n, ldb);
            if constexpr (std::is_same_v<T, float>)
                if (compute == CUBLAS_COMPUTE_32F_FAST_TF32) {
                    round_to_tf32(left);
                    round_to_tf32(right);
                }
            reference::gemm(left, right, scale, kept, static_cast<T*>(c), ldc);
        });
    };
    if (f64)
        multiply(*static_cast<const double*>(alpha), *static_cast<const double*>(beta));
    else
        multiply(*static_cast<const float*>(alpha), *static_cast<const float*>(beta));
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasSsyrk(cublasHandle_t handle, cublasFillMode_t half, cublasOperation_t op, int n, int k,
                                  const float* alpha, const float* a, int lda, const float* beta, float* c, int ldc) {
    return syrk(handle, half, op, n, k, alpha, a, lda, beta, c, ldc);
}

EXPORT cublasStatus_t cublasDsyrk(cublasHandle_t handle, cublasFillMode_t half, cublasOperation_t op, int n, int k,
                                  const double* alpha, const double* a, int lda, const double* beta, double* c,
                                  int ldc) {
    return syrk(handle, half, op, n, k, alpha, a, lda, beta, c, ldc);
}

EXPORT cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t half,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const float* alpha,
                                  const float* a, int lda, float* b, int ldb) {
    return trsm(handle, side, half, op, diagonal, m, n, alpha, a, lda, b, ldb);
}

EXPORT cublasStatus_t cublasDtrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t half,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const double* alpha,
                                  const double* a, int lda, double* b, int ldb) {
    return trsm(handle, side, half, op, diagonal, m, n, alpha, a, lda, b, ldb);
}

EXPORT cusolverStatus_t cusolverGetProperty(libraryPropertyType type, int* value) {
    *value = type == MAJOR_VERSION ? CUSOLVER_VER_MAJOR : 0;
    return CUSOLVER_STATUS_SUCCESS;
}

EXPORT cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
    *handle = new cusolverDnContext;
    return CUSOLVER_STATUS_SUCCESS;
}

EXPORT cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}

EXPORT cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

#define FACTORIZATION(letter, type, routine)                                                                           \
    EXPORT cusolverStatus_t cusolverDn##letter##routine##_bufferSize(cusolverDnHandle_t, cublasFillMode_t, int n,      \
                                                                     type*, int lda, int* size) {                      \
        return workspace_size(n, lda, size);                                                                           \
    }                                                                                                                  \
    EXPORT cusolverStatus_t cusolverDn##letter##routine(cusolverDnHandle_t handle, cublasFillMode_t half, int n,       \
                                                        type* a, int lda, type* workspace, int size, int* report) {    \
        return factorize(handle, half, n, a, lda, workspace, size, report, reference::routine<type>);                  \
    }

FACTORIZATION(S, float, potrf)
FACTORIZATION(D, double, potrf)
FACTORIZATION(S, float, potri)
FACTORIZATION(D, double, potri)
}
