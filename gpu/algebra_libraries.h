#pragma once

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <string>
#include <vector>

namespace qs::cuda {

/// Names or paths to try for each library, in this order.
struct LibraryPaths {
    std::vector<std::string> cublas, cusolver;
};

/// Where the toolkit's libraries are looked for: by the name of the version that the program was built with and by the
/// plain name, wherever the loader looks and then in the toolkit's usual folder.
LibraryPaths toolkit_paths();

// cublas_v2.h makes macros of some of these names, which give them their version.
#define QS_CUBLAS_FUNCTIONS(DO)                                                                                        \
    DO(cublasCreate)                                                                                                   \
    DO(cublasDestroy) DO(cublasSetStream) DO(cublasSsyrk) DO(cublasDsyrk) DO(cublasStrsm) DO(cublasDtrsm)
// clang-format off: one a line
#define QS_CUSOLVER_FUNCTIONS(DO)                                                                                      \
    DO(cusolverDnCreate)                                                                                               \
    DO(cusolverDnDestroy)                                                                                              \
    DO(cusolverDnSetStream)                                                                                            \
    DO(cusolverDnSpotrf_bufferSize)                                                                                    \
    DO(cusolverDnDpotrf_bufferSize)                                                                                    \
    DO(cusolverDnSpotrf)                                                                                               \
    DO(cusolverDnDpotrf)                                                                                               \
    DO(cusolverDnSpotri_bufferSize)                                                                                    \
    DO(cusolverDnDpotri_bufferSize)                                                                                    \
    DO(cusolverDnSpotri)                                                                                               \
    DO(cusolverDnDpotri)
// clang-format on

/// The functions of cuBLAS and cuSOLVER that are used, under their names. They are found when the program runs, because
/// a machine may have a driver and not the toolkit; the libraries are never unloaded.
struct AlgebraLibraries {
    /// Throws Error telling which library or function is missing.
    explicit AlgebraLibraries(const LibraryPaths& paths);

    std::string versions; ///< "cuBLAS 13.1, cuSOLVER 12.0"

#define QS_DECLARE(name) decltype(&::name) name;
    QS_CUBLAS_FUNCTIONS(QS_DECLARE)
    QS_CUSOLVER_FUNCTIONS(QS_DECLARE)
#undef QS_DECLARE
    // The header overloads this one.
    cublasStatus_t (*cublasGemmEx)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                   const void* alpha, const void* a, cudaDataType, int lda, const void* b, cudaDataType,
                                   int ldb, const void* beta, void* c, cudaDataType, int ldc, cublasComputeType_t,
                                   cublasGemmAlgo_t);
};

/// Throws Error with the name that the library gives the status; OutOfMemory where it says so.
void check_library(cublasStatus_t status, const char* call);
void check_library(cusolverStatus_t status, const char* call);

} // namespace qs::cuda

/// Every call of cuBLAS and cuSOLVER goes through this: throws qs::Error where the call fails.
#define QS_LIBRARY_CHECK(call) ::qs::cuda::check_library((call), #call)
