#include "core/export/float_tensor.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstring>

#include "core/analysis/pipeline.h"
#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/load.h"

namespace qs {

namespace {

/// Elements converted at a time by one thread.
constexpr std::size_t piece = std::size_t{1} << 18;

std::size_t size_of(const std::string& dtype) {
    return dtype == "F32" ? sizeof(float) : sizeof(std::uint16_t);
}

/// What a type makes of a value, and that as a float again.
std::uint16_t to_16_bits(float value, bool bf16) {
    return bf16 ? float_to_bf16(value) : float_to_fp16(value);
}
float from_16_bits(std::uint16_t word, bool bf16) {
    return bf16 ? bf16_to_float(word) : fp16_to_float(word);
}

/// Casts values; false where a finite one becomes infinite.
bool cast(const float* values, std::size_t count, const std::string& dtype, std::byte* out) {
    if (dtype == "F32") {
        std::memcpy(out, values, count * sizeof(float));
        return true;
    }
    const bool bf16 = dtype == "BF16";
    bool finite = true;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t word = to_16_bits(values[i], bf16);
        finite &= is_finite(from_16_bits(word, bf16));
        std::memcpy(out + i * sizeof word, &word, sizeof word);
    }
    return finite;
}

/// Casts a piece of a tensor.
void cast_piece(const Checkpoint& checkpoint, const TensorInfo& tensor, const float* values, std::size_t count,
                const std::string& dtype, std::byte* out) {
    const std::string where = checkpoint.path.string() + ": tensor " + tensor.name;
    if (!std::all_of(values, values + count, is_finite))
        throw Error(where, "has values that are not finite", "get the checkpoint again, or train it anew");
    if (!cast(values, count, dtype, out))
        throw Error(where, fmt::format("has values beyond what {} can hold", dtype),
                    dtype == "F16" ? "choose bf16, or a layout that keeps the tensors' own type: bitsandbytes"
                                   : "choose fp32");
}

} // namespace

bool is_castable(const TensorInfo& tensor) {
    constexpr DType types[] = {DType::f64, DType::f32, DType::f16, DType::bf16};
    return std::ranges::find(types, tensor.dtype) != std::end(types) && is_parameter(tensor);
}

std::vector<std::byte> cast_tensor(const Checkpoint& checkpoint, const TensorInfo& tensor, const std::string& dtype,
                                   JobControl& job) {
    const TensorView view = view_of(checkpoint, tensor);
    const std::size_t count = tensor.elements(), size = size_of(dtype);
    std::vector<std::byte> bytes(count * size);
    tbb::parallel_for(std::size_t{0}, (count + piece - 1) / piece, [&](std::size_t i) {
        job.check();
        const std::size_t begin = i * piece, length = std::min(piece, count - begin);
        std::vector<float> values(length);
        load_weights(view.dtype, view.byte_swapped, view.data, begin, length, values.data());
        cast_piece(checkpoint, tensor, values.data(), length, dtype, bytes.data() + begin * size);
    });
    view.file->release(tensor.offset, tensor.bytes);
    job.advance(count);
    return bytes;
}

std::vector<std::byte> cast_values(const Checkpoint& checkpoint, const TensorInfo& tensor, const RowVector& values,
                                   const std::string& dtype) {
    const auto count = static_cast<std::size_t>(values.size());
    std::vector<std::byte> bytes(count * size_of(dtype));
    cast_piece(checkpoint, tensor, values.data(), count, dtype, bytes.data());
    return bytes;
}

} // namespace qs
