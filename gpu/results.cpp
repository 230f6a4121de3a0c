#include "gpu/results.h"

#include "gpu/statistics.h"

namespace qs::cuda {

Results::Results(ResultBuffers& buffers, std::uint64_t units, std::vector<unsigned> codes)
    : units_(units), codes_(std::move(codes)) {
    std::size_t size = 0;
    // All of it is made of words of eight bytes, so nothing needs aligning.
    const auto place = [&size](std::size_t bytes) { return std::exchange(size, size + bytes); };
    place(sizeof(Moments));
    beyond_ = place(2 * sizeof(Count));
    errors_ = place(formats() * sizeof(ErrorSums));
    for (const unsigned count : codes_)
        usage_.push_back(place(count * sizeof(Count)));
    unit_moments_ = place(units_ * sizeof(Moments));
    unit_errors_ = place(formats() * units_ * sizeof(ErrorSums));
    device_ = buffers.device.reserve_for<std::byte>(size);
    host_ = buffers.pinned.reserve(unit_moments_);
}

Sink Results::sink(std::size_t format) const {
    Sink sink;
    sink.errors = device_at<ErrorSums>(unit_errors_) + format * units_;
    sink.codes = codes_[format];
    sink.usage = sink.codes == 0 ? nullptr : device_at<Count>(usage_[format]);
    return sink;
}

void Results::enqueue_zero(cudaStream_t stream) const {
    QS_CUDA_CHECK(cudaMemsetAsync(device_, 0, unit_moments_, stream));
}

void Results::enqueue_merge(cudaStream_t stream) const {
    merge_units(unit_moments(), device_at<Moments>(0), device_at<ErrorSums>(unit_errors_),
                device_at<ErrorSums>(errors_), units_, static_cast<unsigned>(formats()), stream);
}

void Results::enqueue_beyond_sigma(const Piece& piece, cudaStream_t stream) const {
    count_beyond_sigma(piece, device_at<Moments>(0), device_at<Count>(beyond_), stream);
}

void Results::enqueue_fetch(cudaStream_t stream) const {
    QS_CUDA_CHECK(cudaMemcpyAsync(host_, device_, unit_moments_, cudaMemcpyDeviceToHost, stream));
}

Statistics Results::statistics() const {
    Statistics statistics = finish(*host_at<Moments>(0));
    statistics.beyond_3_sigma = host_at<Count>(beyond_)[0];
    statistics.beyond_6_sigma = host_at<Count>(beyond_)[1];
    return statistics;
}

double Results::sum_w2() const {
    const auto* moments = host_at<Moments>(0);
    return moments->m2 + static_cast<double>(moments->n) * moments->mean * moments->mean;
}

ErrorSums Results::errors(std::size_t format) const {
    return host_at<ErrorSums>(errors_)[format];
}

std::vector<std::uint64_t> Results::usage(std::size_t format) const {
    const auto* counts = host_at<Count>(usage_[format]);
    return {counts, counts + codes_[format]};
}

} // namespace qs::cuda
