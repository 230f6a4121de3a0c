#pragma once

#include <algorithm>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/formats/block_codec.h"
#include "core/formats/format_spec.h"
#include "core/formats/tensor_codec.h"

namespace qs {

/// Rows longer than this get their scale in a first pass over the tensor, so that no range has to hold a whole row.
inline constexpr std::uint64_t longest_row_at_once = std::uint64_t{1} << 20;

/// The most codes a codec can have: where their number is chosen at run time, those of the integers.
template <class Codec>
inline constexpr std::uint32_t max_code_count = [] {
    if constexpr (std::is_member_object_pointer_v<decltype(&Codec::code_count)>)
        return 256U;
    else
        return Codec::code_count;
}();

/// Binds a block codec to a tensor: finds the scopes, fits their scales, and runs the codec over ranges.
/// `with_codec` (codec_dispatch.h) gives the codec, a family's .cpp file the codebook and the stored arrays.
template <class Codec>
class ScopedCodec : public TensorCodec {
public:
    using Extent = typename Codec::Extent;
    using Scale = typename Codec::Scale;

    ScopedCodec(const Codec& codec, const TensorShape& shape) : codec_(codec), shape_(shape) {
        const Scope scope = codec.scope();
        kind_ = scope.kind;
        size_ = scope.size == 0 ? shape.columns
                                : std::min(scope.size, kind_ == Scope::Kind::row ? shape.columns : scope.size);
        if (kind_ == Scope::Kind::tensor)
            size_ = std::max<std::uint64_t>(shape.count(), 1);
        scanned_ = kind_ == Scope::Kind::tensor || (kind_ == Scope::Kind::row && size_ > longest_row_at_once);
        if (scanned_)
            extents_.resize(static_cast<std::size_t>(scopes()));
    }

    std::uint64_t next_cut(std::uint64_t element) const override {
        if (kind_ == Scope::Kind::element || scanned_ || element >= shape_.count())
            return std::min(element, shape_.count());
        if (kind_ == Scope::Kind::flat)
            return std::min((element + size_ - 1) / size_ * size_, shape_.count());
        const std::uint64_t row = element / shape_.columns, column = element % shape_.columns;
        const std::uint64_t cut = std::min((column + size_ - 1) / size_ * size_, shape_.columns);
        return std::min(row * shape_.columns + cut, shape_.count());
    }

    bool needs_scan() const override { return scanned_; }

