#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "core/device/device.h"
#include "gpu/piece.h"
#include "gpu/workspace.h"

namespace qs::cuda {

/// Brings a tensor to the device piece by piece, as often as asked: from the mapped file through page-locked buffers,
/// copying while the kernels work on the piece before. A tensor that is needed more than once, or may be asked for
/// again, stays on the device where it fits.
class Feed {
public:
    /// `passes` is how often pass() will be called.
    Feed(Workspace& work, const TensorView& tensor, int passes);
    ~Feed();
    Feed(const Feed&) = delete;
    Feed& operator=(const Feed&) = delete;

    /// Calls visit(piece) for all pieces in order; `visit` puts its work into the compute stream. Pieces of a tensor
    /// that is already on the device are of up to `longest` weights. Reports progress so that all passes together make
    /// the stored bytes of the tensor.
    template <class Visit>
    void pass(JobControl& job, Visit visit, std::uint64_t longest = resident_piece_weights) {
        const Drain drain_copies(buffers_.copies);
        const Drain drain_compute(work_.compute);
        if (loaded()) {
            for (std::uint64_t begin = 0, turn = 0; begin < count_; begin += longest, ++turn) {
                job.check();
                // A few pieces are under way at once and no more, so that a cancelled job ends soon.
                const Event& used = buffers_.slots[turn % buffers_.slots.size()].used;
                used.synchronize();
                visit(resident_piece(begin, longest));
                used.record(work_.compute);
            }
        } else {
            for (std::uint64_t begin = 0; begin < count_; begin += work_.piece_weights) {
                job.check();
                visit(bring(begin));
                end_piece(begin, job);
            }
        }
        QS_CUDA_CHECK(cudaStreamSynchronize(work_.compute));
        end_pass(job);
    }

private:
    /// Weights that the kernels are given at once where nothing is copied: few milliseconds of work.
    static constexpr std::uint64_t resident_piece_weights = std::uint64_t{1} << 28;

    bool loaded() const { return resident_ && resident_->loaded; }
    Piece resident_piece(std::uint64_t begin, std::uint64_t longest) const;
    Piece bring(std::uint64_t begin);
    void end_piece(std::uint64_t begin, JobControl& job);
    void end_pass(JobControl& job);
    void advance(std::uint64_t bytes, JobControl& job);
    std::uint64_t end_of(std::uint64_t begin) const { return std::min(begin + work_.piece_weights, count_); }
    std::uint64_t stored_bytes_before(std::uint64_t weight) const;
    FeedBuffers::Slot& slot(std::uint64_t begin) {
        return buffers_.slots[begin / work_.piece_weights % buffers_.slots.size()];
    }

    Workspace& work_;
    FeedBuffers& buffers_;
    const TensorView& tensor_;
    std::uint64_t count_;
    NativeType type_;
    bool converts_;
    std::optional<Residents::Entry> resident_;
    int passes_;
    int passes_done_ = 0;
    std::uint64_t advanced_ = 0;
};

/// Brings a tensor of one piece to the device through one slot, by what can be recorded: the copy takes whatever the
/// page-locked buffer holds when it is done.
class PieceFeed {
public:
    PieceFeed(FeedBuffers::Slot& slot, const TensorView& tensor);

    /// Puts the tensor into the page-locked buffer, which nothing may be copied from meanwhile.
    void fill() const;
    /// Enqueues the rest.
    Piece enqueue(cudaStream_t stream) const;

private:
    FeedBuffers::Slot& slot_;
    const TensorView& tensor_;
    NativeType type_;
    std::uint64_t bytes_;
};

/// Whether the tensor goes to the device at once.
bool is_one_piece(const Workspace& work, const TensorView& tensor);
/// Bytes of `weights` weights, whole blocks of them.
std::uint64_t stored_bytes(DType dtype, std::uint64_t weights);

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
