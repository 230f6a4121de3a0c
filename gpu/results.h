#pragma once

#include <cstdint>
#include <vector>

#include "core/analysis/statistics.h"
#include "gpu/cuda.h"
#include "gpu/fused.h"

namespace qs::cuda {

/// Where the results of a tensor lie, kept from tensor to tensor.
struct ResultBuffers {
    DeviceBuffer device;
    PinnedBuffer pinned;

    void clear() {
        device.clear();
        pinned.clear();
    }
};

/// All that the kernels find out about a tensor, in one piece of device memory: the moments, how many weights lie
/// beyond 3 and 6 σ, and of each format the error sums and how often each code occurs, which one copy brings to
/// page-locked memory; after those the moments and the error sums of the units, from which the tensor's are merged on
/// the device. Copies are views of the same memory.
class Results {
public:
    /// `codes` has the number of codes of each format that are counted, 0 for none.
    Results(ResultBuffers& buffers, std::uint64_t units, std::vector<unsigned> codes);

    Moments* unit_moments() const { return device_at<Moments>(unit_moments_); }
    /// Where the kernels put the format's errors and codes.
    Sink sink(std::size_t format) const;

    /// Enqueues what comes before the kernels that fill it.
    void enqueue_zero(cudaStream_t stream) const;
    /// Enqueues the merging of the units, before beyond_sigma() can be counted.
    void enqueue_merge(cudaStream_t stream) const;
    /// Enqueues the count of the weights of a piece beyond 3 and 6 σ.
    void enqueue_beyond_sigma(const Piece& piece, cudaStream_t stream) const;
    /// Enqueues the copy to the host, for the functions below.
    void enqueue_fetch(cudaStream_t stream) const;

    Statistics statistics() const;
    double sum_w2() const; ///< of the finite weights
    ErrorSums errors(std::size_t format) const;
    /// Empty where codes are not counted.
    std::vector<std::uint64_t> usage(std::size_t format) const;

private:
    template <class T>
    T* device_at(std::size_t offset) const {
        return reinterpret_cast<T*>(device_ + offset);
    }
    template <class T>
    const T* host_at(std::size_t offset) const {
        return reinterpret_cast<const T*>(host_ + offset);
    }
    std::size_t formats() const { return codes_.size(); }

    std::uint64_t units_;
    std::vector<unsigned> codes_;
    /// Bytes from the start: of the moments, which are the first, nothing.
    std::size_t beyond_, errors_, unit_moments_, unit_errors_;
    std::vector<std::size_t> usage_;
    std::byte* device_;
    std::byte* host_;
};

} // namespace qs::cuda
