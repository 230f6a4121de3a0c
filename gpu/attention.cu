#include "gpu/decoder_kernels.h"
#include "gpu/launch.cuh"
#include "gpu/reductions.cuh"

// Attention without a matrix of all scores: a thread block keeps some rows (queries, or on the way back also keys with
// their values) and lets the others pass by in tiles of 32, one for each lane of a warp, as in Dao et al. 2022,
// FlashAttention. A warp has a few of the rows; a lane has the score of each with its own column of the tile, and then
// some of the dimensions of what the row sums over the tile.

namespace qs::cuda {

namespace {

constexpr unsigned tile_columns = warp_threads;

/// The sequences, by value.
struct SequenceList {
    unsigned count = 0;
    unsigned begin[most_sequences], length[most_sequences];
};

/// Some rows of a sequence.
struct Place {
    unsigned begin, length; ///< the sequence
    unsigned row;           ///< of its rows the first of these
};

/// The place of the `index`-th block, where every sequence has a block for each `rows` of its rows.
__device__ Place place_of(const SequenceList& list, unsigned index, unsigned rows) {
    for (unsigned i = 0; i < list.count; ++i) {
        const unsigned blocks = (list.length[i] + rows - 1) / rows;
        if (index < blocks)
            return {list.begin[i], list.length[i], index * rows};
        index -= blocks;
    }
    return {0, 0, 0};
}

/// How the work is divided for heads of up to 32 · chunks dimensions. The rows of a block (twice on the way back) and a
/// tile fit in the 48 KiB of shared memory that every GPU gives.
template <unsigned chunks, bool backward>
struct Shape {
    static constexpr unsigned width = warp_threads * chunks;
    static constexpr unsigned rows_a_warp = chunks == 8 && backward ? 2 : 4;
    static constexpr unsigned warps = chunks == 8 ? 4 : 8;
    static constexpr unsigned threads = warps * warp_threads;
    static constexpr unsigned rows = warps * rows_a_warp;
    static constexpr std::size_t shared_bytes = ((backward ? 2 : 1) * rows + tile_columns) * width * sizeof(float);
    static_assert(shared_bytes <= std::size_t{48} << 10);
};

/// Where a dimension of a column lies in a tile: groups of four change places so that lanes that read the same group of
/// different columns meet no bank twice.
template <unsigned width>
__device__ unsigned place_in_tile(unsigned column, unsigned dimension) {
    return column * width + ((dimension / 4) ^ (column % 8)) * 4 + dimension % 4;
}

/// Columns [0, count) of a tile from rows of a matrix; what is beyond them or the head is 0.
template <unsigned width>
__device__ void load_tile(const float* from, unsigned stride, unsigned count, unsigned size, float* tile) {
    for (unsigned i = threadIdx.x; i < tile_columns * width; i += blockDim.x) {
        const unsigned column = i / width, dimension = i % width;
        const bool present = column < count && dimension < size;
        tile[place_in_tile<width>(column, dimension)] =
            present ? from[std::uint64_t{column} * stride + dimension] : 0.0f;
    }
}

/// The rows that the block keeps.
template <unsigned width>
__device__ void load_rows(const float* from, unsigned stride, unsigned count, unsigned rows, unsigned size, float* to) {
    for (unsigned i = threadIdx.x; i < rows * width; i += blockDim.x) {
        const unsigned row = i / width, dimension = i % width;
        const bool present = row < count && dimension < size;
        to[i] = present ? from[std::uint64_t{row} * stride + dimension] : 0.0f;
    }
}

/// The products of the warp's rows with the lane's column.
template <unsigned width, unsigned count>
__device__ void multiply_rows(const float* rows, const float* tile, float (&products)[count]) {
    const unsigned lane = threadIdx.x % warp_threads;
#pragma unroll
    for (float& product : products)
        product = 0;
#pragma unroll 4
    for (unsigned dimension = 0; dimension < width; dimension += 4) {
        const float4 b = *reinterpret_cast<const float4*>(&tile[place_in_tile<width>(lane, dimension)]);
#pragma unroll
        for (unsigned row = 0; row < count; ++row) {
            const float4 a = *reinterpret_cast<const float4*>(&rows[row * width + dimension]);
            products[row] = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, products[row]))));
        }
    }
}

