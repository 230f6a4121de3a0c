#include <cuda_runtime_api.h>

#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace qs::cuda {
/// The dynamic shared memory of the block that runs (gpu/launch.cuh).
thread_local unsigned shared[48 * 1024 / 4];
} // namespace qs::cuda

namespace emulated {

namespace {

/// Ends the program: what has happened is a bug of a kernel that a GPU might hide.
[[noreturn]] void bug(const char* what) {
    std::fprintf(stderr, "emulated GPU: %s\n", what);
    std::abort();
}

long long setting(const char* name, long long otherwise) {
    const char* text = std::getenv((std::string("QUANTOSCOPE_EMULATED_") + name).c_str());
    return text == nullptr || *text == '\0' ? otherwise : std::atoll(text);
}

// --- Threads -------------------------------------------------------------------------------------------------------

constexpr unsigned warp_size = 32, most_threads = 1024;

/// One thread of a block, on a fiber that is used again for the next block.
struct Thread {
    boost::context::fiber fiber;
    bool done = true, at_block_barrier = false;
    unsigned waiting_mask = 0; ///< in an exchange, until all of these lanes are
    unsigned word = 0, argument = 0, result = 0;

    bool runnable() const { return !done && !at_block_barrier && waiting_mask == 0; }
};

struct Team {
    std::vector<Thread> threads{most_threads};
    boost::context::fiber scheduler;
    const Kernel* kernel = nullptr;
    unsigned current = 0, size = 0;

    Thread& self() { return threads[current]; }

    /// Gives the CPU back to the scheduler until the thread may go on.
    void suspend() { scheduler = std::move(scheduler).resume(); }

    void start_fiber(unsigned index) {
        constexpr std::size_t stack = 256 << 10;
        threads[index].fiber = boost::context::fiber(std::allocator_arg, boost::context::fixedsize_stack(stack),
                                                     [this, index](boost::context::fiber&& caller) {
                                                         scheduler = std::move(caller);
                                                         for (;;) {
                                                             (*kernel)();
                                                             threads[index].done = true;
                                                             suspend();
                                                         }
                                                         return std::move(scheduler);
                                                     });
    }

    void resume(unsigned index) {
        current = index;
        Thread& thread = threads[index];
        if (!thread.fiber)
            start_fiber(index);
        threadIdx = {index, 0, 0};
        boost::context::fiber back = std::move(thread.fiber).resume();
        thread.fiber = std::move(back);
    }

    /// Runs every thread as far as it gets. The order changes from round to round, as it may on a GPU.
    bool round(bool backwards) {
        bool ran = false;
        for (unsigned i = 0; i < size; ++i) {
            const unsigned index = backwards ? size - 1 - i : i;
            while (threads[index].runnable()) {
                ran = true;
                resume(index);
            }
        }
        return ran;
    }

    bool release_block_barrier() {
        unsigned waiting = 0, done = 0;
        for (unsigned i = 0; i < size; ++i) {
            waiting += threads[i].at_block_barrier ? 1 : 0;
            done += threads[i].done ? 1 : 0;
        }
        if (waiting == 0 || waiting + done != size)
            return false;
        if (done != 0)
            bug("some threads of a block have ended while others wait for all in __syncthreads()");
        for (unsigned i = 0; i < size; ++i)
            threads[i].at_block_barrier = false;
        return true;
    }

