#include "gpu/cuda.h"

#include "core/base/error.h"

namespace qs::cuda {

void fail(cudaError_t status, const char* call) {
    // "cudaMalloc(&data_, bytes)" says too much to a user: the function is enough.
    const std::string text = call;
    const std::string function = text.substr(0, text.find('('));
    const std::string remedy = status == cudaErrorMemoryAllocation
                                   ? "close other programs that use the GPU, or use --device cpu"
                                   : "use --device cpu if it happens again";
    throw Error("CUDA", function + " failed: " + cudaGetErrorString(status), remedy);
}

} // namespace qs::cuda
