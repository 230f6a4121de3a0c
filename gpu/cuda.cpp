#include "gpu/cuda.h"

namespace qs::cuda {

namespace {

/// Whether nothing works on the device after this, in this process.
bool loses_device(cudaError_t status) {
    switch (status) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorSystemNotReady:
    case cudaErrorUnknown:
        return true;
    default:
        return false;
    }
}

} // namespace

void fail(cudaError_t status, const char* call) {
    // The runtime would give the error again to whoever asks next.
    static_cast<void>(cudaGetLastError());
    // "cudaMalloc(&data_, bytes)" says too much to a user: the function is enough.
    const std::string text = call;
    const std::string reason = text.substr(0, text.find('(')) + " failed: " + cudaGetErrorString(status);
    if (status == cudaErrorMemoryAllocation)
        throw OutOfMemory("CUDA", reason, "close other programs that use the GPU, or use --device cpu");
    if (loses_device(status))
        throw DeviceLost("CUDA", reason, "use --device cpu if it happens again");
    throw Error("CUDA", reason, "use --device cpu if it happens again");
}

} // namespace qs::cuda
