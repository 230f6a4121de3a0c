#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/export/layout.h"
#include "core/export/packing.h"
#include "core/export/stored_values.h"

// What HQQLinear.state_dict() of hqq 0.2.8 (core/quantize.py) gives for safetensors, where what is no tensor is encoded
// as one (core/utils.py), and transformers' HqqConfig.

namespace qs {

namespace {

class HqqLayout final : public Layout {
public:
    explicit HqqLayout(const LayoutRequest& request)
        : format_(request.variant.format), optimized_(request.variant.method.id == "hqq"),
          bits_(format_.id.back() - '0') {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        const std::int64_t groups = groups_of(tensor);
        const std::string module = module_name(tensor);
        std::vector<SafetensorsEntry> all{
            safetensors_entry(module + ".W_q", bits_ == 3 ? "I32" : "U8",
                              {static_cast<std::int64_t>(hqq_packed_rows(static_cast<std::size_t>(groups), bits_)),
                               group_of(tensor)}),
            safetensors_entry(module + ".scale", "F16", {groups, 1}),
            safetensors_entry(module + ".zero", "F16", {groups, 1}), safetensors_entry(module + ".shape", "I64", {2})};
        for (const auto& [name, value] : integers(tensor))
            all.push_back(safetensors_entry(module + "." + name, "I32", {}));
        for (const auto& [name, value] : flags())
            all.push_back(safetensors_entry(module + "." + name, "U8", {}));
        for (const auto& [name, value] : texts())
            all.push_back(safetensors_entry(module + "." + name, "U8", {static_cast<std::int64_t>(value.size())}));
        return all;
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        const IntegerGrid grid = integer_grid(tensor, result);
        rounded_ |= grid.scales_rounded;
        const std::string module = module_name(tensor);
        Tensors all{{module + ".W_q", hqq_weight(grid)},
                    {module + ".scale", bytes_of(grid.scales)},
                    {module + ".zero", bytes_of(half_zeros(tensor, grid))},
                    {module + ".shape", bytes_of(std::vector<std::int64_t>{tensor.outputs, tensor.inputs})}};
        for (const auto& [name, value] : integers(tensor))
            all.emplace_back(module + "." + name, bytes_of(std::vector{value}));
        for (const auto& [name, value] : flags())
            all.emplace_back(module + "." + name, std::vector(1, std::byte{value}));
        for (const auto& [name, value] : texts())
            all.emplace_back(module + "." + name, bytes_of(std::vector<char>(value.begin(), value.end())));
        return all;
    }

    Json config() const override {
        const bool grouped = format_.choice("scope") == "group";
        const Json weights{{"nbits", bits_},
                           {"channel_wise", true},
                           {"group_size", grouped ? Json(format_.integer("group")) : Json()},
                           {"optimize", optimized_},
                           {"round_zero", bits_ == 4},
                           {"axis", 1},
                           {"view_as_float", false}};
        return {{"quant_config",
                 {{"weight_quant_params", weights},
                  {"scale_quant_params", nullptr},
                  {"zero_quant_params", nullptr},
                  {"offload_meta", false}}},
                {"quant_method", "hqq"},
                {"skip_modules", Json::array({"lm_head"})}};
    }

    std::vector<std::string> notes() const override {
        if (!rounded_)
            return {};
        return {"scales and zero points were rounded to float16"};
    }

private:
    std::int64_t group_of(const LinearTensor& tensor) const {
        return static_cast<std::int64_t>(grid_group(format_, static_cast<std::size_t>(tensor.inputs)));
    }

    /// Of all rows. Throws Error where they do not divide as hqq has it.
    std::int64_t groups_of(const LinearTensor& tensor) const {
        const std::int64_t group = group_of(tensor), groups = tensor.outputs * tensor.inputs / group;
        if (tensor.inputs % group != 0 || (bits_ != 3 && groups % (8 / bits_) != 0))
            throw Error("tensor " + tensor.name,
                        fmt::format("is {} × {}, which the layout hqq cannot divide into groups of {}", tensor.outputs,
                                    tensor.inputs, group),
                        "choose a group that divides it");
        return groups;
    }

    std::vector<std::pair<std::string, std::int32_t>> integers(const LinearTensor& tensor) const {
        return {{"nbits", bits_}, {"group_size", static_cast<std::int32_t>(group_of(tensor))}, {"axis", 1}};
    }

    std::vector<std::pair<std::string, std::uint8_t>> flags() const {
        return {{"view_as_float", 0}, {"quant_scale", 0},        {"quant_zero", 0},
                {"offload_meta", 0},  {"encoded_state_dict", 1}, {"stores_quant_config", 1},
                {"channel_wise", 1},  {"optimize", optimized_},  {"round_zero", bits_ == 4}};
    }

    std::vector<std::pair<std::string, std::string>> texts() const {
        return {{"packing", bits_ == 3 ? "3bit_32" : fmt::format("{}bit_u8", bits_)},
                {"unpack_view_dtype", bits_ == 3 ? "torch.int32" : "torch.uint8"},
                {"compute_dtype", "torch.float16"}};
    }

    std::vector<std::uint16_t> half_zeros(const LinearTensor& tensor, const IntegerGrid& grid) {
        std::vector<std::uint16_t> zeros;
        for (const float zero : grid.zeros) {
            zeros.push_back(float_to_fp16(zero));
            const float rounded = fp16_to_float(zeros.back());
            if (!is_finite(rounded))
                throw Error("tensor " + tensor.name,
                            fmt::format("has a zero point of {}, which float16 cannot hold", zero),
                            "choose another method");
            rounded_ |= rounded != zero;
        }
        return zeros;
    }

    FormatSpec format_;
    bool optimized_;
    int bits_;
    bool rounded_ = false;
};

} // namespace

std::unique_ptr<Layout> make_hqq_layout(const LayoutRequest& request) {
    return std::make_unique<HqqLayout>(request);
}

} // namespace qs