/// sums += Σ over the tile's columns of each lane's factors times the column: a lane has dimensions lane, lane + 32, ….
template <unsigned chunks, unsigned count>
__device__ void add_columns(const float (&factors)[count], const float* tile, float (&sums)[count][chunks]) {
    const unsigned lane = threadIdx.x % warp_threads;
#pragma unroll 4
    for (unsigned column = 0; column < tile_columns; ++column) {
        float values[chunks];
#pragma unroll
        for (unsigned chunk = 0; chunk < chunks; ++chunk)
            values[chunk] = tile[place_in_tile<warp_threads * chunks>(column, chunk * warp_threads + lane)];
#pragma unroll
        for (unsigned row = 0; row < count; ++row) {
            const float factor = __shfl_sync(0xffffffffU, factors[row], static_cast<int>(column));
#pragma unroll
            for (unsigned chunk = 0; chunk < chunks; ++chunk)
                sums[row][chunk] = fmaf(factor, values[chunk], sums[row][chunk]);
        }
    }
}

template <unsigned chunks>
__device__ void store_row(const float (&sums)[chunks], float factor, unsigned size, float* to) {
    const unsigned lane = threadIdx.x % warp_threads;
#pragma unroll
    for (unsigned chunk = 0; chunk < chunks; ++chunk)
        if (const unsigned dimension = chunk * warp_threads + lane; dimension < size)
            to[dimension] = sums[chunk] * factor;
}

__device__ float warp_max(float value) {
    for (unsigned delta = 1; delta < warp_threads; delta *= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, static_cast<int>(delta)));
    return value;
}
__device__ float warp_sum(float value) {
    for (unsigned delta = 1; delta < warp_threads; delta *= 2)
        value += __shfl_xor_sync(0xffffffffU, value, static_cast<int>(delta));
    return value;
}

/// The score of a product of a query and a key.
__device__ float score_of(const AttentionLayout& layout, float product) {
    const float score = product * layout.scale;
    return layout.cap != 0 ? soft_capped(layout.cap, score) : score;
}

__device__ bool sees(const AttentionLayout& layout, unsigned query, unsigned key) {
    return key <= query && (layout.window == 0 || key + layout.window > query);
}

__device__ unsigned first_key_of(const AttentionLayout& layout, unsigned query) {
    return layout.window == 0 || query + 1 < layout.window ? 0 : query + 1 - layout.window;
}

__device__ unsigned least(unsigned a, unsigned b) {
    return a < b ? a : b;
}

__device__ float* shared_floats() {
    return reinterpret_cast<float*>(dynamic_shared());
}

struct Arguments {
    AttentionLayout layout;
    AttentionMatrices m;
    SequenceList list;
};

// --- forward -------------------------------------------------------------------------------------------------------

/// The sums so far of one row: scores less `largest` have been exponentiated.
struct Running {
    float largest = -INFINITY, sum = 0;
};

/// Turns the lane's score into its exponential; returns what earlier sums are to be multiplied by.
__device__ float advance(Running& running, bool seen, float& score) {
    const float largest = fmaxf(running.largest, warp_max(seen ? score : -INFINITY));
    const float rescaled = running.largest == -INFINITY ? 0.0f : expf(running.largest - largest);
    score = seen ? expf(score - largest) : 0.0f;
    running.sum = running.sum * rescaled + warp_sum(score);
    running.largest = largest;
    return rescaled;
}

