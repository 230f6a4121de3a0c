#pragma once

#include <cstdint>
#include <span>

#include <cuda_runtime_api.h>

#include "core/device/layer_math.h"

// The kernels behind LayerMath, over addresses of the device: matrices lie row after row without a gap. Sums are taken
// in an order that only shapes decide, and nothing is added atomically.

namespace qs::cuda {

// --- elementwise.cu ------------------------------------------------------------------------------------------------

/// to += from
void add(const float* from, float* to, std::uint64_t count, cudaStream_t stream);
/// Every row of `to` += row
void add_row(const float* row, std::uint64_t columns, float* to, std::uint64_t count, cudaStream_t stream);
/// `gate` may be null.
void activate(Activation activation, const float* gate, const float* up, float* out, std::uint64_t count,
              cudaStream_t stream);
void backward_activate(Activation activation, const float* gate, const float* up, const float* d_out, float* d_gate,
                       float* d_up, std::uint64_t count, cudaStream_t stream);
void soft_cap(float cap, float* values, std::uint64_t count, cudaStream_t stream);
void backward_soft_cap(float cap, const float* capped, float* d, std::uint64_t count, cudaStream_t stream);
/// Σ (a − less)² of each unit_weights values (piece.h); `less` may be null.
void squares(const float* a, const float* less, std::uint64_t count, double* sums, cudaStream_t stream);

// --- norms.cu ------------------------------------------------------------------------------------------------------

/// Groups of `size` values; `bias` may be null.
void normalise(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in, const float* weight,
               const float* bias, float* out, cudaStream_t stream);

/// Mean and 1 / √(variance + ε) of a group.
struct GroupStatistics {
    double mean, scale;
};
void group_statistics(bool centred, double epsilon, std::uint64_t groups, unsigned size, const float* in,
                      GroupStatistics* statistics, cudaStream_t stream);
/// What is to be added to d_in, or to replace it.
void backward_normalise(bool centred, std::uint64_t groups, unsigned size, const float* in, const float* weight,
                        const GroupStatistics* statistics, const float* d_out, float* d_in, bool replace,
                        cudaStream_t stream);

/// Rows whose sums are taken on their own.
inline constexpr unsigned summed_rows = 64;
inline std::uint64_t partial_sums(std::uint64_t rows, std::uint64_t columns) {
    return (rows + summed_rows - 1) / summed_rows * columns;
}
/// sum += Σ of the rows; `partials` has room for partial_sums().
void add_column_sums(const float* rows, std::uint64_t count, unsigned columns, double* partials, float* sum,
                     cudaStream_t stream);
/// The same of d_out · (in − mean) · scale.
void add_weight_sums(const float* in, const GroupStatistics* statistics, const float* d_out, std::uint64_t groups,
                     unsigned size, double* partials, float* sum, cudaStream_t stream);

// --- attention.cu --------------------------------------------------------------------------------------------------

/// Sequences that one launch takes, as it is given them by value.
inline constexpr unsigned most_sequences = 64;

/// Where heads lie and which keys a query sees.
struct AttentionLayout {
    unsigned heads, kv_heads, head_size;
    unsigned first;  ///< the position of a sequence's first query
    unsigned window; ///< 0: all
    float scale, cap;
};
struct AttentionMatrices {
    const float *q, *keys, *values;
    float *out, *log_sums;
    const float *d_out, *delta; ///< the rest is of the way back
    float *d_q, *d_k, *d_v;
};
/// The largest head that fits in a block's memory.
inline constexpr unsigned largest_head = 256;

void turn(std::span<const Sequence> sequences, unsigned first, unsigned head_size, const float* cosines,
          const float* sines, unsigned pairs, float direction, float* heads, unsigned columns, cudaStream_t stream);
void attend(const AttentionLayout& layout, std::span<const Sequence> sequences, const AttentionMatrices& matrices,
            cudaStream_t stream);
/// delta = Σ out · d_out of each head of each row.
void attention_delta(const float* out, const float* d_out, std::uint64_t heads_of_rows, unsigned head_size,
                     float* delta, cudaStream_t stream);
void backward_attend(const AttentionLayout& layout, std::span<const Sequence> sequences,
                     const AttentionMatrices& matrices, cudaStream_t stream);

// --- losses.cu -----------------------------------------------------------------------------------------------------

/// As LayerMath::losses(), with a loss a row; `teacher` may be null.
void losses(double scale, const int* targets, const float* teacher, float* logits, std::uint64_t rows, unsigned columns,
            double* losses, cudaStream_t stream);
void score(const float* logits, const float* reference, const int* targets, std::uint64_t rows, unsigned columns,
           RowScore* scores, cudaStream_t stream);

} // namespace qs::cuda
