#include "gpu/feed.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstring>

namespace qs::cuda {

NativeType native_type(DType dtype, bool byte_swapped) {
    if (dtype == DType::bf16 && !byte_swapped)
        return NativeType::bf16;
    if (dtype == DType::f16 && !byte_swapped)
        return NativeType::f16;
    return NativeType::f32;
}

std::size_t size_of(NativeType type) {
    return type == NativeType::f32 ? 4 : 2;
}

std::uint64_t stored_bytes(DType dtype, std::uint64_t weights) {
    const BlockLayout layout = block_layout(dtype);
    return weights / layout.elements * layout.bytes;
}

bool is_one_piece(const Workspace& work, const TensorView& tensor) {
    const std::uint64_t count = tensor.shape.count();
    return count > 0 && count <= work.piece_weights;
}

namespace {

bool must_convert(const TensorView& tensor) {
    return native_type(tensor.dtype, tensor.byte_swapped) == NativeType::f32 &&
           (tensor.dtype != DType::f32 || tensor.byte_swapped);
}

void copy_stored(const TensorView& tensor, std::uint64_t first_byte, std::size_t bytes, std::byte* pinned) {
    // One thread does not reach the speed of the bus, above all where pages must be faulted in.
    constexpr std::size_t grain = std::size_t{512} << 10;
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, bytes, grain), [&](const auto& range) {
        std::memcpy(pinned + range.begin(), tensor.data + first_byte + range.begin(), range.size());
    });
    if (tensor.file != nullptr) {
        const auto offset = static_cast<std::size_t>(tensor.data - tensor.file->bytes().data());
        tensor.file->release(offset + first_byte, bytes);
    }
}

} // namespace

PieceFeed::PieceFeed(FeedBuffers::Slot& slot, const TensorView& tensor)
    : slot_(slot), tensor_(tensor), type_(native_type(tensor.dtype, tensor.byte_swapped)),
      bytes_(stored_bytes(tensor.dtype, tensor.shape.count())) {
    slot_.pinned.reserve(bytes_);
    slot_.weights.reserve(tensor_.shape.count() * size_of(type_));
    if (must_convert(tensor_))
        slot_.stored.reserve(bytes_);
}

void PieceFeed::fill() const {
    copy_stored(tensor_, 0, bytes_, slot_.pinned.data());
}

Piece PieceFeed::enqueue(cudaStream_t stream) const {
    const std::uint64_t count = tensor_.shape.count();
    const bool converts = must_convert(tensor_);
    void* landing = converts ? slot_.stored.as<void>() : slot_.weights.as<void>();
    QS_CUDA_CHECK(cudaMemcpyAsync(landing, slot_.pinned.data(), bytes_, cudaMemcpyHostToDevice, stream));
    if (converts)
        convert_to_f32(tensor_.dtype, tensor_.byte_swapped, landing, count, slot_.weights.as<float>(), stream);
    return {type_, slot_.weights.as<void>(), 0, count};
}

Feed::Feed(Workspace& work, const TensorView& tensor, int passes)
    : work_(work), buffers_(work.feed), tensor_(tensor), count_(tensor.shape.count()),
      type_(native_type(tensor.dtype, tensor.byte_swapped)), converts_(must_convert(tensor)), passes_(passes) {
    const auto key = resident_key(tensor);
    if (passes > 1 || key)
        try {
            resident_ = work_.residents.take(key, count_ * size_of(type_));
        } catch (const OutOfMemory&) {
            // Piece by piece then, as often as needed.
        }
    if (loaded())
        return;
    const std::uint64_t longest = std::min(count_, work_.piece_weights);
    for (auto& slot : buffers_.slots) {
        slot.pinned.reserve(stored_bytes_before(longest));
        if (converts_)
            slot.stored.reserve(stored_bytes_before(longest));
        if (!resident_)
            slot.weights.reserve(longest * size_of(type_));
    }
}

Feed::~Feed() {
    if (resident_)
        work_.residents.give_back(std::move(*resident_));
}

std::uint64_t Feed::stored_bytes_before(std::uint64_t weight) const {
    return stored_bytes(tensor_.dtype, weight);
}

Piece Feed::resident_piece(std::uint64_t begin, std::uint64_t longest) const {
    return {type_, resident_->data.as<std::byte>() + begin * size_of(type_), begin, std::min(longest, count_ - begin)};
}

Piece Feed::bring(std::uint64_t begin) {
    const std::uint64_t end = end_of(begin), first = stored_bytes_before(begin);
    const auto bytes = static_cast<std::size_t>(stored_bytes_before(end) - first);
    FeedBuffers::Slot& slot = this->slot(begin);
    std::byte* weights =
        resident_ ? resident_->data.as<std::byte>() + begin * size_of(type_) : slot.weights.as<std::byte>();
    std::byte* landing = converts_ ? slot.stored.as<std::byte>() : weights;

    slot.copied.synchronize();
    copy_stored(tensor_, first, bytes, slot.pinned.data());
    slot.used.make_wait(buffers_.copies);
    QS_CUDA_CHECK(cudaMemcpyAsync(landing, slot.pinned.data(), bytes, cudaMemcpyHostToDevice, buffers_.copies));
    slot.copied.record(buffers_.copies);
    slot.copied.make_wait(work_.compute);
    if (converts_)
        convert_to_f32(tensor_.dtype, tensor_.byte_swapped, landing, end - begin, reinterpret_cast<float*>(weights),
                       work_.compute);
    return {type_, weights, begin, end - begin};
}

void Feed::end_piece(std::uint64_t begin, JobControl& job) {
    slot(begin).used.record(work_.compute);
    // A tensor that stays is read once; one that does not is read `passes_` times, and each counts for its part.
    const std::uint64_t parts = resident_ ? 1 : static_cast<std::uint64_t>(passes_);
    const std::uint64_t read = stored_bytes_before(end_of(begin));
    advance((stored_bytes_before(count_) * static_cast<std::uint64_t>(passes_done_) + read) / parts, job);
}

void Feed::end_pass(JobControl& job) {
    if (resident_) {
        resident_->loaded = true;
        advance(stored_bytes_before(count_), job);
    }
    ++passes_done_;
}

void Feed::advance(std::uint64_t bytes, JobControl& job) {
    if (bytes <= advanced_)
        return;
    work_.advance(bytes - advanced_, job);
    advanced_ = bytes;
}

} // namespace qs::cuda
