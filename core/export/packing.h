#pragma once

#include <cstdint>
#include <vector>

#include "core/export/integer_grid.h"

// The integers of checkpoints, packed as their references pack them (FORMATS: GPTQ, AWQ, HQQ).

namespace qs {

/// GPTQ's qweight, [columns · bits / 32, rows]: the codes of a row are a little-endian stream of bits down a column of
/// words. AutoGPTQ 9f7d3707, qlinear_cuda_old.py.
std::vector<std::uint32_t> gptq_weight(const IntegerGrid& grid);
/// GPTQ's qzeros, [groups, rows · bits / 32]: the zero points of a group, each less `offset`, as such a stream.
std::vector<std::uint32_t> gptq_zeros(const IntegerGrid& grid, std::uint32_t offset);

/// AWQ's qweight, [columns, rows / 8], and qzeros, [groups, rows / 8]: nibble i of a word is of row 8·word +
/// {0, 2, 4, 6, 1, 3, 5, 7}[i]. AutoAWQ 88e4c76b, modules/linear/gemm.py.
std::vector<std::uint32_t> awq_weight(const IntegerGrid& grid);
std::vector<std::uint32_t> awq_zeros(const IntegerGrid& grid);

/// GPTQ's and AWQ's scales, [groups, rows].
std::vector<std::uint16_t> scales_by_group(const IntegerGrid& grid);

/// HQQ's W_q: the groups of all rows below each other, [rows · groups, group], and that divided into as many parts as
/// codes fit into a byte (8, 4 and 2 bits) or ten of them into a word (3 bits), of which the first has the highest
/// bits. hqq 0.2.8, core/bitpack.py.
std::vector<std::byte> hqq_weight(const IntegerGrid& grid);
/// Rows of W_q.
std::size_t hqq_packed_rows(std::size_t rows, int bits);

} // namespace qs