    void scan(const float* weights, std::uint64_t begin, std::size_t count) override {
        for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            const Extent part = extent_of(weights + (from - begin), length);
            const std::lock_guard lock(merging_);
            extents_[static_cast<std::size_t>(scope)].merge(part);
        });
    }

    void finish_scan() override {
        scales_.clear();
        for (const Extent& extent : extents_)
            scales_.push_back(codec_.fit(extent));
    }

    void quantize(const float* weights, std::uint64_t begin, std::size_t count, std::uint16_t* codes,
                  float* decoded) const override {
        for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            const std::uint64_t offset = from - begin;
            const Scale scale = scale_of(scope, weights + offset, length);
            run(weights + offset, length, scale, codes == nullptr ? nullptr : codes + offset,
                decoded == nullptr ? nullptr : decoded + offset);
        });
    }

    std::size_t encoded_bytes(std::uint64_t begin, std::size_t count) const override {
        return scopes_in(begin, count) * scale_bytes + count * code_bytes;
    }

    void encode(const float* weights, std::uint64_t begin, std::size_t count, std::byte* out) const override {
        std::byte* scales = out;
        std::byte* codes = out + scopes_in(begin, count) * scale_bytes;
        for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            const float* part = weights + (from - begin);
            const Scale scale = scale_of(scope, part, length);
            std::memcpy(scales, &scale, scale_bytes);
            scales += scale_bytes;
            for (std::size_t i = 0; i < length; ++i) {
                const auto code = static_cast<StoredCode>(codec_.encode(part[i], scale));
                std::memcpy(codes + i * code_bytes, &code, code_bytes);
            }
            codes += length * code_bytes;
        });
    }

    void decode(const std::byte* encoded, std::uint64_t begin, std::size_t count, float* out) const override {
        const std::byte* scales = encoded;
        const std::byte* codes = encoded + scopes_in(begin, count) * scale_bytes;
        for_each_scope(begin, count, [&](std::uint64_t, std::uint64_t from, std::size_t length) {
            Scale scale;
            std::memcpy(&scale, scales, scale_bytes);
            scales += scale_bytes;
            for (std::size_t i = 0; i < length; ++i) {
                StoredCode code;
                std::memcpy(&code, codes + i * code_bytes, code_bytes);
                out[from - begin + i] = codec_.decode(code, scale);
            }
            codes += length * code_bytes;
        });
    }

    LevelBlock level_block(std::uint64_t element) const override { return scope_at(element); }

    std::vector<Level> levels_at(const float* weights, std::uint64_t begin, std::size_t count,
                                 std::uint64_t element) const override {
        std::vector<Level> levels;
        const auto codebook = this->codebook();
        if (!codebook)
            return levels;
        for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            if (element < from || element >= from + length)
                return;
            const Scale scale = scale_of(scope, weights + (from - begin), length);
            for (const Level& level : codebook->levels)
                levels.push_back({level.code, codec_.decode(level.code, scale)});
        });
        return levels;
    }

    void normalise(const float* weights, std::uint64_t begin, std::size_t count, float* position) const override {
        for_each_scope(begin, count, [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            const std::uint64_t offset = from - begin;
            const Scale scale = scale_of(scope, weights + offset, length);
            for (std::size_t i = 0; i < length; ++i)
                position[offset + i] = codec_.position(weights[offset + i], scale);
        });
    }

    std::size_t code_count() const override { return codec_.code_count; }

protected:
    const Codec& codec() const { return codec_; }
    const TensorShape& shape() const { return shape_; }
    /// Weights of a scope.
    std::uint64_t scope_size() const { return size_; }

    /// How many scopes the tensor has.
    std::uint64_t scopes() const {
        if (shape_.count() == 0)
            return 0;
        switch (kind_) {
        case Scope::Kind::element:
            return 0;
        case Scope::Kind::tensor:
            return 1;
        case Scope::Kind::flat:
            return (shape_.count() + size_ - 1) / size_;
        case Scope::Kind::row:
            break;
        }
        return shape_.rows * groups_per_row();
    }

    /// The scale of a scope, all of whose weights are given unless it comes from the scan.
    virtual Scale scale_of(std::uint64_t scope, const float* weights, std::size_t length) const {
        return scanned_ ? scales_[static_cast<std::size_t>(scope)] : codec_.fit(extent_of(weights, length));
    }

    Extent extent_of(const float* weights, std::size_t length) const {
        constexpr std::size_t lanes = Extent::any_order ? 4 : 1;
        const Codec codec = codec_;
        Extent lane[lanes];
        std::size_t i = 0;
        for (; i + lanes <= length; i += lanes)
            for (std::size_t k = 0; k < lanes; ++k)
                codec.extend(lane[k], weights[i + k]);
        for (; i < length; ++i)
            codec.extend(lane[0], weights[i]);
        for (std::size_t k = 1; k < lanes; ++k)
            lane[0].merge(lane[k]);
        return lane[0];
    }

    /// Calls visit(scope, first element, length) for the scopes, or the parts of scopes, in a range.
    template <class Visit>
    void for_each_scope(std::uint64_t begin, std::size_t count, Visit visit) const {
        const std::uint64_t end = begin + count;
        for (std::uint64_t at = begin; at < end;) {
            const LevelBlock scope = scope_at(at);
            const std::uint64_t next = std::min(scope.end, end);
            visit(scope.index, at, static_cast<std::size_t>(next - at));
            at = next;
        }
    }

    /// Codes and scales of the whole tensor, for what is stored.
    struct Encoded {
        std::vector<std::uint16_t> codes;
        std::vector<Scale> scales;
    };
    Encoded encode_all(const float* weights) const {
        Encoded all;
        all.codes.resize(static_cast<std::size_t>(shape_.count()));
        quantize(weights, 0, all.codes.size(), all.codes.data(), nullptr);
        for_each_scope(0, all.codes.size(), [&](std::uint64_t scope, std::uint64_t from, std::size_t length) {
            all.scales.push_back(scale_of(scope, weights + from, length));
        });
        return all;
    }

