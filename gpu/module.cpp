#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "core/device/discovery.h"
#include "gpu/cuda.h"
#include "gpu/device.h"

namespace qs::cuda {

namespace {

/// "13.0" of CUDA's 13000.
std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// Why the runtime finds no device at all.
std::string reason_of(cudaError_t status) {
    int driver = 0;
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    if (!has_driver)
        return "no NVIDIA driver is installed";
    if (status == cudaErrorInsufficientDriver)
        return "the NVIDIA driver is too old: it is for CUDA " + version_text(driver) + ", the program needs " +
               version_text(CUDART_VERSION);
    if (status == cudaErrorNoDevice || status == cudaSuccess)
        return "the NVIDIA driver finds no GPU";
    return std::string("the NVIDIA driver reports: ") + cudaGetErrorString(status);
}

std::string reason_against(const cudaDeviceProp& properties, int mode) {
    constexpr int oldest = QUANTOSCOPE_CUDA_OLDEST_ARCHITECTURE;
    if (properties.major * 10 + properties.minor < oldest)
        return "the GPU is older than compute capability " + std::to_string(oldest / 10) + "." +
               std::to_string(oldest % 10) + ", the oldest that the program is built for";
    if (mode == cudaComputeModeProhibited)
        return "the GPU is in the compute mode 'prohibited'";
    return {};
}

DeviceInfo describe(int ordinal) {
    DeviceInfo info = no_cuda({});
    info.id = "cuda:" + std::to_string(ordinal);
    cudaDeviceProp properties{};
    int mode = cudaComputeModeDefault;
    cudaError_t status = cudaGetDeviceProperties(&properties, ordinal);
    if (status == cudaSuccess)
        status = cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, ordinal);
    if (status != cudaSuccess) {
        info.reason = std::string("the GPU does not answer: ") + cudaGetErrorString(status);
        return info;
    }
    info.name = properties.name;
    info.memory_bytes = properties.totalGlobalMem;
    info.compute_capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
    info.reason = reason_against(properties, mode);
    info.usable = info.reason.empty();
    return info;
}

std::vector<DeviceInfo> list() {
    int count = 0;
    if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0)
        return {no_cuda(reason_of(status))};
    std::vector<DeviceInfo> devices;
    for (int ordinal = 0; ordinal < count; ++ordinal)
        devices.push_back(describe(ordinal));
    return devices;
}

std::unique_ptr<Device> make(int ordinal) {
    const std::string id = "cuda:" + std::to_string(ordinal);
    const auto devices = list();
    for (const DeviceInfo& info : devices)
        if (info.id == id && info.usable)
            return make_cuda_device(ordinal, info);
        else if (info.id == id)
            throw Error("device '" + id + "'", info.reason, "use --device cpu");
    const bool none = devices.front().id == "cuda";
    throw Error("device '" + id + "'", none ? devices.front().reason : "there is no GPU with this number",
                "use --device cpu");
}

} // namespace

} // namespace qs::cuda

/// The one entry point of the module (core/device/device.h).
extern "C" __attribute__((visibility("default"))) const qs::CudaModule* quantoscope_cuda_module() {
    static constexpr qs::CudaModule module{qs::cuda_module_abi, &qs::cuda::list, &qs::cuda::make};
    return &module;
}
