#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qs {

/// How the inputs of a linear layer are rounded.
enum class Activations : std::uint8_t {
    none,
    int8,        ///< a scale for each token, absmax / 127
    int8_tensor, ///< one for all tokens that are multiplied at once
    int8_static, ///< one for all times, from the calibration
    fp8,         ///< E4M3, a scale for each token, absmax / 448
    mxfp8        ///< E4M3 in blocks of 32 with a power of two
};

/// The names of them, in their order.
const std::vector<std::string>& activation_names();
const std::string& to_string(Activations activations);
/// Throws Error naming the known ones.
Activations parse_activations(std::string_view text);

/// Rounds tokens, one row of `columns` values each, in place. `absmax` is the largest input of the calibration, for
/// int8_static.
void round_activations(Activations activations, float* values, std::size_t tokens, std::size_t columns,
                       float absmax = 0);

} // namespace qs
