#include "core/checkpoint/checkpoint.h"

#include <array>
#include <bit>
#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/checkpoint/containers.h"

namespace qs {

namespace {

constexpr std::array role_names = {
    "token_embedding", "attention_q", "attention_k",        "attention_v", "attention_qkv", "attention_o",
    "mlp_gate",        "mlp_up",      "mlp_gate_up",        "mlp_down",    "norm",          "lm_head",
    "moe_router",      "moe_expert",  "position_embedding", "bias",        "other"};
static_assert(role_names.size() == static_cast<std::size_t>(Role::other) + 1);

struct DTypeRow {
    const char* name;
    BlockLayout layout;
};

// The layouts of the block types: ggml's src/ggml-common.h.
constexpr std::array<DTypeRow, static_cast<std::size_t>(DType::unsupported) + 1> dtype_rows = {{
    {"f64", {1, 8}},         {"f32", {1, 4}},      {"f16", {1, 2}},        {"bf16", {1, 2}},
    {"f8_e4m3", {1, 1}},     {"f8_e5m2", {1, 1}},  {"i64", {1, 8}},        {"i32", {1, 4}},
    {"i16", {1, 2}},         {"i8", {1, 1}},       {"u64", {1, 8}},        {"u32", {1, 4}},
    {"u16", {1, 2}},         {"u8", {1, 1}},       {"bool", {1, 1}},       {"q4_0", {32, 18}},
    {"q4_1", {32, 20}},      {"q5_0", {32, 22}},   {"q5_1", {32, 24}},     {"q8_0", {32, 34}},
    {"q2_K", {256, 84}},     {"q3_K", {256, 110}}, {"q4_K", {256, 144}},   {"q5_K", {256, 176}},
    {"q6_K", {256, 210}},    {"iq4_nl", {32, 18}}, {"iq4_xs", {256, 136}}, {"tq1_0", {256, 54}},
    {"tq2_0", {256, 66}},    {"mxfp4", {32, 17}},  {"nvfp4", {64, 36}},    {"q1_0", {128, 18}},
    {"q2_0", {64, 18}},      {"iq1_s", {256, 50}}, {"iq1_m", {256, 56}},   {"iq2_xxs", {256, 66}},
    {"iq2_xs", {256, 74}},   {"iq2_s", {256, 82}}, {"iq3_xxs", {256, 98}}, {"iq3_s", {256, 110}},
    {"unsupported", {0, 0}},
}};

const DTypeRow& row_of(DType dtype) {
    return dtype_rows.at(static_cast<std::size_t>(dtype));
}

} // namespace

std::string_view to_string(Role role) {
    return role_names.at(static_cast<std::size_t>(role));
}

std::string_view to_string(DType dtype) {
    return row_of(dtype).name;
}

BlockLayout block_layout(DType dtype) {
    return row_of(dtype).layout;
}

bool is_weight_type(DType dtype) {
    return dtype <= DType::f8_e5m2 || (dtype >= DType::q4_0 && dtype < DType::unsupported);
}

bool is_parameter(const TensorInfo& tensor) {
    if (tensor.name.ends_with("inv_freq") || tensor.name.ends_with("masked_bias") ||
        tensor.name.starts_with("rope_freqs"))
        return false;
    return is_weight_type(tensor.dtype) || tensor.dtype == DType::unsupported;
}

std::uint64_t TensorInfo::elements() const {
    std::uint64_t product = 1;
    for (const std::int64_t extent : shape)
        product *= static_cast<std::uint64_t>(extent);
    return product;
}

std::uint64_t TensorInfo::columns() const {
    return shape.empty() ? 1 : static_cast<std::uint64_t>(shape.back());
}

std::uint64_t TensorInfo::rows() const {
    std::uint64_t product = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i)
        product *= static_cast<std::uint64_t>(shape[i]);
    return product;
}

std::uint64_t Checkpoint::parameters() const {
    std::uint64_t sum = 0;
    for (const TensorInfo& tensor : tensors)
        sum += tensor.elements();
    return sum;
}

std::uint64_t Checkpoint::bytes() const {
    std::uint64_t sum = 0;
    for (const TensorInfo& tensor : tensors)
        sum += tensor.bytes;
    return sum;
}

std::optional<std::size_t> Checkpoint::index_names() {
    slots_.assign(std::bit_ceil(tensors.size() * 2 + 1), 0);
    indexed_ = tensors.size();
    const std::size_t mask = slots_.size() - 1;
    std::optional<std::size_t> duplicate;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        std::size_t slot = std::hash<std::string_view>{}(tensors[i].name) & mask;
        while (slots_[slot] != 0 && tensors[slots_[slot] - 1].name != tensors[i].name)
            slot = (slot + 1) & mask;
        if (slots_[slot] == 0)
            slots_[slot] = static_cast<std::uint32_t>(i + 1);
        else if (!duplicate)
            duplicate = i;
    }
    return duplicate;
}

std::optional<std::size_t> Checkpoint::find(std::string_view name) const {
    if (indexed_ != tensors.size() || slots_.empty()) {
        for (std::size_t i = 0; i < tensors.size(); ++i)
            if (tensors[i].name == name)
                return i;
        return std::nullopt;
    }
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t slot = std::hash<std::string_view>{}(name)&mask; slots_[slot] != 0; slot = (slot + 1) & mask)
        if (tensors[slots_[slot] - 1].name == name)
            return slots_[slot] - 1;
    return std::nullopt;
}

std::span<const std::byte> Checkpoint::data(const TensorInfo& tensor) const {
    return files.at(tensor.file)->bytes().subspan(tensor.offset, tensor.bytes);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

} // namespace qs
