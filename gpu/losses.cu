#include "gpu/decoder_kernels.h"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

// A thread block has a row of logits; sums are taken in float64.

namespace qs::cuda {

namespace {

struct Top {
    float value;
    unsigned column;
    __device__ void merge(const Top& later) {
        if (later.value > value || (later.value == value && later.column < column))
            *this = later;
    }
};

struct Sum {
    double value = 0;
    __device__ void merge(const Sum& later) { value += later.value; }
};

/// For all threads of the block what its first one has.
template <class T>
__device__ T of_first_thread(const T& value) {
    __shared__ double room[(sizeof(T) + 7) / 8];
    T* const shared = reinterpret_cast<T*>(room);
    if (threadIdx.x == 0)
        *shared = value;
    __syncthreads();
    const T result = *shared;
    __syncthreads();
    return result;
}

/// ln p of a logit is it less log_sum.
struct RowStatistics {
    double log_sum;
    unsigned top;
};

__device__ RowStatistics statistics_of(const float* logits, unsigned columns) {
    Top top{-INFINITY, columns};
    for (unsigned i = threadIdx.x; i < columns; i += block_threads)
        top.merge({logits[i], i});
    top = of_first_thread(block_reduce(top));
    Sum sum;
    for (unsigned i = threadIdx.x; i < columns; i += block_threads)
        sum.value += static_cast<double>(expf(logits[i] - top.value));
    sum = of_first_thread(block_reduce(sum));
    return {static_cast<double>(top.value) + log(sum.value), top.column};
}

__device__ double log_probability(const float* logits, unsigned column, const RowStatistics& row) {
    return static_cast<double>(logits[column]) - row.log_sum;
}

__device__ void cross_entropy(float scale, unsigned target, float* logits, unsigned columns, double& loss) {
    const RowStatistics row = statistics_of(logits, columns);
    for (unsigned i = threadIdx.x; i < columns; i += block_threads) {
        const double log_p = log_probability(logits, i, row);
        if (i == target)
            loss = -log_p;
        logits[i] = expf(static_cast<float>(log_p)) * scale - (i == target ? scale : 0.0f);
    }
}

__device__ void divergence(float scale, const float* teacher, float* logits, unsigned columns, double& loss) {
    const RowStatistics of_teacher = statistics_of(teacher, columns), row = statistics_of(logits, columns);
    Sum sum;
    for (unsigned i = threadIdx.x; i < columns; i += block_threads) {
        const double log_p = log_probability(teacher, i, of_teacher), log_q = log_probability(logits, i, row);
        const float p = expf(static_cast<float>(log_p)), q = expf(static_cast<float>(log_q));
        sum.value += static_cast<double>(p) * (log_p - log_q);
        logits[i] = (q - p) * scale;
    }
    sum = block_reduce(sum);
    if (threadIdx.x == 0)
        loss = sum.value;
}

__global__ void __launch_bounds__(block_threads) losses_kernel(float scale, const int* targets, const float* teacher,
                                                               float* logits, unsigned columns, double* losses) {
    const std::uint64_t row = blockIdx.x;
    const int target = targets[row];
    logits += row * columns;
    if (target < 0) {
        for (unsigned i = threadIdx.x; i < columns; i += block_threads)
            logits[i] = 0;
        if (threadIdx.x == 0)
            losses[row] = 0;
    } else if (teacher != nullptr) {
        divergence(scale, teacher + row * columns, logits, columns, losses[row]);
    } else {
        cross_entropy(scale, static_cast<unsigned>(target), logits, columns, losses[row]);
    }
}

__global__ void __launch_bounds__(block_threads)
    score_kernel(const float* logits, const float* reference, const int* targets, unsigned columns, RowScore* scores) {
    const std::uint64_t row = blockIdx.x;
    logits += row * columns;
    reference += row * columns;
    const RowStatistics p = statistics_of(reference, columns), q = statistics_of(logits, columns);
    // Σ p (ln p − ln q), where each logarithm is a logit less its row's ln Σ exp.
    Sum sum;
    for (unsigned i = threadIdx.x; i < columns; i += block_threads)
        sum.value += static_cast<double>(expf(static_cast<float>(log_probability(reference, i, p)))) *
                     static_cast<double>(reference[i] - logits[i]);
    sum = block_reduce(sum);
    if (threadIdx.x == 0)
        scores[row] = {-log_probability(logits, static_cast<unsigned>(targets[row]), q),
                       sum.value + (q.log_sum - p.log_sum), p.top == q.top};
}

} // namespace

void losses(double scale, const int* targets, const float* teacher, float* logits, std::uint64_t rows, unsigned columns,
            double* losses, cudaStream_t stream) {
    launch({rows, stream}, losses_kernel, static_cast<float>(scale), targets, teacher, logits, columns, losses);
}

void score(const float* logits, const float* reference, const int* targets, std::uint64_t rows, unsigned columns,
           RowScore* scores, cudaStream_t stream) {
    launch({rows, stream}, score_kernel, logits, reference, targets, columns, scores);
}

} // namespace qs::cuda