    void run_block(const Kernel& body, dim3 grid, dim3 block, unsigned number) {
        kernel = &body;
        size = block.x;
        for (unsigned i = 0; i < size; ++i)
            threads[i].done = false;
        blockIdx = {number % grid.x, number / grid.x, 0};
        blockDim = block;
        gridDim = grid;
        for (bool backwards = number % 2 == 1;; backwards = !backwards)
            if (!round(backwards) && !release_block_barrier())
                break;
        for (unsigned i = 0; i < size; ++i)
            if (!threads[i].done)
                bug("threads wait for each other for ever: lanes of a mask are missing, or a barrier is divergent");
    }
};

thread_local Team team;

} // namespace

void wait_for_block() {
    team.self().at_block_barrier = true;
    team.suspend();
}

unsigned exchange(unsigned mask, unsigned word, unsigned argument, Exchange take) {
    const unsigned own = team.current, first = own / warp_size * warp_size;
    if ((mask >> (own - first) & 1U) == 0)
        bug("a lane is not in the mask that it names");
    Thread& self = team.self();
    self.word = word;
    self.argument = argument;
    self.waiting_mask = mask;
    for (unsigned lane = 0; lane < warp_size; ++lane)
        if ((mask >> lane & 1U) != 0 && team.threads[first + lane].waiting_mask != mask) {
            if (first + lane >= team.size)
                bug("a mask names lanes that the block does not have");
            team.suspend();
            return team.self().result;
        }
    unsigned words[warp_size], arguments[warp_size], results[warp_size];
    for (unsigned lane = 0; lane < warp_size; ++lane) {
        words[lane] = team.threads[first + lane].word;
        arguments[lane] = team.threads[first + lane].argument;
    }
    take(mask, words, arguments, results);
    for (unsigned lane = 0; lane < warp_size; ++lane)
        if ((mask >> lane & 1U) != 0) {
            team.threads[first + lane].result = results[lane];
            team.threads[first + lane].waiting_mask = 0;
        }
    return self.result;
}

unsigned shuffle(unsigned mask, unsigned word, unsigned source_lane) {
    return exchange(mask, word, source_lane,
                    [](unsigned of, const unsigned* words, const unsigned* sources, unsigned* results) {
                        for (unsigned lane = 0; lane < warp_size; ++lane) {
                            if ((of >> lane & 1U) == 0)
                                continue;
                            if ((of >> sources[lane] & 1U) == 0)
                                bug("a lane reads from one that is not in the mask");
                            results[lane] = words[sources[lane]];
                        }
                    });
}

} // namespace emulated

void __syncwarp(unsigned mask) {
    emulated::exchange(mask, 0, 0, [](unsigned, const unsigned*, const unsigned*, unsigned* results) {
        std::fill_n(results, 32, 0U);
    });
}

unsigned __ballot_sync(unsigned mask, int predicate) {
    return emulated::exchange(mask, predicate != 0 ? 1 : 0, 0,
                              [](unsigned of, const unsigned* words, const unsigned*, unsigned* results) {
                                  unsigned votes = 0;
                                  for (unsigned lane = 0; lane < 32; ++lane)
                                      votes |= (of >> lane & 1U & words[lane]) << lane;
                                  std::fill_n(results, 32, votes);
                              });
}

namespace emulated {

// --- Streams -------------------------------------------------------------------------------------------------------

using Work = std::function<void()>;

struct Graph {
    std::vector<Work> work;
    bool invalid = false; ///< as something happened during its capture that must not
};

/// Work in order; `enqueued` and `run` count it.
struct Stream {
    std::deque<Work> queue;
    std::uint64_t enqueued = 0, run = 0;
    std::unique_ptr<Graph> capture;

