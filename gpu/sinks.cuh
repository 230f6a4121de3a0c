#pragma once

#include <cmath>
#include <cstdint>

#include "gpu/binning.cuh"
#include "gpu/format_run.h"
#include "gpu/reductions.cuh"

/// What is done with each weight w, its code and its reconstruction v. A sink is a kernel's argument; its Block is the
/// part of it that one thread block works on: add() is called once a weight, finish() once by all threads.
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
        const double d = w - v, size = fabs(d);
        ++count;
        // The squares of floats are exact in float64, so contraction changes nothing here.
        sum_w2 = __fma_rn(w, w, sum_w2);
        sum_v2 = __fma_rn(v, v, sum_v2);
        sum_d2 = __fma_rn(d, d, sum_d2);
        sum_d -= d;
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
};

/// Error sums of the unit, and code usage.
struct ErrorSink {
    ErrorTarget target;
    unsigned codes; ///< distinct codes

    /// Up to this many codes are counted in shared memory, apart for each warp: weights crowd on few codes.
    static constexpr unsigned shared_codes = 256;
    unsigned shared_bytes() const {
        return target.usage != nullptr && codes <= shared_codes ? block_warps * codes * 4 : 0;
    }

    class Block {
    public:
        __device__ Block(const ErrorSink& sink, const Piece&, const Unit& unit, unsigned* shared)
            : target_(sink.target), codes_(sink.codes), unit_(unit.index),
              shared_(sink.target.usage != nullptr && sink.codes <= shared_codes ? shared : nullptr) {
            if (shared_ != nullptr)
                for (unsigned i = threadIdx.x; i < block_warps * codes_; i += block_threads)
                    shared_[i] = 0;
            __syncthreads();
        }

        __device__ void add(unsigned position, float w, unsigned code, float v) {
            sums_.add(position, w, v);
            if (shared_ != nullptr)
                atomicAdd(&shared_[threadIdx.x / warp_threads * codes_ + code], 1U);
            else if (target_.usage != nullptr)
                atomicAdd(&target_.usage[code], Count{1});
        }

        __device__ void finish() {
            const ErrorAccumulator sums = block_reduce(sums_);
            if (threadIdx.x == 0)
                write(sums);
            if (shared_ != nullptr)
                for (unsigned code = threadIdx.x; code < codes_; code += block_threads)
                    count(code);
        }

    private:
        __device__ void write(const ErrorAccumulator& sums) const {
            ErrorSums& result = target_.units[unit_];
            result.count = sums.count;
            result.nonfinite = sums.nonfinite;
            result.sum_w2 = sums.sum_w2;
            result.sum_v2 = sums.sum_v2;
            result.sum_d2 = sums.sum_d2;
            result.sum_d = sums.sum_d;
            result.max_abs = sums.max_abs;
            result.max_index = sums.max_abs > 0 ? unit_ * unit_weights + sums.max_position : 0;
        }

        __device__ void count(unsigned code) const {
            unsigned total = 0;
            for (unsigned warp = 0; warp < block_warps; ++warp)
                total += shared_[warp * codes_ + code];
            if (total != 0)
                atomicAdd(&target_.usage[code], Count{total});
        }

        ErrorTarget target_;
        unsigned codes_;
        std::uint64_t unit_;
        unsigned* shared_;
        ErrorAccumulator sums_;
    };
};

/// Histogram of the reconstructions.
struct HistogramSink {
    BinCounts bins;

    unsigned shared_bytes() const { return binning_bytes(bins.bins); }

    class Block {
    public:
        __device__ Block(const HistogramSink& sink, const Piece&, const Unit&, unsigned* shared)
            : binning_(sink.bins, shared) {}
        __device__ void add(unsigned, float, unsigned, float v) const { binning_.add(static_cast<double>(v)); }
        __device__ void finish() const { binning_.finish(); }

    private:
        Binning binning_;
    };
};

/// Codes and reconstructions of the piece, each if wanted.
struct StoreSink {
    std::uint16_t* codes;
    float* decoded;

    unsigned shared_bytes() const { return 0; }

    class Block {
    public:
        __device__ Block(const StoreSink& sink, const Piece&, const Unit& unit, unsigned*)
            : codes_(sink.codes == nullptr ? nullptr : sink.codes + unit.offset),
              decoded_(sink.decoded == nullptr ? nullptr : sink.decoded + unit.offset) {}
        __device__ void add(unsigned position, float, unsigned code, float v) const {
            if (codes_ != nullptr)
                codes_[position] = static_cast<std::uint16_t>(code);
            if (decoded_ != nullptr)
                decoded_[position] = v;
        }
        __device__ void finish() const {}

    private:
        std::uint16_t* codes_;
        float* decoded_;
    };
};

} // namespace qs::cuda
