#include <fmt/format.h>

#include "core/export/layout.h"
#include "core/export/stored_values.h"
#include "core/formats/bitsandbytes.h"

// What bitsandbytes' Linear4bit and Linear8bitLt save (bitsandbytes 95f9af30: QuantState.as_dict in functional.py,
// _save_to_state_dict in nn/modules.py) and transformers' BitsAndBytesConfig.

namespace qs {

namespace {

std::string torch_type(const std::string& float_type) {
    return float_type == "BF16" ? "bfloat16" : "float16";
}

/// transformers' own defaults, but for what the format says.
Json common_config() {
    return {{"_load_in_4bit", false},
            {"_load_in_8bit", false},
            {"bnb_4bit_compute_dtype", "float32"},
            {"bnb_4bit_quant_storage", "uint8"},
            {"bnb_4bit_quant_type", "fp4"},
            {"bnb_4bit_use_double_quant", false},
            {"llm_int8_enable_fp32_cpu_offload", false},
            {"llm_int8_has_fp16_weight", false},
            {"llm_int8_skip_modules", nullptr},
            {"llm_int8_threshold", 6.0},
            {"load_in_4bit", false},
            {"load_in_8bit", false},
            {"quant_method", "bitsandbytes"}};
}

class FourBitLayout final : public Layout {
public:
    explicit FourBitLayout(const LayoutRequest& request)
        : format_(request.variant.format), type_(torch_type(request.float_type)) {}

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        const auto count = tensor.outputs * tensor.inputs;
        const auto blocks = divide(count, format_.integer("block")), nested_blocks = divide(blocks, 256);
        std::vector<SafetensorsEntry> all{safetensors_entry(tensor.name, "U8", {divide(count, 2), 1}),
                                          safetensors_entry(tensor.name + ".absmax", nested() ? "U8" : "F32", {blocks}),
                                          safetensors_entry(tensor.name + ".quant_map", "F32", {16})};
        if (nested()) {
            all.push_back(safetensors_entry(tensor.name + ".nested_absmax", "F32", {nested_blocks}));
            all.push_back(safetensors_entry(tensor.name + ".nested_quant_map", "F32", {256}));
        }
        all.push_back(safetensors_entry(state_name(tensor), "U8", {state_size(tensor)}));
        return all;
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        Tensors all{{tensor.name, bytes_of(stored_values<std::uint8_t>(result, "weight.u8"))},
                    {tensor.name + ".quant_map", bytes_of(quant_map())}};
        if (nested()) {
            all.emplace_back(tensor.name + ".absmax", bytes_of(stored_values<std::uint8_t>(result, "absmax.u8")));
            all.emplace_back(tensor.name + ".nested_absmax",
                             bytes_of(stored_values<float>(result, "nested_absmax.f32")));
            all.emplace_back(tensor.name + ".nested_quant_map", bytes_of(nested_map()));
        } else {
            all.emplace_back(tensor.name + ".absmax", bytes_of(stored_values<float>(result, "absmax.f32")));
        }
        all.emplace_back(state_name(tensor), state(tensor, result));
        return all;
    }

    Json config() const override {
        Json config = common_config();
        config["_load_in_4bit"] = config["load_in_4bit"] = true;
        config["bnb_4bit_compute_dtype"] = type_;
        config["bnb_4bit_quant_type"] = format_.id;
        config["bnb_4bit_use_double_quant"] = nested();
        return config;
    }

private:
    /// Digits of a number, at most.
    static constexpr std::size_t longest_number = 24;

    static std::int64_t divide(std::int64_t count, std::int64_t by) { return (count + by - 1) / by; }
    bool nested() const { return format_.flag("dq"); }
    std::string state_name(const LinearTensor& tensor) const {
        return tensor.name + ".quant_state.bitsandbytes__" + format_.id;
    }

    std::vector<float> quant_map() const {
        std::vector<float> map;
        for (std::uint32_t code = 0; code < 16; ++code)
            map.push_back(format_.id == "nf4" ? Nf4Codec::level(code) : Fp4Codec::level(code));
        return map;
    }

    static std::vector<float> nested_map() {
        std::vector<float> map;
        for (std::uint32_t code = 0; code < 256; ++code)
            map.push_back(dynamic_level(code));
        return map;
    }

    /// JSON as Python spells it, without its last number.
    std::string state_text(const LinearTensor& tensor) const {
        std::string text = fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])",
                                       format_.id, format_.integer("block"), type_, tensor.outputs, tensor.inputs);
        if (nested())
            text += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": )",
                                NestedAbsmax::block);
        return text;
    }

    std::int64_t state_size(const LinearTensor& tensor) const {
        return static_cast<std::int64_t>(state_text(tensor).size() + (nested() ? longest_number : 0) + 1);
    }

    /// Where the reference's ends sooner, spaces follow: how long a number is can be known only once it is there.
    std::vector<std::byte> state(const LinearTensor& tensor, const MethodResult& result) const {
        std::string text = state_text(tensor);
        if (nested())
            text += fmt::format("{}", static_cast<double>(stored_values<float>(result, "offset.f32").front()));
        text += '}';
        text.resize(static_cast<std::size_t>(state_size(tensor)), ' ');
        return bytes_of(std::vector<char>(text.begin(), text.end()));
    }

    FormatSpec format_;
    std::string type_;
};

class EightBitLayout final : public Layout {
public:
    explicit EightBitLayout(const LayoutRequest& request) {
        if (request.variant.method.id == "llm_int8")
            threshold_ = request.variant.method.real("threshold");
    }

    std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const override {
        const std::string module = module_name(tensor);
        return {safetensors_entry(tensor.name, "I8", {tensor.outputs, tensor.inputs}),
                safetensors_entry(module + ".SCB", "F32", {tensor.outputs}),
                safetensors_entry(module + ".weight_format", "U8", {})};
    }

    Tensors tensors(const LinearTensor& tensor, const MethodResult& result) override {
        const std::string module = module_name(tensor);
        return {{tensor.name, bytes_of(stored_values<std::int8_t>(result, "CB.i8"))},
                {module + ".SCB", bytes_of(stored_values<float>(result, "SCB.f32"))},
                {module + ".weight_format", std::vector<std::byte>(1)}}; // 0: row after row
    }

    Json config() const override {
        Json config = common_config();
        config["_load_in_8bit"] = config["load_in_8bit"] = true;
        config["llm_int8_threshold"] = threshold_;
        return config;
    }

private:
    double threshold_ = 6; ///< transformers'
};

} // namespace

std::unique_ptr<Layout> make_bitsandbytes_layout(const LayoutRequest& request) {
    if (request.variant.format.id == "llm_int8")
        return std::make_unique<EightBitLayout>(request);
    return std::make_unique<FourBitLayout>(request);
}

} // namespace qs