template <unsigned chunks>
__global__ void __launch_bounds__(Shape<chunks, false>::threads) attend_kernel(const __grid_constant__ Arguments a) {
    using S = Shape<chunks, false>;
    const AttentionLayout& l = a.layout;
    const unsigned head = blockIdx.x % l.heads, warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    const Place place = place_of(a.list, blockIdx.x / l.heads, S::rows);
    const unsigned stride = l.heads * l.head_size, kv_stride = l.kv_heads * l.head_size;
    const unsigned count = least(S::rows, place.length - place.row);
    const std::uint64_t at = std::uint64_t{place.begin + place.row} * stride + head * l.head_size;
    const std::uint64_t kv_at = std::uint64_t{place.begin} * kv_stride + head / (l.heads / l.kv_heads) * l.head_size;
    float* const rows = shared_floats();
    float* const tile = rows + S::rows * S::width;
    load_rows<S::width>(a.m.q + at, stride, count, S::rows, l.head_size, rows);

    const float* const own = rows + warp * S::rows_a_warp * S::width;
    const unsigned query = l.first + place.row + warp * S::rows_a_warp; // the warp's first
    const unsigned last_key = l.first + place.row + count;              // past the last that any row sees
    Running running[S::rows_a_warp];
    float sums[S::rows_a_warp][chunks] = {};
    for (unsigned key = first_key_of(l, l.first + place.row); key < last_key; key += tile_columns) {
        const std::uint64_t keys_at = kv_at + std::uint64_t{key} * kv_stride;
        float scores[S::rows_a_warp];
        __syncthreads();
        load_tile<S::width>(a.m.keys + keys_at, kv_stride, last_key - key, l.head_size, tile);
        __syncthreads();
        multiply_rows<S::width>(own, tile, scores);
#pragma unroll
        for (unsigned row = 0; row < S::rows_a_warp; ++row) {
            scores[row] = score_of(l, scores[row]);
            const bool seen = key + lane < last_key && sees(l, query + row, key + lane);
            const float rescaled = advance(running[row], seen, scores[row]);
#pragma unroll
            for (float& sum : sums[row])
                sum *= rescaled;
        }
        __syncthreads();
        load_tile<S::width>(a.m.values + keys_at, kv_stride, last_key - key, l.head_size, tile);
        __syncthreads();
        add_columns<chunks>(scores, tile, sums);
    }
    for (unsigned row = 0; row < S::rows_a_warp; ++row) {
        const unsigned number = warp * S::rows_a_warp + row;
        if (number >= count)
            break;
        store_row(sums[row], 1 / running[row].sum, l.head_size, a.m.out + at + std::uint64_t{number} * stride);
        if (lane == 0)
            a.m.log_sums[std::uint64_t{place.begin + place.row + number} * l.heads + head] =
                running[row].largest + logf(running[row].sum);
    }
}

// --- backward ------------------------------------------------------------------------------------------------------

// With P = softmax(S) and out = P·V: dV = Pᵀ·dout, dP = dout·Vᵀ, dS = P ∘ (dP − delta) with delta = rowsum(P ∘ dP) =
// rowsum(out ∘ dout), dQ = dS·K, dK = dSᵀ·Q. P comes from the scores and log_sums.

__global__ void __launch_bounds__(block_threads)
    delta_kernel(const float* out, const float* d_out, std::uint64_t count, unsigned size, float* delta) {
    const std::uint64_t head = std::uint64_t{blockIdx.x} * block_warps + threadIdx.x / warp_threads;
    if (head >= count)
        return;
    const unsigned lane = threadIdx.x % warp_threads;
    float sum = 0;
    for (unsigned i = lane; i < size; i += warp_threads)
        sum = fmaf(out[head * size + i], d_out[head * size + i], sum);
    sum = warp_sum(sum);
    if (lane == 0)
        delta[head] = sum;
}

/// The gradient of a product of a query and a key, from that of the weight that its score became.
__device__ float score_gradient(const AttentionLayout& layout, float score, float weight, float d_weight, float delta) {
    const float d = weight * (d_weight - delta);
    return (layout.cap != 0 ? d * soft_cap_derivative(layout.cap, score) : d) * layout.scale;
}

