#include <fmt/format.h>

#include "core/base/error.h"
#include "core/export/layout.h"
#include "core/export/packing.h"
#include "core/export/stored_values.h"

// AutoAWQ's layout "gemm" (88e4c76b, awq/modules/linear/gemm.py).

namespace qs {

namespace {

class AwqLayout final : public Layout {
public:
    explicit AwqLayout(const LayoutRequest& request) : format_(request.variant.format) {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        const std::int64_t group = format_.choice("scope") == "group" ? format_.integer("group") : tensor.inputs;
        const std::int64_t groups = tensor.inputs / group;
        if (tensor.outputs % 8 != 0 || tensor.inputs % group != 0)
            throw Error("tensor " + tensor.name,
                        fmt::format("is {} × {}, and the layout awq stores multiples of 8 outputs and whole groups of "
                                    "{} inputs",
                                    tensor.outputs, tensor.inputs, group),
                        "choose a group that divides it, the format nf4, or GGUF");
        const std::string module = module_name(tensor);
        return {safetensors_entry(module + ".qweight", "I32", {tensor.inputs, tensor.outputs / 8}),
                safetensors_entry(module + ".qzeros", "I32", {groups, tensor.outputs / 8}),
                safetensors_entry(module + ".scales", "F16", {groups, tensor.outputs})};
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        const IntegerGrid grid = integer_grid(tensor, result);
        if (!grid.in_order)
            throw Error("method " + result.method.text(),
                        "takes columns of a group that do not follow each other, which the layout awq cannot store",
                        "choose the layout gptq");
        rounded_ |= grid.scales_rounded;
        const std::string module = module_name(tensor);
        return {{module + ".qweight", bytes_of(awq_weight(grid))},
                {module + ".qzeros", bytes_of(awq_zeros(grid))},
                {module + ".scales", bytes_of(scales_by_group(grid))}};
    }

    Json config() const override {
        const bool grouped = format_.choice("scope") == "group";
        return {{"quant_method", "awq"}, {"bits", 4},         {"group_size", grouped ? format_.integer("group") : -1},
                {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
    }

    std::vector<std::string> notes() const override {
        std::vector<std::string> notes;
        if (!is_common_group(format_))
            notes.emplace_back(uncommon_group_note);
        if (rounded_)
            notes.emplace_back("scales were rounded to float16");
        return notes;
    }

private:
    FormatSpec format_;
    bool rounded_ = false;
};

} // namespace

std::unique_ptr<Layout> make_awq_layout(const LayoutRequest& request) {
    return std::make_unique<AwqLayout>(request);
}

} // namespace qs
