#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/export/layout.h"
#include "core/export/stored_values.h"

// What vllm-project/compressed-tensors stores of weights in FP8, NVFP4 and MX formats (ac8e2ba8; 0.20.0 for MX:
// compressors/*/base.py, quantization/quant_scheme.py); inputs stay as they are.

namespace qs {

namespace {

/// What the layout's config says of a format.
struct Scheme {
    const char* id;     ///< of the format
    const char* format; ///< the compressor
    int bits;
    const char* strategy;
    int group;               ///< weights of a scale, 0: a row or the tensor
    const char* scale_dtype; ///< in PyTorch's words; null: the model's
};

constexpr Scheme schemes[] = {
    {"fp8_e4m3", "naive-quantized", 8, "tensor", 0, nullptr},
    {"nvfp4", "nvfp4-pack-quantized", 4, "tensor_group", 16, "torch.float8_e4m3fn"},
    {"mxfp4", "mxfp4-pack-quantized", 4, "group", 32, "torch.uint8"},
    {"mxfp8_e4m3", "mxfp8-quantized", 8, "group", 32, "torch.uint8"},
};

class CompressedTensorsLayout final : public Layout {
public:
    explicit CompressedTensorsLayout(const LayoutRequest& request)
        : scheme_(*std::ranges::find(schemes, request.variant.format.id,
                                     [](const Scheme& scheme) { return std::string(scheme.id); })),
          by_channel_(scheme_.group == 0 && request.variant.format.choice("scale") == "channel") {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        if (scheme_.group > 0 && tensor.inputs % scheme_.group != 0)
            throw Error("tensor " + tensor.name,
                        fmt::format("has {} inputs, and the layout compressed-tensors stores whole blocks of {}",
                                    tensor.inputs, scheme_.group),
                        "choose the format fp8_e4m3 or nf4");
        std::vector<SafetensorsEntry> all{
            packed() ? safetensors_entry(weight_name(tensor), "U8", {tensor.outputs, tensor.inputs / 2})
                     : safetensors_entry(weight_name(tensor), "F8_E4M3", {tensor.outputs, tensor.inputs}),
            scale_entry(tensor)};
        if (has_global())
            all.push_back(safetensors_entry(global_name(tensor), "F32", {1}));
        return all;
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        if (scheme_.group == 0)
            return {{weight_name(tensor), bytes_of(stored_values<std::uint8_t>(result, "codes.u8"))},
                    {scale_name(tensor), bytes_of(stored_values<float>(result, "scales.f32"))}};
        Tensors all{{weight_name(tensor), bytes_of(stored_values<std::uint8_t>(result, "elements.u8"))},
                    {scale_name(tensor), bytes_of(stored_values<std::uint8_t>(result, "scales.u8"))}};
        if (has_global()) // is divided by
            all.emplace_back(global_name(tensor),
                             bytes_of(std::vector{1 / stored_values<float>(result, "global.f32").front()}));
        return all;
    }

    Json config() const override {
        const auto text_or_null = [](const char* text) { return text == nullptr ? Json() : Json(text); };
        const Json weights{{"num_bits", scheme_.bits},
                           {"type", "float"},
                           {"symmetric", true},
                           {"strategy", by_channel_ ? "channel" : scheme_.strategy},
                           {"group_size", scheme_.group > 0 ? Json(scheme_.group) : Json()},
                           {"dynamic", false},
                           {"scale_dtype", text_or_null(scheme_.scale_dtype)},
                           {"zp_dtype", text_or_null(scheme_.scale_dtype)}};
        return {{"config_groups",
                 {{"group_0",
                   {{"targets", Json::array({"Linear"})},
                    {"weights", weights},
                    {"input_activations", nullptr},
                    {"output_activations", nullptr}}}}},
                {"format", scheme_.format},
                {"ignore", Json::array({"lm_head"})},
                {"kv_cache_scheme", nullptr},
                {"quant_method", "compressed-tensors"},
                {"quantization_status", "compressed"}};
    }

private:
    bool packed() const { return scheme_.bits == 4; }
    bool has_global() const { return scheme_.strategy == std::string_view("tensor_group"); }
    std::string weight_name(const LinearTensor& tensor) const { return tensor.name + (packed() ? "_packed" : ""); }
    static std::string scale_name(const LinearTensor& tensor) { return tensor.name + "_scale"; }
    static std::string global_name(const LinearTensor& tensor) { return tensor.name + "_global_scale"; }

    SafetensorsEntry scale_entry(const LinearTensor& tensor) const {
        if (scheme_.group > 0)
            return safetensors_entry(scale_name(tensor), has_global() ? "F8_E4M3" : "U8",
                                     {tensor.outputs, tensor.inputs / scheme_.group});
        return safetensors_entry(scale_name(tensor), "F32",
                                 by_channel_ ? std::vector<std::int64_t>{tensor.outputs, 1}
                                             : std::vector<std::int64_t>{1});
    }

    const Scheme& scheme_;
    bool by_channel_;
};

} // namespace

std::unique_ptr<Layout> make_compressed_tensors_layout(const LayoutRequest& request) {
    return std::make_unique<CompressedTensorsLayout>(request);
}

} // namespace qs
