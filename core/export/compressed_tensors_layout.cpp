#include "core/export/layout.h"
#include "core/export/stored_values.h"

// compressed-tensors' "naive-quantized" layout (vllm-project/compressed-tensors ac8e2ba8) of weights in FP8; inputs
// stay as they are.

namespace qs {

namespace {

class Fp8Layout final : public Layout {
public:
    explicit Fp8Layout(const LayoutRequest& request)
        : by_channel_(request.variant.format.choice("scale") == "channel") {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        const std::vector<std::int64_t> scales =
            by_channel_ ? std::vector<std::int64_t>{tensor.outputs, 1} : std::vector<std::int64_t>{1};
        return {safetensors_entry(tensor.name, "F8_E4M3", {tensor.outputs, tensor.inputs}),
                safetensors_entry(tensor.name + "_scale", "F32", scales)};
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        return {{tensor.name, bytes_of(stored_values<std::uint8_t>(result, "codes.u8"))},
                {tensor.name + "_scale", bytes_of(stored_values<float>(result, "scales.f32"))}};
    }

    Json config() const override {
        const Json weights{{"num_bits", 8},         {"type", "float"},
                           {"symmetric", true},     {"strategy", by_channel_ ? "channel" : "tensor"},
                           {"dynamic", false},      {"observer", "minmax"},
                           {"group_size", nullptr}, {"block_structure", nullptr},
                           {"actorder", nullptr}};
        return {{"config_groups",
                 {{"group_0",
                   {{"targets", Json::array({"Linear"})},
                    {"weights", weights},
                    {"input_activations", nullptr},
                    {"output_activations", nullptr}}}}},
                {"format", "naive-quantized"},
                {"ignore", Json::array({"lm_head"})},
                {"kv_cache_scheme", nullptr},
                {"quant_method", "compressed-tensors"},
                {"quantization_status", "compressed"}};
    }

private:
    bool by_channel_;
};

} // namespace

std::unique_ptr<Layout> make_compressed_tensors_layout(const LayoutRequest& request) {
    return std::make_unique<Fp8Layout>(request);
}

} // namespace qs