/// dQ: the block keeps queries, keys and values pass by.
template <unsigned chunks>
__global__ void __launch_bounds__(Shape<chunks, true>::threads)
    backward_queries_kernel(const __grid_constant__ Arguments a) {
    using S = Shape<chunks, true>;
    const AttentionLayout& l = a.layout;
    const unsigned head = blockIdx.x % l.heads, warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    const Place place = place_of(a.list, blockIdx.x / l.heads, S::rows);
    const unsigned stride = l.heads * l.head_size, kv_stride = l.kv_heads * l.head_size;
    const unsigned count = least(S::rows, place.length - place.row);
    const std::uint64_t at = std::uint64_t{place.begin + place.row} * stride + head * l.head_size;
    const std::uint64_t kv_at = std::uint64_t{place.begin} * kv_stride + head / (l.heads / l.kv_heads) * l.head_size;
    float* const rows = shared_floats();
    float* const d_rows = rows + S::rows * S::width;
    float* const tile = d_rows + S::rows * S::width;
    load_rows<S::width>(a.m.q + at, stride, count, S::rows, l.head_size, rows);
    load_rows<S::width>(a.m.d_out + at, stride, count, S::rows, l.head_size, d_rows);

    const unsigned first = warp * S::rows_a_warp, last_key = place.row + count;
    float log_sums[S::rows_a_warp], delta[S::rows_a_warp];
#pragma unroll
    for (unsigned row = 0; row < S::rows_a_warp; ++row) {
        const std::uint64_t number = std::uint64_t{place.begin + least(place.row + first + row, place.length - 1)};
        log_sums[row] = a.m.log_sums[number * l.heads + head];
        delta[row] = a.m.delta[number * l.heads + head];
    }
    float sums[S::rows_a_warp][chunks] = {};
    for (unsigned key = first_key_of(l, place.row); key < last_key; key += tile_columns) {
        const std::uint64_t keys_at = kv_at + std::uint64_t{key} * kv_stride;
        float scores[S::rows_a_warp], d[S::rows_a_warp];
        __syncthreads();
        load_tile<S::width>(a.m.values + keys_at, kv_stride, last_key - key, l.head_size, tile);
        __syncthreads();
        multiply_rows<S::width>(d_rows + first * S::width, tile, d);
        __syncthreads();
        load_tile<S::width>(a.m.keys + keys_at, kv_stride, last_key - key, l.head_size, tile);
        __syncthreads();
        multiply_rows<S::width>(rows + first * S::width, tile, scores);
#pragma unroll
        for (unsigned row = 0; row < S::rows_a_warp; ++row) {
            const float score = score_of(l, scores[row]);
            const bool seen = key + lane < last_key && sees(l, place.row + first + row, key + lane);
            d[row] = seen ? score_gradient(l, score, expf(score - log_sums[row]), d[row], delta[row]) : 0.0f;
        }
        add_columns<chunks>(d, tile, sums);
    }
    for (unsigned row = 0; row < S::rows_a_warp && first + row < count; ++row)
        store_row(sums[row], 1, l.head_size, a.m.d_q + at + std::uint64_t{first + row} * stride);
}

