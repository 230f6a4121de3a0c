#pragma once

#include "core/model/matrix.h"

// Products of matrices. Eigen's are compiled for the instructions that every machine of the architecture has; these
// take those of the machine at hand (Highway), which on AVX-512 is ten times as fast.

namespace qs {

/// A matrix in memory, or its transpose.
struct Operand {
    const float* data = nullptr;
    Index rows = 0, columns = 0;
    Index row_step = 0, column_step = 0;
};
inline Operand as_is(Eigen::Ref<const Matrix> m) {
    return {m.data(), m.rows(), m.cols(), m.outerStride(), 1};
}
inline Operand transposed(Eigen::Ref<const Matrix> m) {
    return {m.data(), m.cols(), m.rows(), 1, m.outerStride()};
}

/// out = a · b on the calling thread.
void product(const Operand& a, const Operand& b, Eigen::Ref<Matrix> out);
/// The same on all threads of the calling TBB arena; the result does not depend on their number.
void parallel_product(const Operand& a, const Operand& b, Eigen::Ref<Matrix> out);

/// out = inputs · weightᵀ on all threads: what a linear layer does.
inline void multiply(const Matrix& inputs, const Matrix& weight, Matrix& out) {
    out.resize(inputs.rows(), weight.rows());
    parallel_product(as_is(inputs), transposed(weight), out);
}

} // namespace qs
