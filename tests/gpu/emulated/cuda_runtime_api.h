#pragma once

// The part of the CUDA runtime that gpu/ uses, on the CPU: gpu/'s sources compile against this header with the C++
// compiler, and their kernels run on fibers, thread by thread, so that what they compute is tested where there is no
// GPU. "Device" memory is host memory, the end of each allocation lying against a page that nobody may touch.
//
// Streams are lazy: what is enqueued runs when somebody waits for it and no sooner, so that code which forgets to wait,
// or reuses a buffer too soon, gives wrong results here.
//
// The environment can make it fail, as a test wants it (read at each call):
//   QUANTOSCOPE_EMULATED_GPUS        how many there are (1)
//   QUANTOSCOPE_EMULATED_CAPABILITY  their compute capability, e.g. 61 (90)
//   QUANTOSCOPE_EMULATED_MEMORY      bytes of memory of each (2³⁰)
//   QUANTOSCOPE_EMULATED_PINNED      bytes that can be page-locked (unlimited)
//   QUANTOSCOPE_EMULATED_STATUS      the number of the cudaError_t that every enumeration gives
//   QUANTOSCOPE_EMULATED_DRIVER      the version of the driver, 0 for none (13000)
//   QUANTOSCOPE_EMULATED_LOST        after how many more launches the device is lost
//   QUANTOSCOPE_EMULATED_CAPTURE     how many operations a capture takes before one fails for want of memory
//   (unlimited)

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>

#define CUDART_VERSION 13000
#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __builtin_assume(condition) static_cast<void>(0)
// A thread block runs on one thread of the CPU. With `extern` this is the dynamic shared memory.
#define __shared__ thread_local

using std::isfinite;
using std::isinf;
using std::isnan;

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};

// --- The host's side -----------------------------------------------------------------------------------------------

enum cudaError_t : int {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorECCUncorrectable = 214,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchTimeout = 702,
    cudaErrorLaunchFailure = 719,
    cudaErrorSystemNotReady = 802,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorUnknown = 999
};
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaComputeMode { cudaComputeModeDefault, cudaComputeModeExclusive, cudaComputeModeProhibited };
enum cudaDeviceAttr { cudaDevAttrComputeMode = 20 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };

inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2,
                          cudaHostAllocDefault = 0;

struct cudaDeviceProp {
    char name[256];
    std::size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
};

namespace emulated {
struct Stream;
struct Event;
struct Graph;
/// A kernel with its arguments, for one thread of one block.
using Kernel = std::function<void()>;
cudaError_t enqueue_kernel(dim3 grid, dim3 block, std::size_t shared, Stream* stream, Kernel kernel);
cudaError_t enqueue_host_function(Stream* stream, std::function<void()> function);
} // namespace emulated

/// Writes how often, since the program began, a kernel was launched by itself, a graph was launched, and the host
/// waited for the device.
extern "C" void quantoscope_emulated_counts(unsigned long long* launches, unsigned long long* graphs,
                                            unsigned long long* waits);

using cudaStream_t = emulated::Stream*;
using cudaEvent_t = emulated::Event*;
using cudaGraph_t = emulated::Graph*;
using cudaGraphExec_t = emulated::Graph*;

struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    cudaLaunchAttribute* attrs = nullptr;
    unsigned numAttrs = 0;
};

const char* cudaGetErrorString(cudaError_t status);
const char* cudaGetErrorName(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceReset();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

template <class Function>
cudaError_t cudaFuncSetAttribute(Function*, cudaFuncAttribute, int) {
    return cudaSuccess;
}
template <class Function>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int, std::size_t) {
    *blocks = 2;
    return cudaSuccess;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    return emulated::enqueue_kernel(
        config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream,
        [kernel, values = std::tuple<std::remove_cv_t<Parameters>...>(arguments...)] { std::apply(kernel, values); });
}

// --- The kernels' side ---------------------------------------------------------------------------------------------

/// Of the thread that is running.
extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

namespace emulated {
/// What shuffles and votes are made of: every lane of `mask` hands over a word; when all have, `take` of the lane that
/// came last makes each lane's result, which is returned.
using Exchange = void (*)(unsigned mask, const unsigned* words, const unsigned* arguments, unsigned* results);
unsigned exchange(unsigned mask, unsigned word, unsigned argument, Exchange take);
void wait_for_block();
unsigned shuffle(unsigned mask, unsigned word, unsigned source_lane);
} // namespace emulated

inline void __syncthreads() {
    emulated::wait_for_block();
}
void __syncwarp(unsigned mask = 0xffffffffU);
unsigned __ballot_sync(unsigned mask, int predicate);
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask ? 1 : 0;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    static_assert(sizeof(T) == 4);
    const unsigned own = threadIdx.x % 32, first = own / static_cast<unsigned>(width) * static_cast<unsigned>(width);
    unsigned word = 0;
    __builtin_memcpy(&word, &value, 4);
    word = emulated::shuffle(mask, word, first + static_cast<unsigned>(lane) % static_cast<unsigned>(width));
    __builtin_memcpy(&value, &word, 4);
    return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned own = threadIdx.x % 32 % static_cast<unsigned>(width);
    const unsigned source = own + delta < static_cast<unsigned>(width) ? own + delta : own;
    return __shfl_sync(mask, value, static_cast<int>(source), width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    const unsigned own = threadIdx.x % 32 % static_cast<unsigned>(width);
    return __shfl_sync(mask, value, static_cast<int>(own ^ static_cast<unsigned>(lanes)), width);
}

template <class T>
T atomicAdd(T* address, T value) {
    const T before = *address;
    *address += value;
    return before;
}
template <class T>
T atomicMax(T* address, T value) {
    const T before = *address;
    *address = before < value ? value : before;
    return before;
}
template <class T>
T __ldcs(const T* address) {
    return *address;
}
template <class T>
T __ldg(const T* address) {
    return *address;
}
inline double __fma_rn(double a, double b, double c) {
    return std::fma(a, b, c);
}
inline float __fmaf_rn(float a, float b, float c) {
    return std::fma(a, b, c);
}
inline float __double2float_rn(double value) {
    return static_cast<float>(value);
}
inline double __longlong_as_double(long long bits) {
    double value;
    __builtin_memcpy(&value, &bits, 8);
    return value;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const unsigned long long bytes = static_cast<unsigned long long>(b) << 32 | a;
    unsigned result = 0;
    for (unsigned i = 0; i < 4; ++i)
        result |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7U)) & 255U) << (8 * i);
    return result;
}
inline int __popc(unsigned word) {
    return __builtin_popcount(word);
}
inline int __ffs(int word) {
    return __builtin_ffs(word);
}
