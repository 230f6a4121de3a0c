#include "core/base/error.h"
#include "core/base/half.h"
#include "core/formats/ggml_basic.h"
#include "gpu/feed.h"
#include "gpu/reductions.cuh"

/// Stored types that the kernels do not read as they are, turned into f32.
namespace qs::cuda {

namespace {

template <class Word>
__device__ Word word_at(const unsigned char* stored, std::uint64_t index, bool byte_swapped) {
    Word word = 0;
    for (unsigned byte = 0; byte < sizeof(Word); ++byte) {
        const unsigned shift = 8 * (byte_swapped ? sizeof(Word) - 1 - byte : byte);
        word |= static_cast<Word>(static_cast<Word>(stored[index * sizeof(Word) + byte]) << shift);
    }
    return word;
}

struct FromF64 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        const auto bits = word_at<std::uint64_t>(stored, index, byte_swapped);
        return __double2float_rn(__longlong_as_double(static_cast<long long>(bits)));
    }
};

struct FromF32 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return bits_float(word_at<std::uint32_t>(stored, index, byte_swapped));
    }
};

struct FromF16 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return fp16_to_float(word_at<std::uint16_t>(stored, index, byte_swapped));
    }
};

struct FromBf16 {
    bool byte_swapped;
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return bf16_to_float(word_at<std::uint16_t>(stored, index, byte_swapped));
    }
};

template <class Kind>
struct FromFp8 {
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        return fp8_to_float<Kind>(stored[index]);
    }
};

template <class Codec>
struct FromGgml {
    __device__ float operator()(const unsigned char* stored, std::uint64_t index) const {
        using Layout = GgmlLayout<Codec>;
        return Layout::value(stored + index / ggml_block * Layout::bytes,
                             static_cast<std::uint32_t>(index % ggml_block));
    }
};

template <class From>
__global__ void __launch_bounds__(block_threads)
    convert_kernel(const unsigned char* stored, std::uint64_t count, float* weights, From from) {
    const std::uint64_t index = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
    if (index < count)
        weights[index] = from(stored, index);
}

/// Calls use(how a weight of the type is read), or says that there is no way.
template <class Use>
bool with_source(DType dtype, bool byte_swapped, Use use) {
    switch (dtype) {
    case DType::f64:
        return use(FromF64{byte_swapped}), true;
    case DType::f32:
        return use(FromF32{byte_swapped}), true;
    case DType::f16:
        return use(FromF16{byte_swapped}), true;
    case DType::bf16:
        return use(FromBf16{byte_swapped}), true;
    case DType::f8_e4m3:
        return use(FromFp8<E4M3>()), true;
    case DType::f8_e5m2:
        return use(FromFp8<E5M2>()), true;
    case DType::q4_0:
        return use(FromGgml<Q4_0Codec>()), true;
    case DType::q4_1:
        return use(FromGgml<Q4_1Codec>()), true;
    case DType::q5_0:
        return use(FromGgml<Q5_0Codec>()), true;
    case DType::q5_1:
        return use(FromGgml<Q5_1Codec>()), true;
    case DType::q8_0:
        return use(FromGgml<Q8_0Codec>()), true;
    default:
        return false;
    }
}

} // namespace

bool can_convert(DType dtype) {
    return with_source(dtype, false, [](auto) {});
}

void convert_to_f32(DType dtype, bool byte_swapped, const void* stored, std::uint64_t count, float* weights,
                    cudaStream_t stream) {
    const bool converted = with_source(dtype, byte_swapped, [&](auto from) {
        const auto blocks = static_cast<unsigned>((count + block_threads - 1) / block_threads);
        convert_kernel<<<blocks, block_threads, 0, stream>>>(static_cast<const unsigned char*>(stored), count, weights,
                                                             from);
        QS_CUDA_CHECK(cudaGetLastError());
    });
    if (!converted)
        throw Error("data type " + std::string(to_string(dtype)), "is not read on the GPU");
}

} // namespace qs::cuda
