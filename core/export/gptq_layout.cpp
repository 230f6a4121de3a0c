#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/export/layout.h"
#include "core/export/packing.h"
#include "core/export/stored_values.h"

// AutoGPTQ's layout (9f7d3707, nn_modules/qlinear/qlinear_cuda_old.py). Its first version stores zero points less one,
// and so cannot store a zero point of 0, which an affine group has if none of its weights is negative enough: such
// models are written in GPTQModel's second version, which stores zero points as they are (f4c327a1,
// nn_modules/qlinear).

namespace qs {

namespace {

class GptqLayout final : public Layout {
public:
    explicit GptqLayout(const LayoutRequest& request) : variant_(request.variant) {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        if (tensor.inputs % 32 != 0 || tensor.outputs % 32 != 0)
            throw Error(
                "tensor " + tensor.name,
                fmt::format("is {} × {}, and the layout gptq stores multiples of 32", tensor.outputs, tensor.inputs),
                "choose the layout hqq, the format nf4, or GGUF");
        const std::string module = module_name(tensor);
        const auto groups =
            static_cast<std::int64_t>(grid_groups(variant_.format, static_cast<std::size_t>(tensor.inputs)));
        const std::int64_t bits = variant_.format.id.back() - '0';
        return {safetensors_entry(module + ".qweight", "I32", {tensor.inputs * bits / 32, tensor.outputs}),
                safetensors_entry(zeros_name(tensor), "I32", {groups, tensor.outputs * bits / 32}),
                safetensors_entry(module + ".scales", "F16", {groups, tensor.outputs}),
                safetensors_entry(module + ".g_idx", "I32", {tensor.inputs})};
    }

    bool comes_last(const SafetensorsEntry& entry) const override { return entry.name.ends_with(".qzeros"); }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        const IntegerGrid grid = integer_grid(tensor, result);
        const std::string module = module_name(tensor);
        Tensors all{{module + ".qweight", bytes_of(gptq_weight(grid))},
                    {module + ".scales", bytes_of(scales_by_group(grid))},
                    {module + ".g_idx", bytes_of(grid.group_of_column)}};
        second_version_ |= std::ranges::find(grid.zeros, 0.0F) != grid.zeros.end();
        symmetric_ &= !stores(result, "zeros.f32");
        rounded_ |= grid.scales_rounded;
        waiting_.push_back({zeros_name(tensor), gptq_zeros(grid, 1), gptq_zeros(grid, 0)});
        return all;
    }

    Tensors finish() override {
        Tensors zeros;
        for (const Zeros& layer : waiting_)
            zeros.emplace_back(layer.name, bytes_of(second_version_ ? layer.second_version : layer.first_version));
        waiting_.clear();
        return zeros;
    }

    Json config() const override {
        const bool gptq = variant_.method.id == "gptq";
        const bool grouped = variant_.format.choice("scope") == "group";
        return {{"bits", variant_.format.id.back() - '0'},
                {"group_size", grouped ? variant_.format.integer("group") : -1},
                {"desc_act", gptq && variant_.method.flag("act_order")},
                {"static_groups", gptq && variant_.method.flag("static_groups")},
                {"sym", symmetric_},
                {"damp_percent", gptq ? variant_.method.real("damp") : 0.01},
                {"true_sequential", false},
                {"lm_head", false},
                {"checkpoint_format", second_version_ ? "gptq_v2" : "gptq"},
                {"quant_method", "gptq"}};
    }

    std::string config_file() const override { return "quantize_config.json"; }

    std::vector<std::string> notes() const override {
        std::vector<std::string> notes;
        if (second_version_)
            notes.emplace_back("some groups have the zero point 0, which the first version of the layout cannot store: "
                               "written as gptq_v2, which GPTQModel reads");
        if (!is_common_group(variant_.format))
            notes.emplace_back(uncommon_group_note);
        if (rounded_)
            notes.emplace_back("scales were rounded to float16");
        return notes;
    }

private:
    /// Zero points of a layer, in the version that all layers turn out to need.
    struct Zeros {
        std::string name;
        std::vector<std::uint32_t> first_version, second_version;
    };

    static std::string zeros_name(const LinearTensor& tensor) { return module_name(tensor) + ".qzeros"; }

    Variant variant_;
    std::vector<Zeros> waiting_;
    bool second_version_ = false, symmetric_ = true, rounded_ = false;
};

} // namespace

std::unique_ptr<Layout> make_gptq_layout(const LayoutRequest& request) {
    return std::make_unique<GptqLayout>(request);
}

} // namespace qs
