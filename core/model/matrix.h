#pragma once

#include <Eigen/Core>

namespace qs {

/// Activations have a row a token, weights a row an output feature: both as checkpoints store them.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowVector = Eigen::Matrix<float, 1, Eigen::Dynamic, Eigen::RowMajor>;
using Index = Eigen::Index;

} // namespace qs
