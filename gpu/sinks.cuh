#pragma once

#include <cmath>
#include <cstdint>

#include "gpu/binning.cuh"
#include "gpu/format_run.h"
#include "gpu/reductions.cuh"

/// What is done with each weight w, its code and its reconstruction v.
namespace qs::cuda {

/// Sums of a thread over its weights, as ErrorSums.
struct ErrorAccumulator {
    double sum_w2 = 0, sum_v2 = 0, sum_d2 = 0, sum_d = 0;
    double max_abs = 0;
    unsigned max_position = 0;
    unsigned count = 0, nonfinite = 0;
    unsigned unused = 0; ///< whole words for the shuffles, and no undefined bytes among them

    __device__ void add(unsigned position, float weight, float reconstruction) {
        if (!isfinite(weight) || !isfinite(reconstruction)) {
            ++nonfinite;
            return;
        }
        const double w = static_cast<double>(weight), v = static_cast<double>(reconstruction);
        const double d = w - v;
        ++count;
        // The squares of floats are exact in float64, so contraction changes nothing here.
        sum_w2 = __fma_rn(w, w, sum_w2);
        sum_v2 = __fma_rn(v, v, sum_v2);
        sum_d2 = __fma_rn(d, d, sum_d2);
        sum_d -= d;
        keep_largest(position, d);
    }

    __device__ void keep_largest(unsigned position, double d) {
        const double size = fabs(d);
        if (size > max_abs) {
            max_abs = size;
            max_position = position;
        }
    }

    __device__ void merge(const ErrorAccumulator& other) {
        sum_w2 += other.sum_w2;
        sum_v2 += other.sum_v2;
        sum_d2 += other.sum_d2;
        sum_d += other.sum_d;
        count += other.count;
        nonfinite += other.nonfinite;
        const bool earlier = other.max_abs == max_abs && other.max_position < max_position;
        if (other.max_abs > max_abs || earlier) {
            max_abs = other.max_abs;
            max_position = other.max_position;
        }
    }

    __device__ void write(std::uint64_t unit, ErrorSums& result) const {
        result.count = count;
        result.nonfinite = nonfinite;
        result.sum_w2 = sum_w2;
        result.sum_v2 = sum_v2;
        result.sum_d2 = sum_d2;
        result.sum_d = sum_d;
        result.max_abs = max_abs;
        result.max_index = max_abs > 0 ? unit * unit_weights + max_position : 0;
    }
};

/// Up to this many codes are counted in shared memory, apart for each warp: weights crowd on few codes.
inline constexpr unsigned shared_codes = 256;

/// Words of dynamic shared memory that UsageCounter takes.
__host__ __device__ inline unsigned usage_words(const Count* usage, unsigned codes) {
    return usage != nullptr && codes <= shared_codes ? block_warps * codes : 0;
}

/// Counts the codes of a thread block. All threads must make one and call finish().
class UsageCounter {
public:
    /// `shared` has usage_words().
    __device__ UsageCounter(Count* usage, unsigned codes, unsigned* shared)
        : usage_(usage), codes_(codes), shared_(usage_words(usage, codes) > 0 ? shared : nullptr) {
        if (shared_ != nullptr)
            for (unsigned i = threadIdx.x; i < block_warps * codes_; i += blockDim.x)
                shared_[i] = 0;
        __syncthreads();
    }

    __device__ void add(unsigned code) const {
        if (shared_ != nullptr)
            atomicAdd(&shared_[threadIdx.x / warp_threads * codes_ + code], 1U);
        else if (usage_ != nullptr)
            atomicAdd(&usage_[code], Count{1});
    }

    /// The first `present` of eight.
    __device__ void add(const std::uint32_t (&codes)[8], unsigned present) const {
        if (shared_ == nullptr && usage_ == nullptr)
            return;
        unsigned* const own = shared_ == nullptr ? nullptr : shared_ + threadIdx.x / warp_threads * codes_;
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
            if (i < present && own != nullptr)
                atomicAdd(&own[codes[i]], 1U);
            else if (i < present)
                atomicAdd(&usage_[codes[i]], Count{1});
    }

    __device__ void finish() const {
        __syncthreads();
        if (shared_ != nullptr)
            for (unsigned code = threadIdx.x; code < codes_; code += blockDim.x)
                count(code);
        __syncthreads();
    }

private:
    __device__ void count(unsigned code) const {
        unsigned total = 0;
        for (unsigned warp = 0; warp < block_warps; ++warp)
            total += shared_[warp * codes_ + code];
        if (total != 0)
            atomicAdd(&usage_[code], Count{total});
    }

    Count* usage_;
    unsigned codes_;
    unsigned* shared_;
};

/// Words of dynamic shared memory of a thread block with this sink.
__host__ __device__ inline unsigned shared_words(const Sink& sink) {
    return usage_words(sink.usage, sink.codes) + binning_words(sink.bins);
}

/// The part of a sink that one thread block works on: add() is called once a weight, finish() once by all threads.
class SinkBlock {
public:
    __device__ SinkBlock(const Sink& sink, const Unit& unit)
        : sink_(sink), unit_(unit), usage_(sink.usage, sink.codes, dynamic_shared()),
          binning_(sink.bins, dynamic_shared() + usage_words(sink.usage, sink.codes)) {}

    __device__ void add(unsigned position, float w, std::uint32_t code, float v) {
        if (sink_.errors != nullptr)
            sums_.add(position, w, v);
        usage_.add(code);
        binning_.add(static_cast<double>(v));
        const std::uint64_t at = unit_.offset + position;
        if (sink_.codes16 != nullptr)
            sink_.codes16[at] = static_cast<std::uint16_t>(code);
        if (sink_.codes8 != nullptr)
            sink_.codes8[at] = static_cast<std::uint8_t>(code);
        if (sink_.codes32 != nullptr)
            sink_.codes32[at] = code;
        if (sink_.decoded != nullptr)
            sink_.decoded[at] = v;
    }

    __device__ void finish() {
        if (sink_.errors != nullptr) {
            const ErrorAccumulator sums = block_reduce(sums_);
            if (threadIdx.x == 0)
                sums.write(unit_.index, sink_.errors[unit_.index]);
        }
        usage_.finish();
        binning_.finish();
    }

private:
    const Sink& sink_;
    Unit unit_;
    UsageCounter usage_;
    Binning binning_;
    ErrorAccumulator sums_;
};

} // namespace qs::cuda
