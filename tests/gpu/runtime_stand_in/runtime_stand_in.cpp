#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

namespace emulated {

struct Stream {
    std::deque<std::function<void()>> queue;
};

namespace {

std::mutex mutex;
std::map<void*, std::size_t> allocations;
std::size_t used = 0;
cudaError_t last = cudaSuccess;

std::size_t memory() {
    const char* text = std::getenv("QUANTOSCOPE_EMULATED_MEMORY");
    return text == nullptr || *text == '\0' ? std::size_t{1} << 30 : std::strtoull(text, nullptr, 10);
}

void enqueue(Stream* stream, std::function<void()> work) {
    const std::lock_guard lock(mutex);
    stream->queue.push_back(std::move(work));
}

void run(Stream* stream) {
    const std::lock_guard lock(mutex);
    for (; !stream->queue.empty(); stream->queue.pop_front())
        stream->queue.front()();
}

} // namespace

cudaError_t enqueue_host_function(Stream* stream, std::function<void()> function) {
    enqueue(stream, std::move(function));
    return cudaSuccess;
}

} // namespace emulated

using namespace emulated;

const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaErrorMemoryAllocation ? "out of memory" : "an emulated error";
}

cudaError_t cudaGetLastError() {
    const cudaError_t status = last;
    last = cudaSuccess;
    return status;
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    const std::lock_guard lock(mutex);
    *data = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (used + bytes > memory())
        return last = cudaErrorMemoryAllocation;
    *data = std::malloc(bytes);
    // What nobody has written is anything but zeros.
    std::memset(*data, 0xA5, bytes);
    allocations[*data] = bytes;
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
    const std::lock_guard lock(mutex);
    if (data == nullptr)
        return cudaSuccess;
    const auto found = allocations.find(data);
    if (found == allocations.end())
        std::abort();
    std::memset(data, 0xA5, found->second);
    used -= found->second;
    allocations.erase(found);
    std::free(data);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t stream) {
    enqueue(stream, [=] {
        for (std::size_t row = 0; row < height; ++row)
            std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch,
                        width);
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
    enqueue(stream, [=] { std::memset(data, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new Stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    run(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    run(stream);
    return cudaSuccess;
}