    /// What the next operation gives.
    cudaError_t admit() {
        const long long limit = setting("CAPTURE", -1);
        if (!capture)
            return cudaSuccess;
        if (capture->invalid)
            return cudaErrorStreamCaptureInvalidated;
        return limit >= 0 && capture->work.size() >= static_cast<std::size_t>(limit) ? cudaErrorMemoryAllocation
                                                                                     : cudaSuccess;
    }
    void add(Work work) {
        if (capture) {
            capture->work.push_back(std::move(work));
            return;
        }
        queue.push_back(std::move(work));
        ++enqueued;
    }
    void run_to(std::uint64_t position) {
        while (run < position) {
            const Work work = std::move(queue.front());
            queue.pop_front();
            ++run;
            work();
        }
    }
};

struct Event {
    Stream* stream = nullptr;
    std::uint64_t position = 0;
    std::shared_ptr<std::chrono::steady_clock::time_point> reached =
        std::make_shared<std::chrono::steady_clock::time_point>();
};

namespace {

/// Memory that ends where a page begins that must not be touched.
struct Allocation {
    void* mapping;
    std::size_t mapped, bytes;
    int device; ///< −1: page-locked host memory
};

/// The state of the "driver". One lock around all of it: calls come from several threads.
struct Driver {
    std::recursive_mutex mutex;
    std::map<std::uintptr_t, Allocation> allocations;
    std::map<int, std::size_t> used;
    std::size_t pinned = 0;
    Stream default_stream;
    long long launches = 0;
    unsigned long long kernels = 0, graphs = 0, waits = 0; ///< that were launched, and of the host
    bool lost = false;
    cudaError_t last = cudaSuccess;

    const Allocation* find(const void* address) const {
        auto next = allocations.upper_bound(reinterpret_cast<std::uintptr_t>(address));
        if (next == allocations.begin())
            return nullptr;
        --next;
        return reinterpret_cast<std::uintptr_t>(address) < next->first + next->second.bytes ? &next->second : nullptr;
    }
};

Driver& driver() {
    static Driver instance;
    return instance;
}
thread_local int current_device = 0;
thread_local Stream* capturing = nullptr; ///< the stream that this thread captures

#define LOCKED const std::lock_guard lock(driver().mutex)

cudaError_t noted(cudaError_t status) {
    if (status != cudaSuccess)
        driver().last = status;
    return status;
}

int device_count() {
    return static_cast<int>(setting("GPUS", 1));
}

std::size_t total_memory() {
    return static_cast<std::size_t>(setting("MEMORY", 1LL << 30));
}

cudaError_t allocate(void** data, std::size_t bytes, int device) {
    constexpr std::size_t granule = 16;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t rounded = (bytes + granule - 1) / granule * granule, pages = (rounded + page - 1) / page * page;
    void* mapping = ::mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        return noted(cudaErrorMemoryAllocation);
    ::mprotect(static_cast<char*>(mapping) + pages, page, PROT_NONE);
    *data = static_cast<char*>(mapping) + pages - rounded;
    // What nobody has written is anything but zeros.
    std::memset(*data, 0xA5, rounded);
    driver().allocations[reinterpret_cast<std::uintptr_t>(*data)] = {mapping, pages + page, bytes, device};
    return cudaSuccess;
}

void release(void* data) {
    const auto found = driver().allocations.find(reinterpret_cast<std::uintptr_t>(data));
    if (found == driver().allocations.end())
        bug("memory is freed that was not allocated");
    ::munmap(found->second.mapping, found->second.mapped);
    driver().allocations.erase(found);
}

Stream& stream_or_default(Stream* stream) {
    return stream == nullptr ? driver().default_stream : *stream;
}

cudaError_t state() {
    return driver().lost ? noted(cudaErrorLaunchFailure) : cudaSuccess;
}

/// What adding to the stream gives.
cudaError_t state_of(Stream* stream) {
    const cudaError_t status = state();
    return status == cudaSuccess ? noted(stream_or_default(stream).admit()) : status;
}

/// What a call gives that a thread must not make while it captures: such a call also spoils the capture.
cudaError_t state_outside_capture() {
    if (capturing == nullptr)
        return state();
    capturing->capture->invalid = true;
    return noted(cudaErrorStreamCaptureUnsupported);
}

/// Both ends must belong to one allocation.
void check_inside(const void* data, std::size_t bytes, bool on_device) {
    if (bytes == 0)
        return;
    const Allocation* first = driver().find(data);
    const Allocation* last = driver().find(static_cast<const char*>(data) + bytes - 1);
    if (on_device && (first == nullptr || first->device < 0 || first != last))
        bug("a copy or a fill goes beyond device memory");
}

} // namespace

cudaError_t enqueue_kernel(dim3 grid, dim3 block, std::size_t bytes, Stream* stream, Kernel kernel) {
    LOCKED;
    const long long limit = setting("LOST", -1);
    if (limit >= 0 && driver().launches++ >= limit)
        driver().lost = true;
    if (const cudaError_t status = state_of(stream); status != cudaSuccess)
        return status;
    if (grid.x == 0 || block.x == 0 || block.x > most_threads || bytes > sizeof qs::cuda::shared)
        return noted(cudaErrorInvalidValue);
    driver().kernels += stream_or_default(stream).capture ? 0 : 1;
    stream_or_default(stream).add([=, kernel = std::move(kernel)] {
        for (unsigned number = 0; number < grid.x * grid.y; ++number) {
            std::memset(qs::cuda::shared, 0xA5, bytes);
            team.run_block(kernel, grid, block, number);
        }
    });
    return cudaSuccess;
}

cudaError_t enqueue_host_function(Stream* stream, std::function<void()> function) {
    LOCKED;
    if (const cudaError_t status = state(); status != cudaSuccess)
        return status;
    stream_or_default(stream).add(std::move(function));
    return cudaSuccess;
}

} // namespace emulated

