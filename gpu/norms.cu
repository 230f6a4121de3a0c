#include "gpu/decoder_kernels.h"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

// A warp has a group: sums in float64, as on the CPU.

namespace qs::cuda {

namespace {

/// The sum over the lanes of a warp, for all of them.
__device__ double warp_sum(double value) {
    for (unsigned delta = 1; delta < warp_threads; delta *= 2)
        value += shuffle_across(0xffffffffU, value, delta);
    return value;
}

/// The warp's number in the grid.
__device__ std::uint64_t warp_number() {
    return std::uint64_t{blockIdx.x} * block_warps + threadIdx.x / warp_threads;
}

__device__ GroupStatistics statistics_of(bool centred, double epsilon, unsigned size, const float* in) {
    const unsigned lane = threadIdx.x % warp_threads;
    double mean = 0, square = 0;
    if (centred) {
        for (unsigned i = lane; i < size; i += warp_threads)
            mean += static_cast<double>(in[i]);
        mean = warp_sum(mean) / size;
    }
    for (unsigned i = lane; i < size; i += warp_threads) {
        const double x = static_cast<double>(in[i]) - mean;
        square += x * x;
    }
    return {mean, 1 / sqrt(warp_sum(square) / size + epsilon)};
}

__global__ void __launch_bounds__(block_threads)
    normalise_kernel(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in,
                     const float* weight, const float* bias, float* out) {
    const std::uint64_t group = warp_number();
    if (group >= groups)
        return;
    in += group * size;
    out += group * size;
    const GroupStatistics statistics = statistics_of(centred, epsilon, size, in);
    const float mean = static_cast<float>(statistics.mean), scale = static_cast<float>(statistics.scale);
    for (unsigned i = threadIdx.x % warp_threads; i < size; i += warp_threads) {
        const float normed = (in[i] - mean) * scale * weight[i];
        out[i] = bias != nullptr ? normed + bias[i] : normed;
    }
}

__global__ void __launch_bounds__(block_threads)
    statistics_kernel(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in,
                      GroupStatistics* statistics) {
    const std::uint64_t group = warp_number();
    if (group >= groups)
        return;
    const GroupStatistics own = statistics_of(centred, epsilon, size, in + group * size);
    if (threadIdx.x % warp_threads == 0)
        statistics[group] = own;
}

/// With x̂ = (x − mean) · s and y = x̂ · weight + bias: dx = s · (dx̂ − mean dx̂ − x̂ · mean(dx̂ · x̂)); RMS norm has no
/// means of x and dx̂.
__global__ void __launch_bounds__(block_threads)
    backward_kernel(bool centred, std::uint64_t groups, unsigned size, const float* in, const float* weight,
                    const GroupStatistics* statistics, const float* d_out, float* d_in, bool replace) {
    const std::uint64_t group = warp_number();
    if (group >= groups)
        return;
    in += group * size;
    d_out += group * size;
    d_in += group * size;
    const unsigned lane = threadIdx.x % warp_threads;
    const double mean = statistics[group].mean, scale = statistics[group].scale;
    double along = 0, shift = 0;
    for (unsigned i = lane; i < size; i += warp_threads) {
        const double d_normed = static_cast<double>(d_out[i]) * static_cast<double>(weight[i]);
        along += d_normed * (static_cast<double>(in[i]) - mean) * scale;
        shift += d_normed;
    }
    along = warp_sum(along) / size;
    shift = centred ? warp_sum(shift) / size : 0;
    for (unsigned i = lane; i < size; i += warp_threads) {
        const double d_normed = static_cast<double>(d_out[i]) * static_cast<double>(weight[i]);
        const double normed = (static_cast<double>(in[i]) - mean) * scale;
        const float d = static_cast<float>((d_normed - shift - normed * along) * scale);
        d_in[i] = replace ? d : d_in[i] + d;
    }
}

/// What is summed over rows.
struct Values {
    const float* rows;
    unsigned columns;
    __device__ double operator()(std::uint64_t row, unsigned column) const {
        return static_cast<double>(rows[row * columns + column]);
    }
};
struct WeightGradients {
    const float* in;
    const float* d_out;
    const GroupStatistics* statistics;
    unsigned columns;
    __device__ double operator()(std::uint64_t row, unsigned column) const {
        const std::uint64_t at = row * columns + column;
        return static_cast<double>(d_out[at]) * (static_cast<double>(in[at]) - statistics[row].mean) *
               statistics[row].scale;
    }
};

/// A thread has a column, a block neighbouring columns of summed_rows rows.
template <class Source>
__global__ void __launch_bounds__(block_threads)
    partial_sums_kernel(Source source, std::uint64_t rows, unsigned columns, unsigned column_blocks, double* partials) {
    const std::uint64_t chunk = blockIdx.x / column_blocks;
    const unsigned column = blockIdx.x % column_blocks * block_threads + threadIdx.x;
    if (column >= columns)
        return;
    const std::uint64_t begin = chunk * summed_rows, end = begin + summed_rows < rows ? begin + summed_rows : rows;
    double sum = 0;
    for (std::uint64_t row = begin; row < end; ++row)
        sum += source(row, column);
    partials[chunk * columns + column] = sum;
}

__global__ void __launch_bounds__(block_threads)
    add_partials_kernel(const double* partials, std::uint64_t chunks, unsigned columns, float* to) {
    const unsigned column = blockIdx.x * block_threads + threadIdx.x;
    if (column >= columns)
        return;
    double sum = 0;
    for (std::uint64_t chunk = 0; chunk < chunks; ++chunk)
        sum += partials[chunk * columns + column];
    to[column] += static_cast<float>(sum);
}

template <class Source>
void add_sums(const Source& source, std::uint64_t rows, unsigned columns, double* partials, float* sum,
              cudaStream_t stream) {
    const std::uint64_t chunks = (rows + summed_rows - 1) / summed_rows, column_blocks = threads_for(columns);
    launch({chunks * column_blocks, stream}, partial_sums_kernel<Source>, source, rows, columns,
           static_cast<unsigned>(column_blocks), partials);
    launch({column_blocks, stream}, add_partials_kernel, partials, chunks, columns, sum);
}

} // namespace

void normalise(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in, const float* weight,
               const float* bias, float* out, cudaStream_t stream) {
    launch({warps_for(groups), stream}, normalise_kernel, centred, epsilon, groups, size, in, weight, bias, out);
}

void group_statistics(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in,
                      GroupStatistics* statistics, cudaStream_t stream) {
    launch({warps_for(groups), stream}, statistics_kernel, centred, epsilon, groups, size, in, statistics);
}

void backward_normalise(bool centred, std::uint64_t groups, unsigned size, const float* in, const float* weight,
                        const GroupStatistics* statistics, const float* d_out, float* d_in, bool replace,
                        cudaStream_t stream) {
    launch({warps_for(groups), stream}, backward_kernel, centred, groups, size, in, weight, statistics, d_out, d_in,
           replace);
}

void add_column_sums(const float* rows, std::uint64_t count, unsigned columns, double* partials, float* sum,
                     cudaStream_t stream) {
    add_sums(Values{rows, columns}, count, columns, partials, sum, stream);
}

void add_weight_sums(const float* in, const GroupStatistics* statistics, const float* d_out, std::uint64_t groups,
                     unsigned size, double* partials, float* sum, cudaStream_t stream) {
    add_sums(WeightGradients{in, d_out, statistics, size}, groups, size, partials, sum, stream);
}

} // namespace qs::cuda
