#include "core/export/integer_grid.h"

#include <fmt/format.h>

#include "core/base/half.h"
#include "core/export/stored_values.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

/// Codes from 0: those of symmetric formats are stored from −2ⁿ⁻¹, which is then the zero point.
void take_codes(const MethodResult& result, IntegerGrid& grid) {
    const auto stored = stored_values<std::uint8_t>(result, "codes.i8");
    const bool affine = stores(result, "zeros.f32");
    const unsigned mask = (1U << grid.bits) - 1, offset = affine ? 0 : 1U << (grid.bits - 1);
    grid.codes.resize(stored.size());
    std::ranges::transform(stored, grid.codes.begin(),
                           [&](unsigned code) { return static_cast<std::uint8_t>((code + offset) & mask); });
    if (affine)
        grid.zeros = stored_values<float>(result, "zeros.f32");
    else
        grid.zeros.assign(grid.rows * grid.groups, static_cast<float>(offset));
}

void take_scales(const LinearTensor& tensor, const MethodResult& result, IntegerGrid& grid) {
    for (const float scale : stored_values<float>(result, "scales.f32")) {
        const std::uint16_t half = float_to_fp16(scale);
        const float rounded = fp16_to_float(half);
        if (!is_finite(rounded) || rounded == 0)
            throw Error("tensor " + tensor.name, fmt::format("has a scale of {}, which float16 cannot hold", scale),
                        "choose the layout bitsandbytes, or GGUF");
        grid.scales_rounded |= rounded != scale;
        grid.scales.push_back(half);
    }
}

void take_groups(const MethodResult& result, std::size_t group, IntegerGrid& grid) {
    grid.in_order = !stores(result, "g_idx.i32");
    if (!grid.in_order) {
        grid.group_of_column = stored_values<std::int32_t>(result, "g_idx.i32");
        return;
    }
    for (std::size_t column = 0; column < grid.columns; ++column)
        grid.group_of_column.push_back(static_cast<std::int32_t>(column / group));
}

} // namespace

bool is_grid_format(const FormatSpec& spec) {
    return spec.parameters.contains("scope") && spec.choice("scope") != "tensor" && format(spec.id).family == "integer";
}

std::size_t grid_group(const FormatSpec& spec, std::size_t columns) {
    return spec.choice("scope") == "group" ? std::min(static_cast<std::size_t>(spec.integer("group")), columns)
                                           : columns;
}

std::size_t grid_groups(const FormatSpec& spec, std::size_t columns) {
    const std::size_t group = grid_group(spec, columns);
    return (columns + group - 1) / group;
}

bool is_common_group(const FormatSpec& spec) {
    constexpr int common[] = {16, 32, 64, 128, 256, 512, 1024};
    return spec.choice("scope") != "group" || std::ranges::find(common, spec.integer("group")) != std::end(common);
}

IntegerGrid integer_grid(const LinearTensor& tensor, const MethodResult& result) {
    IntegerGrid grid;
    grid.bits = result.format.id.back() - '0';
    grid.rows = static_cast<std::size_t>(tensor.outputs);
    grid.columns = static_cast<std::size_t>(tensor.inputs);
    grid.groups = grid_groups(result.format, grid.columns);
    take_codes(result, grid);
    take_scales(tensor, result, grid);
    take_groups(result, grid_group(result.format, grid.columns), grid);
    return grid;
}

} // namespace qs