private:
    using StoredCode =
        std::conditional_t<max_code_count<Codec> == 0, std::uint32_t,
                           std::conditional_t<(max_code_count<Codec> > 256), std::uint16_t, std::uint8_t>>;
    static constexpr std::size_t code_bytes = sizeof(StoredCode);
    static constexpr std::size_t scale_bytes = std::is_empty_v<Scale> ? 0 : sizeof(Scale);

    std::size_t scopes_in(std::uint64_t begin, std::size_t count) const {
        std::size_t scopes = 0;
        if (kind_ == Scope::Kind::element)
            return scopes;
        for_each_scope(begin, count, [&](std::uint64_t, std::uint64_t, std::size_t) { ++scopes; });
        return scopes;
    }

    /// Encodes a run of weights, then decodes it: loops that a compiler turns into vectors each by itself.
    void run(const float* weights, std::size_t count, const Scale& scale, std::uint16_t* codes, float* decoded) const {
        constexpr std::size_t at_once = 256;
        const Codec codec = codec_;
        std::uint32_t encoded[at_once];
        for (std::size_t begin = 0; begin < count; begin += at_once) {
            const std::size_t length = std::min(at_once, count - begin);
            for (std::size_t i = 0; i < length; ++i)
                encoded[i] = codec.encode(weights[begin + i], scale);
            for (std::size_t i = 0; codes != nullptr && i < length; ++i)
                codes[begin + i] = static_cast<std::uint16_t>(encoded[i]);
            for (std::size_t i = 0; decoded != nullptr && i < length; ++i)
                decoded[begin + i] = codec.decode(encoded[i], scale);
        }
    }

    std::uint64_t groups_per_row() const { return (shape_.columns + size_ - 1) / size_; }

    LevelBlock scope_at(std::uint64_t element) const {
        switch (kind_) {
        case Scope::Kind::element:
        case Scope::Kind::tensor:
            return {0, 0, shape_.count()};
        case Scope::Kind::flat: {
            const std::uint64_t block = element / size_;
            return {block, block * size_, std::min((block + 1) * size_, shape_.count())};
        }
        case Scope::Kind::row:
            break;
        }
        const std::uint64_t row = element / shape_.columns, group = element % shape_.columns / size_;
        const std::uint64_t first = row * shape_.columns;
        return {row * groups_per_row() + group, first + group * size_,
                first + std::min((group + 1) * size_, shape_.columns)};
    }

    Codec codec_;
    TensorShape shape_;
    Scope::Kind kind_;
    std::uint64_t size_;
    bool scanned_;
    std::mutex merging_;
    std::vector<Extent> extents_;
    std::vector<Scale> scales_;
};

/// Appends the bytes of `values` as an array called `name`.
template <class T>
StoredArray stored_array(std::string name, const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    return {std::move(name), std::vector<std::byte>(bytes, bytes + values.size() * sizeof(T))};
}

/// Binds a spec to a tensor; one a family, called through the registry. `importance` has one value a column and
/// outlives the codec, or is null.
std::unique_ptr<TensorCodec> bind_floating(const FormatSpec& spec, const TensorShape& shape, const float* importance);
std::unique_ptr<TensorCodec> bind_integer(const FormatSpec& spec, const TensorShape& shape, const float* importance);
std::unique_ptr<TensorCodec> bind_bitsandbytes(const FormatSpec& spec, const TensorShape& shape,
                                               const float* importance);
std::unique_ptr<TensorCodec> bind_ggml_packed(const FormatSpec& spec, const TensorShape& shape,
                                              const float* importance);
std::unique_ptr<TensorCodec> bind_microscaling(const FormatSpec& spec, const TensorShape& shape,
                                               const float* importance);

} // namespace qs
