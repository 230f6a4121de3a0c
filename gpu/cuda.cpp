#include "gpu/cuda.h"

namespace qs::cuda {

void fail(cudaError_t status, const char* call) {
    // "cudaMalloc(&data_, bytes)" says too much to a user: the function is enough.
    const std::string text = call;
    const std::string function = text.substr(0, text.find('('));
    const std::string what = function + " failed: " + cudaGetErrorString(status);
    if (status != cudaErrorMemoryAllocation)
        throw Error("CUDA", what, "use --device cpu if it happens again");
    // The runtime would report it once more to the next one who asks whether a launch went well.
    static_cast<void>(cudaGetLastError());
    throw OutOfMemory("CUDA", what, "close other programs that use the GPU, or use --device cpu");
}

} // namespace qs::cuda
