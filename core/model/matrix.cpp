#include "core/model/matrix.h"

#include <tbb/blocked_range2d.h>
#include <tbb/parallel_for.h>

#include <algorithm>

namespace qs {

namespace {

// One unit of work: large enough that packing its operands costs little, small enough to share a product among threads.
constexpr Index block_tokens = 256, block_outputs = 256;

Index blocks_in(Index count, Index block) {
    return (count + block - 1) / block;
}

} // namespace

void multiply(const Matrix& inputs, const Matrix& weight, Matrix& out) {
    out.resize(inputs.rows(), weight.rows());
    const Index down = blocks_in(out.rows(), block_tokens), across = blocks_in(out.cols(), block_outputs);
    tbb::parallel_for(Index{0}, down * across, [&](Index block) {
        const Index row = block / across * block_tokens, column = block % across * block_outputs;
        const Index rows = std::min(block_tokens, out.rows() - row);
        const Index columns = std::min(block_outputs, out.cols() - column);
        out.block(row, column, rows, columns).noalias() =
            inputs.middleRows(row, rows) * weight.middleRows(column, columns).transpose();
    });
}

} // namespace qs