using namespace emulated;

// --- The runtime's functions -----------------------------------------------------------------------------------------

void quantoscope_emulated_counts(unsigned long long* launches, unsigned long long* graphs, unsigned long long* waits) {
    LOCKED;
    *launches = driver().kernels;
    *graphs = driver().graphs;
    *waits = driver().waits;
}

const char* cudaGetErrorString(cudaError_t status) {
    switch (status) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorDevicesUnavailable:
        return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    default:
        return "an emulated error";
    }
}

const char* cudaGetErrorName(cudaError_t status) {
    return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

cudaError_t cudaGetLastError() {
    LOCKED;
    return std::exchange(driver().last, cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
    LOCKED;
    *count = device_count();
    if (const long long status = setting("STATUS", 0); status != 0)
        return static_cast<cudaError_t>(status);
    return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= device_count())
        return cudaErrorInvalidDevice;
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceReset() {
    LOCKED;
    driver().lost = false;
    driver().launches = 0;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = static_cast<int>(setting("DRIVER", 13000));
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::memset(properties, 0, sizeof *properties);
    std::strcpy(properties->name, "emulated GPU");
    properties->totalGlobalMem = total_memory();
    const auto capability = static_cast<int>(setting("CAPABILITY", 90));
    properties->major = capability / 10;
    properties->minor = capability % 10;
    properties->multiProcessorCount = 2;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = cudaComputeModeDefault;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    LOCKED;
    *total = total_memory();
    const std::size_t used = driver().used[current_device];
    *free = used < *total ? *total - used : 0;
    return state();
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    LOCKED;
    *data = nullptr;
    if (const cudaError_t status = state_outside_capture(); status != cudaSuccess || bytes == 0)
        return status;
    if (driver().used[current_device] + bytes > total_memory())
        return noted(cudaErrorMemoryAllocation);
    driver().used[current_device] += bytes;
    return allocate(data, bytes, current_device);
}

cudaError_t cudaFree(void* data) {
    LOCKED;
    if (data == nullptr)
        return cudaSuccess;
    if (capturing != nullptr)
        return state_outside_capture();
    const Allocation* allocation = driver().find(data);
    if (allocation == nullptr || allocation->device < 0)
        bug("cudaFree of what is not device memory");
    driver().used[allocation->device] -= allocation->bytes;
    release(data);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
    LOCKED;
    *data = nullptr;
    if (const cudaError_t status = state_outside_capture(); status != cudaSuccess)
        return status;
    const long long limit = setting("PINNED", -1);
    if (limit >= 0 && driver().pinned + bytes > static_cast<std::size_t>(limit))
        return noted(cudaErrorMemoryAllocation);
    driver().pinned += bytes;
    return allocate(data, bytes, -1);
}

cudaError_t cudaFreeHost(void* data) {
    LOCKED;
    if (data == nullptr)
        return cudaSuccess;
    const Allocation* allocation = driver().find(data);
    if (allocation == nullptr || allocation->device >= 0)
        bug("cudaFreeHost of what is not page-locked memory");
    driver().pinned -= allocation->bytes;
    release(data);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    LOCKED;
    if (const cudaError_t status = state_of(stream); status != cudaSuccess)
        return status;
    check_inside(to, bytes, kind != cudaMemcpyDeviceToHost);
    check_inside(from, bytes, kind != cudaMemcpyHostToDevice);
    Stream& queue = stream_or_default(stream);
    const bool to_pageable = kind == cudaMemcpyDeviceToHost && driver().find(to) == nullptr;
    if (queue.capture && (driver().find(to) == nullptr || driver().find(from) == nullptr))
        bug("a capture has a copy from or to pageable memory");
    if (kind == cudaMemcpyHostToDevice && driver().find(from) == nullptr) {
        // Pageable memory is read before the call returns.
        auto copy =
            std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
        queue.add([=] { std::memcpy(to, copy->data(), bytes); });
    } else {
        queue.add([=] { std::memcpy(to, from, bytes); });
    }
    if (to_pageable) {
        ++driver().waits;
        queue.run_to(queue.enqueued);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    cudaError_t status = state();
    for (std::size_t row = 0; row < height && status == cudaSuccess; ++row)
        status = cudaMemcpyAsync(static_cast<char*>(to) + row * to_pitch,
                                 static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
    return status;
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
    LOCKED;
    if (const cudaError_t status = state_of(stream); status != cudaSuccess)
        return status;
    check_inside(data, bytes, true);
    stream_or_default(stream).add([=] { std::memset(data, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    LOCKED;
    *stream = new Stream;
    return state();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    LOCKED;
    if (stream != nullptr && !driver().lost)
        stream->run_to(stream->enqueued);
    // Events may still name the stream.
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    LOCKED;
    if (const cudaError_t status = state_outside_capture(); status != cudaSuccess)
        return status;
    ++driver().waits;
    Stream& queue = stream_or_default(stream);
    queue.run_to(queue.enqueued);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    LOCKED;
    if (stream_or_default(stream).capture)
        bug("waiting for events is not emulated in a capture");
    Stream* of = event->stream;
    const std::uint64_t position = event->position;
    if (of != nullptr)
        stream_or_default(stream).add([=] { of->run_to(position); });
    return state();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new Event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    LOCKED;
    if (const cudaError_t status = state(); status != cudaSuccess)
        return status;
    Stream& queue = stream_or_default(stream);
    if (queue.capture)
        bug("events are not emulated in a capture");
    event->stream = &queue;
    queue.add([reached = event->reached] { *reached = std::chrono::steady_clock::now(); });
    event->position = queue.enqueued;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    LOCKED;
    if (const cudaError_t status = state_outside_capture(); status != cudaSuccess)
        return status;
    ++driver().waits;
    if (event->stream != nullptr)
        event->stream->run_to(event->position);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
    *milliseconds = std::chrono::duration<float, std::milli>(*stop->reached - *start->reached).count();
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    LOCKED;
    if (const cudaError_t status = state(); status != cudaSuccess)
        return status;
    stream->capture = std::make_unique<Graph>();
    capturing = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    LOCKED;
    const std::unique_ptr<Graph> captured = std::move(stream->capture);
    capturing = nullptr;
    *graph = nullptr;
    if (captured == nullptr)
        return noted(cudaErrorInvalidValue);
    if (captured->invalid)
        return noted(cudaErrorStreamCaptureInvalidated);
    *graph = new Graph(*captured);
    return state();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    *executable = new Graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    LOCKED;
    if (const cudaError_t status = state_of(stream); status != cudaSuccess)
        return status;
    ++driver().graphs;
    for (const Work& work : executable->work)
        stream->add(work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}