/// dK and dV: the block keeps keys and values, the queries of all heads that share them pass by.
template <unsigned chunks>
__global__ void __launch_bounds__(Shape<chunks, true>::threads)
    backward_keys_kernel(const __grid_constant__ Arguments a) {
    using S = Shape<chunks, true>;
    const AttentionLayout& l = a.layout;
    const unsigned kv_head = blockIdx.x % l.kv_heads, warp = threadIdx.x / warp_threads,
                   lane = threadIdx.x % warp_threads;
    const Place place = place_of(a.list, blockIdx.x / l.kv_heads, S::rows);
    const unsigned stride = l.heads * l.head_size, kv_stride = l.kv_heads * l.head_size;
    const unsigned count = least(S::rows, place.length - place.row), shared_by = l.heads / l.kv_heads;
    const std::uint64_t at = std::uint64_t{place.begin + place.row} * kv_stride + kv_head * l.head_size;
    float* const keys = shared_floats();
    float* const values = keys + S::rows * S::width;
    float* const tile = values + S::rows * S::width;
    load_rows<S::width>(a.m.keys + at, kv_stride, count, S::rows, l.head_size, keys);
    load_rows<S::width>(a.m.values + at, kv_stride, count, S::rows, l.head_size, values);

    const unsigned first = warp * S::rows_a_warp;
    const unsigned last_query = // past the last that sees any of the keys
        l.window == 0 ? place.length : least(place.length, place.row + count - 1 + l.window);
    float key_sums[S::rows_a_warp][chunks] = {}, value_sums[S::rows_a_warp][chunks] = {};
    for (unsigned head = kv_head * shared_by; head < (kv_head + 1) * shared_by; ++head)
        for (unsigned query = place.row; query < last_query; query += tile_columns) {
            const unsigned present = last_query - query;
            const std::uint64_t row_at = std::uint64_t{place.begin + query};
            const std::uint64_t queries_at = row_at * stride + head * l.head_size;
            const std::uint64_t number = (row_at + least(lane, present - 1)) * l.heads + head;
            const float log_sum = a.m.log_sums[number], delta = a.m.delta[number];
            float scores[S::rows_a_warp], weights[S::rows_a_warp], d[S::rows_a_warp];
            __syncthreads();
            load_tile<S::width>(a.m.q + queries_at, stride, present, l.head_size, tile);
            __syncthreads();
            multiply_rows<S::width>(keys + first * S::width, tile, scores);
#pragma unroll
            for (unsigned row = 0; row < S::rows_a_warp; ++row) {
                const unsigned key = place.row + first + row;
                scores[row] = score_of(l, scores[row]);
                const bool seen = lane < present && first + row < count && sees(l, query + lane, key);
                weights[row] = seen ? expf(scores[row] - log_sum) : 0.0f;
            }
            __syncthreads();
            load_tile<S::width>(a.m.d_out + queries_at, stride, present, l.head_size, tile);
            __syncthreads();
            multiply_rows<S::width>(values + first * S::width, tile, d);
            add_columns<chunks>(weights, tile, value_sums);
#pragma unroll
            for (unsigned row = 0; row < S::rows_a_warp; ++row)
                d[row] = weights[row] != 0 ? score_gradient(l, scores[row], weights[row], d[row], delta) : 0.0f;
            __syncthreads();
            load_tile<S::width>(a.m.q + queries_at, stride, present, l.head_size, tile);
            __syncthreads();
            add_columns<chunks>(d, tile, key_sums);
        }
    for (unsigned row = 0; row < S::rows_a_warp && first + row < count; ++row) {
        store_row(key_sums[row], 1, l.head_size, a.m.d_k + at + std::uint64_t{first + row} * kv_stride);
        store_row(value_sums[row], 1, l.head_size, a.m.d_v + at + std::uint64_t{first + row} * kv_stride);
    }
}

// --- rotary embeddings ---------------------------------------------------------------------------------------------

struct TurnArguments {
    unsigned first, head_size, pairs, columns;
    const float* cosines;
    const float* sines;
    float direction; ///< −1 turns back
    float* heads;
    SequenceList list;
};

/// A thread block has a token.
__global__ void __launch_bounds__(block_threads) turn_kernel(const __grid_constant__ TurnArguments a) {
    const Place place = place_of(a.list, blockIdx.x, 1);
    const std::uint64_t position = std::uint64_t{a.first + place.row} * a.pairs;
    float* const row = a.heads + std::uint64_t{place.begin + place.row} * a.columns;
    const unsigned count = a.columns / a.head_size * a.pairs;
    for (unsigned i = threadIdx.x; i < count; i += block_threads) {
        const unsigned pair = i % a.pairs;
        float* const x = row + i / a.pairs * a.head_size + pair;
        const float cosine = a.cosines[position + pair], sine = a.direction * a.sines[position + pair];
        const float one = x[0], other = x[a.pairs];
        x[0] = one * cosine - other * sine;
        x[a.pairs] = other * cosine + one * sine;
    }
}

