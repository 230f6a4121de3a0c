#include "gpu/decoder_kernels.h"
#include "gpu/launch.cuh"
#include "gpu/piece.h"
#include "gpu/reductions.cuh"

namespace qs::cuda {

namespace {

template <class Operation>
__global__ void __launch_bounds__(block_threads) elementwise_kernel(std::uint64_t count, Operation operation) {
    const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
    for (std::uint64_t i = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x; i < count; i += step)
        operation(i);
}

template <class Operation>
void for_each_element(std::uint64_t count, const Operation& operation, cudaStream_t stream) {
    constexpr std::uint64_t most_blocks = 1U << 20;
    const std::uint64_t blocks = threads_for(count);
    launch({blocks < most_blocks ? blocks : most_blocks, stream}, elementwise_kernel<Operation>, count, operation);
}

struct Add {
    const float* from;
    float* to;
    __device__ void operator()(std::uint64_t i) const { to[i] += from[i]; }
};

struct AddRow {
    const float* row;
    std::uint64_t columns;
    float* to;
    __device__ void operator()(std::uint64_t i) const { to[i] += row[i % columns]; }
};

struct Activate {
    Activation activation;
    const float* gate;
    const float* up;
    float* out;
    __device__ void operator()(std::uint64_t i) const {
        out[i] = gate != nullptr ? activated(activation, gate[i]) * up[i] : activated(activation, up[i]);
    }
};

struct BackwardActivate {
    Activation activation;
    const float* gate;
    const float* up;
    const float* d_out;
    float* d_gate;
    float* d_up;
    __device__ void operator()(std::uint64_t i) const {
        const float d = d_out[i];
        if (gate == nullptr) {
            d_up[i] = d * activation_derivative(activation, up[i]);
            return;
        }
        d_gate[i] = d * up[i] * activation_derivative(activation, gate[i]);
        d_up[i] = activated(activation, gate[i]) * d;
    }
};

struct SoftCap {
    float cap;
    float* values;
    __device__ void operator()(std::uint64_t i) const { values[i] = soft_capped(cap, values[i]); }
};

struct BackwardSoftCap {
    float cap;
    const float* capped;
    float* d;
    __device__ void operator()(std::uint64_t i) const { d[i] *= soft_cap_derivative(cap, capped[i]); }
};

struct SquareSum {
    double value = 0;
    __device__ void merge(const SquareSum& later) { value += later.value; }
};

__global__ void __launch_bounds__(block_threads)
    squares_kernel(const float* a, const float* less, std::uint64_t count, double* sums) {
    const std::uint64_t begin = blockIdx.x * unit_weights;
    const std::uint64_t end = begin + unit_weights < count ? begin + unit_weights : count;
    SquareSum sum;
    for (std::uint64_t i = begin + threadIdx.x; i < end; i += block_threads) {
        const double difference = static_cast<double>(less == nullptr ? a[i] : a[i] - less[i]);
        sum.value += difference * difference;
    }
    sum = block_reduce(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum.value;
}

} // namespace

void add(const float* from, float* to, std::uint64_t count, cudaStream_t stream) {
    for_each_element(count, Add{from, to}, stream);
}

void add_row(const float* row, std::uint64_t columns, float* to, std::uint64_t count, cudaStream_t stream) {
    for_each_element(count, AddRow{row, columns, to}, stream);
}

void activate(Activation activation, const float* gate, const float* up, float* out, std::uint64_t count,
              cudaStream_t stream) {
    for_each_element(count, Activate{activation, gate, up, out}, stream);
}

void backward_activate(Activation activation, const float* gate, const float* up, const float* d_out, float* d_gate,
                       float* d_up, std::uint64_t count, cudaStream_t stream) {
    for_each_element(count, BackwardActivate{activation, gate, up, d_out, d_gate, d_up}, stream);
}

void soft_cap(float cap, float* values, std::uint64_t count, cudaStream_t stream) {
    for_each_element(count, SoftCap{cap, values}, stream);
}

void backward_soft_cap(float cap, const float* capped, float* d, std::uint64_t count, cudaStream_t stream) {
    for_each_element(count, BackwardSoftCap{cap, capped, d}, stream);
}

void squares(const float* a, const float* less, std::uint64_t count, double* sums, cudaStream_t stream) {
    launch({units_in(count), stream}, squares_kernel, a, less, count, sums);
}

} // namespace qs::cuda
