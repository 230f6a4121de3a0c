#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/device/device.h"
#include "gpu/cuda.h"
#include "gpu/piece.h"

namespace qs::cuda {

/// What feeding tensors to a device needs, kept from tensor to tensor: two page-locked buffers that the host fills in
/// turn while the device copies from the other, and the device memory that they are copied to.
struct FeedBuffers {
    struct Slot {
        PinnedBuffer pinned;
        DeviceBuffer stored;  ///< as in the file, where it must be converted
        DeviceBuffer weights; ///< in a native type, where the tensor does not stay on the device
        Event copied;         ///< `pinned` may be filled again
        Event used;           ///< `stored` and `weights` may be overwritten
    };
    std::array<Slot, 2> slots;
    DeviceBuffer resident; ///< a whole tensor in a native type
    Stream copies;
};

/// Brings a tensor to the device piece by piece, as often as asked: from the mapped file through page-locked buffers,
/// copying while the kernels work on the piece before. A tensor that is needed more than once stays on the device
/// where `resident_limit` bytes hold it.
class Feed {
public:
    /// `passes` is how often pass() will be called.
    Feed(FeedBuffers& buffers, const TensorView& tensor, int passes, std::size_t resident_limit, cudaStream_t compute);

    /// Calls visit(piece) for all pieces in order; `visit` puts its work into the compute stream. Pieces of a tensor
    /// that is already on the device are of up to `longest` weights. Reports progress so that all passes together make
    /// the stored bytes of the tensor.
    template <class Visit>
    void pass(JobControl& job, Visit visit, std::uint64_t longest = resident_piece_weights) {
        const Drain drain_copies(buffers_.copies);
        const Drain drain_compute(compute_);
        if (loaded_) {
            for (std::uint64_t begin = 0, turn = 0; begin < count_; begin += longest, ++turn) {
                job.check();
                // At most two pieces are under way, so that a cancelled job ends soon.
                const Event& used = buffers_.slots[turn % 2].used;
                used.synchronize();
                visit(resident_piece(begin, longest));
                used.record(compute_);
            }
        } else {
            for (std::uint64_t begin = 0; begin < count_; begin += piece_weights) {
                job.check();
                visit(bring(begin));
                end_piece(begin, job);
            }
        }
        QS_CUDA_CHECK(cudaStreamSynchronize(compute_));
        end_pass();
    }

private:
    /// Weights that the kernels are given at once where nothing is copied: few milliseconds of work.
    static constexpr std::uint64_t resident_piece_weights = std::uint64_t{1} << 28;

    Piece resident_piece(std::uint64_t begin, std::uint64_t longest) const;
    Piece bring(std::uint64_t begin);
    void end_piece(std::uint64_t begin, JobControl& job);
    void end_pass();
    std::uint64_t end_of(std::uint64_t begin) const { return std::min(begin + piece_weights, count_); }
    std::uint64_t stored_bytes_before(std::uint64_t weight) const;
    void copy_to_pinned(std::byte* pinned, std::uint64_t first_byte, std::size_t bytes) const;
    FeedBuffers::Slot& slot(std::uint64_t begin) { return buffers_.slots[begin / piece_weights % 2]; }

    FeedBuffers& buffers_;
    const TensorView& tensor_;
    cudaStream_t compute_;
    std::uint64_t count_;
    NativeType type_;
    bool converts_;
    bool stays_ = false;
    bool loaded_ = false;
    int passes_;
    int passes_done_ = 0;
};

/// The type that the kernels read a stored type as.
NativeType native_type(DType dtype, bool byte_swapped);
/// Bytes of one weight.
std::size_t size_of(NativeType type);

/// Whether convert_to_f32() takes the type.
bool can_convert(DType dtype);

/// Enqueues the conversion of `count` stored weights to f32; block types begin with a whole block.
void convert_to_f32(DType dtype, bool byte_swapped, const void* stored, std::uint64_t count, float* weights,
                    cudaStream_t stream);

} // namespace qs::cuda