// --- launches ------------------------------------------------------------------------------------------------------

/// Calls body(list) for as many sequences at a time as a launch takes.
template <class Body>
void for_each_list(std::span<const Sequence> sequences, Body body) {
    for (std::size_t begin = 0; begin < sequences.size(); begin += most_sequences) {
        SequenceList list;
        for (const Sequence& sequence :
             sequences.subspan(begin, std::min<std::size_t>(most_sequences, sequences.size() - begin))) {
            list.begin[list.count] = static_cast<unsigned>(sequence.begin);
            list.length[list.count++] = static_cast<unsigned>(sequence.length);
        }
        body(list);
    }
}

/// Blocks of so many rows that the sequences have.
std::uint64_t blocks_of(const SequenceList& list, unsigned rows) {
    std::uint64_t blocks = 0;
    for (unsigned i = 0; i < list.count; ++i)
        blocks += (list.length[i] + rows - 1) / rows;
    return blocks;
}

template <unsigned chunks>
void attend_with(const Arguments& a, cudaStream_t stream) {
    using S = Shape<chunks, false>;
    launch({blocks_of(a.list, S::rows) * a.layout.heads, stream, S::shared_bytes, S::threads}, attend_kernel<chunks>,
           a);
}

template <unsigned chunks>
void backward_with(const Arguments& a, cudaStream_t stream) {
    using S = Shape<chunks, true>;
    const std::uint64_t blocks = blocks_of(a.list, S::rows);
    launch({blocks * a.layout.heads, stream, S::shared_bytes, S::threads}, backward_queries_kernel<chunks>, a);
    launch({blocks * a.layout.kv_heads, stream, S::shared_bytes, S::threads}, backward_keys_kernel<chunks>, a);
}

/// Calls body(chunks) with the fewest that hold a head, as a constant.
template <class Body>
void with_chunks(unsigned head_size, Body body) {
    if (head_size <= 32)
        body(std::integral_constant<unsigned, 1>());
    else if (head_size <= 64)
        body(std::integral_constant<unsigned, 2>());
    else if (head_size <= 128)
        body(std::integral_constant<unsigned, 4>());
    else
        body(std::integral_constant<unsigned, 8>());
}

} // namespace

void turn(std::span<const Sequence> sequences, unsigned first, unsigned head_size, const float* cosines,
          const float* sines, unsigned pairs, float direction, float* heads, unsigned columns, cudaStream_t stream) {
    for_each_list(sequences, [&](const SequenceList& list) {
        const TurnArguments arguments{first, head_size, pairs, columns, cosines, sines, direction, heads, list};
        launch({blocks_of(list, 1), stream}, turn_kernel, arguments);
    });
}

void attend(const AttentionLayout& layout, std::span<const Sequence> sequences, const AttentionMatrices& matrices,
            cudaStream_t stream) {
    for_each_list(sequences, [&](const SequenceList& list) {
        with_chunks(layout.head_size, [&](auto chunks) { attend_with<chunks>({layout, matrices, list}, stream); });
    });
}

void attention_delta(const float* out, const float* d_out, std::uint64_t heads_of_rows, unsigned head_size,
                     float* delta, cudaStream_t stream) {
    launch({warps_for(heads_of_rows), stream}, delta_kernel, out, d_out, heads_of_rows, head_size, delta);
}

void backward_attend(const AttentionLayout& layout, std::span<const Sequence> sequences,
                     const AttentionMatrices& matrices, cudaStream_t stream) {
    for_each_list(sequences, [&](const SequenceList& list) {
        with_chunks(layout.head_size, [&](auto chunks) { backward_with<chunks>({layout, matrices, list}, stream); });
    });
}

} // namespace qs::cuda
