#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace qs::cuda {

/// There is not enough memory on the device, or not enough that can be page-locked.
class OutOfMemory : public Error {
public:
    using Error::Error;
};

/// The device has stopped working, is taken by another process, or cannot run the program's kernels.
class DeviceLost : public Error {
public:
    using Error::Error;
};

/// Throws Error telling which call failed and why.
[[noreturn]] void fail(cudaError_t status, const char* call);

} // namespace qs::cuda

/// Every call of the CUDA runtime goes through this: throws qs::Error where the call fails.
#define QS_CUDA_CHECK(call)                                                                                            \
    do {                                                                                                               \
        if (const cudaError_t qs_status = (call); qs_status != cudaSuccess)                                            \
            ::qs::cuda::fail(qs_status, #call);                                                                        \
    } while (false)

namespace qs::cuda {

/// Makes a device current for the calling thread while it lives.
class CurrentDevice {
public:
    explicit CurrentDevice(int ordinal) {
        QS_CUDA_CHECK(cudaGetDevice(&before_));
        QS_CUDA_CHECK(cudaSetDevice(ordinal));
    }
    ~CurrentDevice() { static_cast<void>(cudaSetDevice(before_)); }
    CurrentDevice(const CurrentDevice&) = delete;
    CurrentDevice& operator=(const CurrentDevice&) = delete;

private:
    int before_ = 0;
};

/// Device memory that grows when more is asked for and is kept until destruction. Its contents do not survive growth.
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    ~DeviceBuffer() { static_cast<void>(cudaFree(data_)); }
    DeviceBuffer(DeviceBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    /// At least `bytes` of memory; throws OutOfMemory when the device has none left.
    void* reserve(std::size_t bytes) {
        if (bytes > size_) {
            clear();
            QS_CUDA_CHECK(cudaMalloc(&data_, bytes));
            size_ = bytes;
        }
        return data_;
    }
    /// Room for `count` values of T.
    template <class T>
    T* reserve_for(std::size_t count) {
        return static_cast<T*>(reserve(count * sizeof(T)));
    }
    void clear() {
        static_cast<void>(cudaFree(std::exchange(data_, nullptr)));
        size_ = 0;
    }

    std::size_t size() const { return size_; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Page-locked host memory, which the device reads and writes while the host goes on. Grows like DeviceBuffer.
class PinnedBuffer {
public:
    PinnedBuffer() = default;
    ~PinnedBuffer() { static_cast<void>(cudaFreeHost(data_)); }
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;

    std::byte* reserve(std::size_t bytes) {
        if (bytes > size_) {
            clear();
            QS_CUDA_CHECK(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault));
            size_ = bytes;
        }
        return static_cast<std::byte*>(data_);
    }
    std::byte* data() const { return static_cast<std::byte*>(data_); }
    void clear() {
        static_cast<void>(cudaFreeHost(std::exchange(data_, nullptr)));
        size_ = 0;
    }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// A queue of work of the current device.
class Stream {
public:
    Stream() { QS_CUDA_CHECK(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }
    ~Stream() { static_cast<void>(cudaStreamDestroy(handle_)); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    operator cudaStream_t() const { return handle_; }
    void synchronize() const { QS_CUDA_CHECK(cudaStreamSynchronize(handle_)); }

private:
    cudaStream_t handle_ = nullptr;
};

/// A point in a stream that another stream, or the host, can wait for.
class Event {
public:
    /// With `timing`, seconds_since() can be asked.
    explicit Event(bool timing = false) {
        QS_CUDA_CHECK(cudaEventCreateWithFlags(&handle_, timing ? cudaEventDefault : cudaEventDisableTiming));
    }
    ~Event() { static_cast<void>(cudaEventDestroy(handle_)); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(cudaStream_t stream) const { QS_CUDA_CHECK(cudaEventRecord(handle_, stream)); }
    void make_wait(cudaStream_t stream) const { QS_CUDA_CHECK(cudaStreamWaitEvent(stream, handle_, 0)); }
    void synchronize() const { QS_CUDA_CHECK(cudaEventSynchronize(handle_)); }
    double seconds_since(const Event& start) const {
        float milliseconds = 0;
        QS_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start.handle_, handle_));
        return 1e-3 * static_cast<double>(milliseconds);
    }

private:
    cudaEvent_t handle_ = nullptr;
};

/// Work that was recorded.
class Graph {
public:
    explicit Graph(cudaGraph_t handle) : handle_(handle) {}
    ~Graph() { static_cast<void>(cudaGraphDestroy(handle_)); }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    operator cudaGraph_t() const { return handle_; }

private:
    cudaGraph_t handle_;
};

/// Recorded work, ready to be enqueued as one.
class GraphExec {
public:
    explicit GraphExec(const Graph& graph) { QS_CUDA_CHECK(cudaGraphInstantiate(&handle_, graph, 0)); }
    ~GraphExec() { static_cast<void>(cudaGraphExecDestroy(handle_)); }
    GraphExec(const GraphExec&) = delete;
    GraphExec& operator=(const GraphExec&) = delete;

    void launch(cudaStream_t stream) const { QS_CUDA_CHECK(cudaGraphLaunch(handle_, stream)); }

private:
    cudaGraphExec_t handle_ = nullptr;
};

/// While it lives, what the calling thread enqueues into a stream is recorded and not done. Neither may memory be
/// allocated meanwhile nor anything waited for.
class Capture {
public:
    explicit Capture(cudaStream_t stream) : stream_(stream) {
        QS_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    }
    /// Without finish(): something failed, and what was recorded is dropped.
    ~Capture() {
        cudaGraph_t dropped = nullptr;
        if (stream_ != nullptr && cudaStreamEndCapture(stream_, &dropped) == cudaSuccess)
            static_cast<void>(cudaGraphDestroy(dropped));
        if (stream_ != nullptr)
            static_cast<void>(cudaGetLastError());
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    Graph finish() {
        cudaGraph_t graph = nullptr;
        QS_CUDA_CHECK(cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph));
        return Graph(graph);
    }

private:
    cudaStream_t stream_; ///< null once it records no more
};

/// Waits for a stream when the scope is left, by whatever way, so that nothing still uses the buffers of a call that
/// was cancelled or failed.
class Drain {
public:
    explicit Drain(cudaStream_t stream) : stream_(stream) {}
    ~Drain() { static_cast<void>(cudaStreamSynchronize(stream_)); }
    Drain(const Drain&) = delete;
    Drain& operator=(const Drain&) = delete;

private:
    cudaStream_t stream_;
};

} // namespace qs::cuda
