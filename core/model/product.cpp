// Tiles are arrays of vectors, which vectors of unknown length cannot be.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#include "core/model/product.h"

#include <hwy/aligned_allocator.h>
#include <tbb/parallel_for.h>

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/model/product.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// One definition for all targets.
#ifndef QUANTOSCOPE_PRODUCT_BLOCK
#define QUANTOSCOPE_PRODUCT_BLOCK
namespace qs {

// A block of the output and the depth of sums that is worked on at a time, so that the packed operands stay in the
// second cache.
inline constexpr Index block_rows = 120, block_columns = 256, block_depth = 256;

/// A block of the output: out[rows × columns] = a · b.
struct ProductBlock {
    const float* a;
    const float* b;
    float* out;
    Index rows, columns, depth;
    Index a_row_step, a_column_step, b_row_step, b_column_step, out_step;
};

} // namespace qs
#endif

HWY_BEFORE_NAMESPACE();
namespace qs {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lanes = hn::ScalableTag<float>;
constexpr Index lanes = hn::MaxLanes(Lanes());
// Rows and vectors of the output that are summed in registers at a time: as many as there are registers for.
constexpr Index tile_rows = HWY_TARGET <= HWY_AVX3 ? 12 : 6, tile_vectors = 2, tile_columns = tile_vectors * lanes;

/// Copies a part of a into groups of tile_rows rows, a column of a group at a time; rows that are missing become 0.
void pack_a(const ProductBlock& block, Index from, Index depth, float* out) {
    for (Index first = 0; first < block.rows; first += tile_rows)
        for (Index k = from; k < from + depth; ++k)
            for (Index row = first; row < first + tile_rows; ++row)
                *out++ = row < block.rows ? block.a[row * block.a_row_step + k * block.a_column_step] : 0;
}

/// The same of b: groups of tile_columns columns, a row of a group at a time.
void pack_b(const ProductBlock& block, Index from, Index depth, float* out) {
    for (Index first = 0; first < block.columns; first += tile_columns) {
        const Index count = std::min(tile_columns, block.columns - first);
        if (block.b_column_step == 1) {
            for (Index k = 0; k < depth; ++k) {
                const float* const row = block.b + (from + k) * block.b_row_step + first;
                std::fill(std::copy_n(row, count, out + k * tile_columns), out + (k + 1) * tile_columns, 0.0f);
            }
        } else {
            for (Index column = 0; column < tile_columns; ++column) {
                const float* const values = block.b + (first + column) * block.b_column_step + from * block.b_row_step;
                for (Index k = 0; k < depth; ++k)
                    out[k * tile_columns + column] = column < count ? values[k * block.b_row_step] : 0;
            }
        }
        out += depth * tile_columns;
    }
}

/// Adds the product of a packed group of a and one of b to a tile.
HWY_INLINE void add_tile(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, Index depth, float* out,
                         Index out_step) {
    const Lanes f;
    hn::Vec<Lanes> sums[tile_rows][tile_vectors];
    for (Index row = 0; row < tile_rows; ++row)
        for (Index v = 0; v < tile_vectors; ++v)
            sums[row][v] = hn::LoadU(f, out + row * out_step + v * lanes);
    for (Index k = 0; k < depth; ++k, a += tile_rows, b += tile_columns) {
        const auto b0 = hn::Load(f, b), b1 = hn::Load(f, b + lanes);
        HWY_UNROLL(12)
        for (Index row = 0; row < tile_rows; ++row) {
            const auto value = hn::Set(f, a[row]);
            sums[row][0] = hn::MulAdd(value, b0, sums[row][0]);
            sums[row][1] = hn::MulAdd(value, b1, sums[row][1]);
        }
    }
    for (Index row = 0; row < tile_rows; ++row)
        for (Index v = 0; v < tile_vectors; ++v)
            hn::StoreU(sums[row][v], f, out + row * out_step + v * lanes);
}

/// The same where the tile reaches beyond the block.
void add_part_of_tile(const float* a, const float* b, Index depth, Index rows, Index columns, float* out,
                      Index out_step) {
    HWY_ALIGN float tile[tile_rows * tile_columns] = {};
    for (Index row = 0; row < rows; ++row)
        std::copy_n(out + row * out_step, columns, tile + row * tile_columns);
    add_tile(a, b, depth, tile, tile_columns);
    for (Index row = 0; row < rows; ++row)
        std::copy_n(tile + row * tile_columns, columns, out + row * out_step);
}

void multiply_block(const ProductBlock& block) {
    const Index a_groups = (block.rows + tile_rows - 1) / tile_rows;
    const Index b_groups = (block.columns + tile_columns - 1) / tile_columns;
    const Index deepest = std::min(block.depth, block_depth);
    const auto a = hwy::AllocateAligned<float>(static_cast<std::size_t>(a_groups * tile_rows * deepest));
    const auto b = hwy::AllocateAligned<float>(static_cast<std::size_t>(b_groups * tile_columns * deepest));
    for (Index row = 0; row < block.rows; ++row)
        std::fill_n(block.out + row * block.out_step, block.columns, 0.0f);
    for (Index from = 0; from < block.depth; from += block_depth) {
        const Index depth = std::min(block_depth, block.depth - from);
        pack_a(block, from, depth, a.get());
        pack_b(block, from, depth, b.get());
        for (Index column = 0; column < block.columns; column += tile_columns)
            for (Index row = 0; row < block.rows; row += tile_rows) {
                float* const out = block.out + row * block.out_step + column;
                const Index rows = std::min(tile_rows, block.rows - row);
                const Index columns = std::min(tile_columns, block.columns - column);
                if (rows == tile_rows && columns == tile_columns)
                    add_tile(a.get() + row * depth, b.get() + column * depth, depth, out, block.out_step);
                else
                    add_part_of_tile(a.get() + row * depth, b.get() + column * depth, depth, rows, columns, out,
                                     block.out_step);
            }
    }
}

/// Σ a · b over contiguous values: what a product with few rows is made of, where packing would not pay.
float dot(const float* a, const float* b, Index count) {
    const Lanes f;
    auto s0 = hn::Zero(f), s1 = s0, s2 = s0, s3 = s0;
    Index i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
        s0 = hn::MulAdd(hn::LoadU(f, a + i), hn::LoadU(f, b + i), s0);
        s1 = hn::MulAdd(hn::LoadU(f, a + i + lanes), hn::LoadU(f, b + i + lanes), s1);
        s2 = hn::MulAdd(hn::LoadU(f, a + i + 2 * lanes), hn::LoadU(f, b + i + 2 * lanes), s2);
        s3 = hn::MulAdd(hn::LoadU(f, a + i + 3 * lanes), hn::LoadU(f, b + i + 3 * lanes), s3);
    }
    float sum = hn::GetLane(hn::SumOfLanes(f, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
    for (; i < count; ++i)
        sum += a[i] * b[i];
    return sum;
}

void multiply_by_dots(const ProductBlock& block) {
    for (Index column = 0; column < block.columns; ++column)
        for (Index row = 0; row < block.rows; ++row)
            block.out[row * block.out_step + column] =
                dot(block.a + row * block.a_row_step, block.b + column * block.b_column_step, block.depth);
}

} // namespace HWY_NAMESPACE
} // namespace qs
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs {

namespace {

HWY_EXPORT(multiply_block);
HWY_EXPORT(multiply_by_dots);

constexpr Index few_rows = 4;

ProductBlock part_of(const Operand& a, const Operand& b, Eigen::Ref<Matrix>& out, Index row, Index column, Index rows,
                     Index columns) {
    return {a.data + row * a.row_step,
            b.data + column * b.column_step,
            out.data() + row * out.outerStride() + column,
            std::min(rows, a.rows - row),
            std::min(columns, b.columns - column),
            a.columns,
            a.row_step,
            a.column_step,
            b.row_step,
            b.column_step,
            out.outerStride()};
}

/// Calls run(body, count) for the blocks of the product; `body` does the one of a number.
template <class Run>
void divide(const Operand& a, const Operand& b, Eigen::Ref<Matrix>& out, Run run) {
    const bool by_dots = a.rows <= few_rows && a.column_step == 1 && b.row_step == 1;
    const Index rows = by_dots ? few_rows : block_rows, columns = by_dots ? 64 : block_columns;
    const Index down = (a.rows + rows - 1) / rows, across = (b.columns + columns - 1) / columns;
    run(down * across, [&](Index i) {
        const ProductBlock block = part_of(a, b, out, i / across * rows, i % across * columns, rows, columns);
        by_dots ? HWY_DYNAMIC_DISPATCH(multiply_by_dots)(block) : HWY_DYNAMIC_DISPATCH(multiply_block)(block);
    });
}

} // namespace

void product(const Operand& a, const Operand& b, Eigen::Ref<Matrix> out) {
    divide(a, b, out, [](Index count, auto body) {
        for (Index i = 0; i < count; ++i)
            body(i);
    });
}

void parallel_product(const Operand& a, const Operand& b, Eigen::Ref<Matrix> out) {
    divide(a, b, out, [](Index count, auto body) { tbb::parallel_for(Index{0}, count, body); });
}

} // namespace qs
#endif
