#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "core/device/device.h"
#include "gpu/cuda.h"
#include "gpu/format_run.h"
#include "gpu/recordings.h"
#include "gpu/residents.h"

namespace qs::cuda {

using Runs = std::vector<std::unique_ptr<FormatRun>>;

/// What feeding tensors to a device needs, kept from tensor to tensor: page-locked buffers that the host fills in turn
/// while the device copies from the others, and the device memory that they are copied to.
struct FeedBuffers {
    struct Slot {
        PinnedBuffer pinned;
        DeviceBuffer stored;  ///< as in the file, where it must be converted
        DeviceBuffer weights; ///< in a native type, where the tensor does not stay on the device
        Event copied;         ///< `pinned` may be filled again
        Event used;           ///< `stored` and `weights` may be overwritten
    };
    std::array<Slot, 3> slots;
    Stream copies;

    void clear() {
        for (Slot& slot : slots) {
            slot.pinned.clear();
            slot.stored.clear();
            slot.weights.clear();
        }
    }
};

/// The streams and the buffers of one call at a time on one GPU.
struct Workspace {
    explicit Workspace(Residents& all_residents) : residents(all_residents) {}

    Residents& residents;
    Stream compute;
    FeedBuffers feed;
    Scratch scratch;
    GridTables tables;
    ResultBuffers results;
    Recordings recordings;
    std::uint64_t piece_weights = usual_piece_weights; ///< copied to the device at a time
    std::uint64_t advanced = 0;                        ///< what the call has reported as progress

    /// Gives all memory back that is not needed between calls.
    void clear() {
        recordings.clear();
        feed.clear();
        scratch.clear();
        results.clear();
        residents.clear();
    }

    /// Reports progress.
    void advance(std::uint64_t bytes, JobControl& job) {
        job.advance(bytes);
        advanced += bytes;
    }

    /// `count` values of zero bytes in device memory.
    template <class T>
    T* zeroed(std::size_t count) {
        T* data = scratch.take_for<T>(count);
        QS_CUDA_CHECK(cudaMemsetAsync(data, 0, count * sizeof(T), compute));
        return data;
    }

    template <class T>
    std::vector<T> fetch(const T* data, std::size_t count) const {
        std::vector<T> result(count);
        QS_CUDA_CHECK(cudaMemcpyAsync(result.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost, compute));
        compute.synchronize();
        return result;
    }

    Runs make_runs(const TensorShape& shape, const float* importance, std::span<const FormatSpec> specs) {
        const RunContext context{shape, importance, scratch, tables, compute};
        Runs runs;
        for (const FormatSpec& spec : specs)
            runs.push_back(make_run(effective_spec(spec, shape), context));
        return runs;
    }
};

} // namespace qs::cuda
