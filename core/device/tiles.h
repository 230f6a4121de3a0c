#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/device/device.h"
#include "core/formats/load.h"
#include "core/formats/tensor_codec.h"

namespace qs {

/// Weights of a tensor [begin, begin + weights.size()) as float32.
struct Tile {
    std::uint64_t begin = 0;
    std::span<const float> weights;

    std::uint64_t end() const { return begin + weights.size(); }
    /// The part that starts at the absolute element `from` and ends before `to`.
    const float* at(std::uint64_t from) const { return weights.data() + (from - begin); }
};

/// Reads a tensor tile by tile. A tile's nominal end may fall inside a block of a codec; the tile then holds the rest
/// of that block too, so that each codec can take the blocks that start inside the nominal range.
class TileReader {
public:
    TileReader(const TensorView& view, std::span<const std::unique_ptr<TensorCodec>> codecs)
        : view_(view), codecs_(codecs) {}

    /// Loads the tile of nominal range [begin, end).
    Tile load(std::uint64_t begin, std::uint64_t end) {
        std::uint64_t last = end;
        for (const auto& codec : codecs_)
            last = std::max(last, codec->next_cut(end));
        const auto count = static_cast<std::size_t>(last - begin);
        if (buffer_.size() < count)
            buffer_.resize(count);
        load_weights(view_.dtype, view_.byte_swapped, view_.data, begin, count, buffer_.data());
        return {begin, {buffer_.data(), count}};
    }

private:
    const TensorView& view_;
    std::span<const std::unique_ptr<TensorCodec>> codecs_;
    std::vector<float> buffer_;
};

/// What is known of a format on a tensor before its errors are measured.
FormatResult unmeasured(const FormatSpec& spec, const TensorShape& shape, double stored_bits);

/// Binds each spec to the tensor in the form that its shape allows.
std::vector<std::unique_ptr<TensorCodec>> bind_codecs(const TensorView& tensor, std::span<const FormatSpec> specs);

/// Runs the first pass of the codecs that need one over the whole tensor, on the calling thread.
void scan_codecs(const TensorView& tensor, std::span<const std::unique_ptr<TensorCodec>> codecs, JobControl& job);

/// Calls `visit(tile, nominal_end)` for every tile of the tensor in order; `tile_size` elements each.
template <class Visit>
void for_each_tile(const TensorView& tensor, std::span<const std::unique_ptr<TensorCodec>> codecs, std::uint64_t begin,
                   std::uint64_t end, std::size_t tile_size, JobControl& job, Visit visit) {
    TileReader reader(tensor, codecs);
    for (std::uint64_t at = begin; at < end; at += tile_size) {
        job.check();
        const std::uint64_t nominal_end = std::min<std::uint64_t>(at + tile_size, end);
        visit(reader.load(at, nominal_end), nominal_end);
    }
}

} // namespace qs
