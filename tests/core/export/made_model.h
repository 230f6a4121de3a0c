#pragma once

#include <QDir>
#include <QTemporaryDir>

#include <functional>
#include <random>

#include "core/base/error.h"
#include "core/export/companions.h"
#include "core/export/safetensors_file.h"
#include "core/export/stored_values.h"
#include "core/model/decoder.h"

namespace qs::test {

/// A Llama with biases whose heads do not share keys and values, with weights of a normal distribution.
class MadeModel {
public:
    /// Is given each tensor before it is written.
    using Change = std::function<void(const std::string& name, std::vector<float>& values)>;

    explicit MadeModel(const Change& change = {}) {
        write_json(path() / "config.json", config());
        std::vector<SafetensorsEntry> entries;
        for (const auto& [name, shape] : tensors())
            entries.push_back(safetensors_entry(name, "F32", shape));
        SafetensorsWriter writer(path(), entries);
        std::mt19937 random(7);
        for (const SafetensorsEntry& entry : entries) {
            std::normal_distribution<float> normal(entry.name.ends_with("norm.weight") ? 1.0F : 0.0F, 0.2F);
            std::vector<float> values(entry.bytes / sizeof(float));
            for (float& value : values)
                value = normal(random);
            if (change)
                change(entry.name, values);
            writer.put(entry.name, bytes_of(values));
        }
        writer.finish();
    }

    std::filesystem::path path() const { return folder_.path().toStdString(); }
    Decoder decoder() const { return Decoder(open_checkpoint(path())); }

private:
    static constexpr std::int64_t hidden = 64, intermediate = 96, vocabulary = 50, layers = 2;

    static Json config() {
        return {{"model_type", "llama"},
                {"architectures", {"LlamaForCausalLM"}},
                {"hidden_size", hidden},
                {"intermediate_size", intermediate},
                {"num_hidden_layers", layers},
                {"num_attention_heads", 4},
                {"num_key_value_heads", 4},
                {"vocab_size", vocabulary},
                {"max_position_embeddings", 64},
                {"rms_norm_eps", 1e-5},
                {"hidden_act", "silu"},
                {"attention_bias", true},
                {"mlp_bias", true},
                {"tie_word_embeddings", false},
                {"torch_dtype", "float32"}};
    }

    static std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors() {
        std::vector<std::pair<std::string, std::vector<std::int64_t>>> all{
            {"model.embed_tokens.weight", {vocabulary, hidden}},
            {"lm_head.weight", {vocabulary, hidden}},
            {"model.norm.weight", {hidden}}};
        for (int layer = 0; layer < layers; ++layer) {
            const std::string prefix = "model.layers." + std::to_string(layer) + ".";
            const auto linear = [&](const char* module, std::int64_t outputs, std::int64_t inputs) {
                all.push_back({prefix + module + ".weight", {outputs, inputs}});
                all.push_back({prefix + module + ".bias", {outputs}});
            };
            for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"})
                linear(module, hidden, hidden);
            linear("mlp.gate_proj", intermediate, hidden);
            linear("mlp.up_proj", intermediate, hidden);
            linear("mlp.down_proj", hidden, intermediate);
            for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
                all.push_back({prefix + norm + ".weight", {hidden}});
        }
        return all;
    }

    QTemporaryDir folder_;
};

} // namespace qs::test
