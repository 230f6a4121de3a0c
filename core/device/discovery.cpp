#include <dlfcn.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/device/cpu_features.h"
#include "core/device/device_group.h"
#include "core/device/discovery.h"

namespace qs {

void Device::for_each(std::size_t count, const std::function<void(std::size_t)>& body) {
    for (std::size_t i = 0; i < count; ++i)
        body(i);
}

double Histogram::edge(std::size_t i) const {
    return low + (high - low) * static_cast<double>(i) / static_cast<double>(counts.size());
}

DeviceInfo no_cuda(const std::string& reason) {
    DeviceInfo info;
    info.id = "cuda";
    info.name = "NVIDIA GPU";
    info.kind = "cuda";
    info.reason = reason;
    return info;
}

namespace {

/// The CUDA module, or why there is none. Loaded once and never unloaded.
struct LoadedModule {
    const CudaModule* module = nullptr;
    std::string reason;
};

std::string last_loader_error() {
    const char* text = ::dlerror();
    return text == nullptr ? "unknown loader error" : text;
}

LoadedModule load_module(const std::filesystem::path& path) {
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr)
        return {nullptr, "the CUDA module cannot be loaded: " + last_loader_error()};
    using Entry = const CudaModule* (*)();
    const auto entry = reinterpret_cast<Entry>(::dlsym(handle, "quantoscope_cuda_module"));
    if (entry == nullptr)
        return {nullptr, path.string() + " is not Quantoscope's CUDA module"};
    const CudaModule* module = entry();
    if (module->abi != cuda_module_abi)
        return {nullptr, path.string() + " belongs to another version of Quantoscope; reinstall the program"};
    return {module, {}};
}

const LoadedModule& cuda_module() {
    static const LoadedModule loaded = [] {
        const auto here = executable_dir();
        for (const auto& folder : {here, here / "../lib/quantoscope", here / "../bin"}) {
            const auto path = folder / "quantoscope-cuda.so";
            if (std::filesystem::exists(path))
                return load_module(path);
        }
        return LoadedModule{nullptr, "the CUDA module (quantoscope-cuda.so) is not installed: the program was built "
                                     "without the CUDA toolkit"};
    }();
    return loaded;
}

std::vector<DeviceInfo> cuda_devices() {
    const LoadedModule& loaded = cuda_module();
    if (loaded.module == nullptr)
        return {no_cuda(loaded.reason)};
    return loaded.module->list();
}

/// The ordinal in `cuda:N`; throws Error for anything else.
int ordinal_of(const std::string& id) {
    const std::string digits = id.starts_with("cuda:") ? id.substr(5) : "";
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos)
        throw Error("device '" + id + "'", "is not known", "use auto, cpu, cuda or cuda:N");
    return std::stoi(digits);
}

std::unique_ptr<Device> make_cuda_device(const std::vector<DeviceInfo>& devices, const std::string& id) {
    const int ordinal = ordinal_of(id);
    const std::string wanted = "cuda:" + std::to_string(ordinal);
    const auto found = std::ranges::find(devices, wanted, &DeviceInfo::id);
    if (found != devices.end() && found->usable)
        return cuda_module().module->make(ordinal);
    const DeviceInfo& first = devices.front();
    const std::string reason = found != devices.end() ? found->reason
                               : !first.usable        ? first.reason
                                                      : "there is no GPU with this number";
    throw Error("device '" + id + "'", reason, "use --device cpu");
}

/// All usable GPUs.
std::unique_ptr<Device> make_all_cuda_devices(const std::vector<DeviceInfo>& devices) {
    std::vector<std::unique_ptr<Device>> members;
    for (const DeviceInfo& info : devices)
        if (info.usable)
            members.push_back(make_cuda_device(devices, info.id));
    if (members.empty())
        throw Error("device 'cuda'", devices.front().reason, "use --device cpu");
    return members.size() == 1 ? std::move(members.front()) : make_device_group(std::move(members));
}

} // namespace

std::vector<DeviceInfo> list_devices() {
    std::vector<DeviceInfo> devices{make_cpu_device()->info()};
    for (auto& info : cuda_devices())
        devices.push_back(std::move(info));
    return with_gpu_group(std::move(devices));
}

std::string default_device(const std::vector<DeviceInfo>& devices) {
    const auto gpu =
        std::ranges::find_if(devices, [](const DeviceInfo& info) { return info.kind != "cpu" && info.usable; });
    return gpu == devices.end() ? "cpu" : gpu->id;
}

std::string single_device(const std::vector<DeviceInfo>& devices, const std::string& id) {
    const std::string wanted = id == "auto" ? default_device(devices) : id;
    if (wanted != "cuda")
        return wanted;
    const auto gpu = std::ranges::find_if(
        devices, [](const DeviceInfo& info) { return info.kind == "cuda" && info.usable && info.members == 1; });
    return gpu == devices.end() ? wanted : gpu->id;
}

const DeviceInfo* counterpart(const std::vector<DeviceInfo>& devices, const std::string& id) {
    const auto own = std::ranges::find(devices, id, &DeviceInfo::id);
    const DeviceInfo* any = nullptr;
    for (const DeviceInfo& info : devices) {
        if (!info.usable || info.id == id)
            continue;
        if (own != devices.end() && info.kind != own->kind)
            return &info;
        any = any == nullptr ? &info : any;
    }
    return any;
}

std::unique_ptr<Device> make_device(const std::string& id, int threads) {
    if (id == "cpu")
        return make_cpu_device(threads);
    const auto gpus = cuda_devices();
    const std::string wanted = id == "auto" ? default_device(with_gpu_group(gpus)) : id;
    if (wanted == "cpu")
        return make_cpu_device(threads);
    return wanted == "cuda" ? make_all_cuda_devices(gpus) : make_cuda_device(gpus, wanted);
}

} // namespace qs
