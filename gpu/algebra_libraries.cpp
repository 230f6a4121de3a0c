#include "gpu/algebra_libraries.h"

#include <dlfcn.h>

#include "core/base/error.h"
#include "gpu/cuda.h"

#define QS_TEXT_OF(name) #name
#define QS_TEXT(name) QS_TEXT_OF(name)

namespace qs::cuda {

namespace {

std::vector<std::string> names_of(const std::string& library, const char* version) {
    const std::string folder = "/usr/local/cuda/lib64/", plain = library + ".so", versioned = plain + "." + version;
    return {versioned, plain, folder + versioned, folder + plain};
}

/// A shared library; stays loaded.
class Library {
public:
    Library(const std::string& name, const std::vector<std::string>& paths) : name_(name) {
        std::string first_reason;
        for (const std::string& path : paths) {
            handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
            if (handle_ != nullptr)
                return;
            if (first_reason.empty())
                first_reason = ::dlerror();
        }
        throw Error(name_, "cannot be loaded: " + first_reason, "install the CUDA toolkit's libraries");
    }

    template <class Function>
    void find(Function& function, const char* symbol) const {
        function = reinterpret_cast<Function>(::dlsym(handle_, symbol));
        if (function == nullptr)
            throw Error(name_, std::string("has no function ") + symbol);
    }

    /// "cuBLAS 13.1". Throws Error where the interface is not the one that was compiled against.
    template <class GetProperty>
    std::string version(const char* symbol, int major_wanted) const {
        GetProperty get_property = nullptr;
        find(get_property, symbol);
        int major = 0, minor = 0;
        QS_LIBRARY_CHECK(get_property(MAJOR_VERSION, &major));
        QS_LIBRARY_CHECK(get_property(MINOR_VERSION, &minor));
        if (major != major_wanted)
            throw Error(name_, "is of version " + std::to_string(major) + ", the program was built for version " +
                                   std::to_string(major_wanted));
        return name_ + " " + std::to_string(major) + "." + std::to_string(minor);
    }

private:
    std::string name_;
    void* handle_ = nullptr;
};

/// Of "libraries_.cublasCreate(&handle_)" the function is enough for a user.
std::string function_of(const std::string& call) {
    const std::string name = call.substr(0, call.find('('));
    const std::size_t dot = name.rfind('.');
    return dot == std::string::npos ? name : name.substr(dot + 1);
}

[[noreturn]] void fail(const char* library, const char* call, const std::string& status, bool out_of_memory) {
    const std::string what = function_of(call) + " failed: " + status;
    if (out_of_memory)
        throw OutOfMemory(library, what, "close other programs that use the GPU, or use --device cpu");
    throw Error(library, what, "use --device cpu if it happens again");
}

std::string name_of(cublasStatus_t status) {
    switch (status) {
#define QS_CASE(name)                                                                                                  \
    case name:                                                                                                         \
        return #name
        QS_CASE(CUBLAS_STATUS_NOT_INITIALIZED);
        QS_CASE(CUBLAS_STATUS_ALLOC_FAILED);
        QS_CASE(CUBLAS_STATUS_INVALID_VALUE);
        QS_CASE(CUBLAS_STATUS_ARCH_MISMATCH);
        QS_CASE(CUBLAS_STATUS_MAPPING_ERROR);
        QS_CASE(CUBLAS_STATUS_EXECUTION_FAILED);
        QS_CASE(CUBLAS_STATUS_INTERNAL_ERROR);
        QS_CASE(CUBLAS_STATUS_NOT_SUPPORTED);
        QS_CASE(CUBLAS_STATUS_LICENSE_ERROR);
    default:
        return "status " + std::to_string(static_cast<int>(status));
    }
}

std::string name_of(cusolverStatus_t status) {
    switch (status) {
        QS_CASE(CUSOLVER_STATUS_NOT_INITIALIZED);
        QS_CASE(CUSOLVER_STATUS_ALLOC_FAILED);
        QS_CASE(CUSOLVER_STATUS_INVALID_VALUE);
        QS_CASE(CUSOLVER_STATUS_ARCH_MISMATCH);
        QS_CASE(CUSOLVER_STATUS_MAPPING_ERROR);
        QS_CASE(CUSOLVER_STATUS_EXECUTION_FAILED);
        QS_CASE(CUSOLVER_STATUS_INTERNAL_ERROR);
        QS_CASE(CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED);
        QS_CASE(CUSOLVER_STATUS_NOT_SUPPORTED);
#undef QS_CASE
    default:
        return "status " + std::to_string(static_cast<int>(status));
    }
}

} // namespace

void check_library(cublasStatus_t status, const char* call) {
    if (status != CUBLAS_STATUS_SUCCESS)
        fail("cuBLAS", call, name_of(status), status == CUBLAS_STATUS_ALLOC_FAILED);
}

void check_library(cusolverStatus_t status, const char* call) {
    if (status != CUSOLVER_STATUS_SUCCESS)
        fail("cuSOLVER", call, name_of(status), status == CUSOLVER_STATUS_ALLOC_FAILED);
}

LibraryPaths toolkit_paths() {
    return {names_of("libcublas", QS_TEXT(CUBLAS_VER_MAJOR)), names_of("libcusolver", QS_TEXT(CUSOLVER_VER_MAJOR))};
}

AlgebraLibraries::AlgebraLibraries(const LibraryPaths& paths) {
    const Library blas("cuBLAS", paths.cublas), solver("cuSOLVER", paths.cusolver);
    versions = blas.version<decltype(&::cublasGetProperty)>("cublasGetProperty", CUBLAS_VER_MAJOR) + ", " +
               solver.version<decltype(&::cusolverGetProperty)>("cusolverGetProperty", CUSOLVER_VER_MAJOR);
#define QS_FIND(name) blas.find(name, QS_TEXT(name));
    QS_CUBLAS_FUNCTIONS(QS_FIND)
    QS_FIND(cublasGemmEx)
#undef QS_FIND
#define QS_FIND(name) solver.find(name, QS_TEXT(name));
    QS_CUSOLVER_FUNCTIONS(QS_FIND)
#undef QS_FIND
}

} // namespace qs::cuda
