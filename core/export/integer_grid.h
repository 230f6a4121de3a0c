#pragma once

#include <cstdint>
#include <vector>

#include "core/methods/apply.h"
#include "core/model/weights.h"

namespace qs {

/// What an integer format stores of a matrix, as checkpoints of integers hold it: codes from 0, and of each group of a
/// row a scale in float16 and a zero point. weight = (code − zero) · scale.
struct IntegerGrid {
    int bits = 0;
    std::size_t rows = 0, columns = 0;
    std::size_t groups = 0;            ///< of a row
    std::vector<std::uint8_t> codes;   ///< row after row
    std::vector<std::uint16_t> scales; ///< row after row
    std::vector<float> zeros;          ///< row after row; whole numbers but with HQQ
    std::vector<std::int32_t> group_of_column;
    bool in_order = true;        ///< columns of a group follow each other
    bool scales_rounded = false; ///< float16 does not hold them exactly
};

/// Whether a format is an integer format with scales within rows.
bool is_grid_format(const FormatSpec& format);
/// Weights of a group: those of a row where that is the scope.
std::size_t grid_group(const FormatSpec& format, std::size_t columns);
std::size_t grid_groups(const FormatSpec& format, std::size_t columns);

/// Whether the kernels that read GPTQ's and AWQ's layouts know groups of this size: GPTQModel's (7.7.0,
/// nn_modules/qlinear) know these alone.
bool is_common_group(const FormatSpec& format);
inline constexpr const char* uncommon_group_note =
    "GPTQModel reads groups of 16, 32, 64, 128, 256, 512, 1024 or a whole row, not of this size";

/// The grid of a layer. Throws Error where a scale is beyond float16.
IntegerGrid integer_grid(const LinearTensor& tensor, const MethodResult& result);

} // namespace qs
