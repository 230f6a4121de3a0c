#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/export/gguf_plan.h"
#include "core/memory/architectures.h"

// The keys are those of ggml's docs/gguf.md and of what llama.cpp's convert_hf_to_gguf.py writes; core/model/config.cpp
// and core/memory/config_card.cpp read them.

namespace qs {

namespace {

/// Writes the keys of one architecture.
class ModelMetadata {
public:
    ModelMetadata(GgufPlan& plan, const Checkpoint& checkpoint, const DecoderConfig& config)
        : plan_(plan), file_(checkpoint.path.string()), config_(config), traits_(*find_architecture(config.family)),
          architecture_(traits_.gguf_name()) {}

    void add(const std::string& name) {
        refuse_what_gguf_does_not_tell();
        plan_.header.set("general.architecture", architecture_);
        plan_.header.set("general.type", "model");
        if (!name.empty())
            plan_.header.set("general.name", name);
        add_dimensions();
        add_attention();
        if (!config_.learned_positions)
            add_rope();
    }

private:
    void number(const char* key, int value) { plan_.header.set(full(key), static_cast<std::uint32_t>(value)); }
    void real(const char* key, double value) { plan_.header.set(full(key), static_cast<float>(value)); }
    std::string full(const char* key) const { return std::string(architecture_) + "." + key; }

    [[noreturn]] void refuse(const std::string& what) const {
        throw Error(file_,
                    fmt::format("{}, which a GGUF file of the architecture '{}' cannot tell", what, architecture_));
    }

    void refuse_what_gguf_does_not_tell() const {
        if (config_.activation != activation_of_gguf(traits_))
            refuse("has another activation than its architecture");
        const double scale = attention_scale_of_gguf(config_, architecture_);
        if (std::abs(config_.attention_scale - scale) > 1e-6 * scale)
            refuse(fmt::format("scales its attention by {:.6g} rather than {:.6g}", config_.attention_scale, scale));
        if (interleaves_qk(architecture_) && config_.rope.dimensions != config_.head_dim)
            refuse(fmt::format("turns {} dimensions of heads of {}", config_.rope.dimensions, config_.head_dim));
    }

    void add_dimensions() {
        number("vocab_size", config_.vocabulary);
        number("context_length", config_.max_context);
        number("embedding_length", config_.hidden);
        number("block_count", config_.layers);
        number("feed_forward_length", config_.intermediate);
    }

    void add_attention() {
        number("attention.head_count", config_.heads);
        number("attention.head_count_kv", config_.kv_heads);
        number("attention.key_length", config_.head_dim);
        number("attention.value_length", config_.head_dim);
        const bool rms = config_.norm == NormKind::rms;
        real(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", config_.norm_epsilon);
        if (config_.attention_softcap != 0)
            real("attn_logit_softcapping", config_.attention_softcap);
        if (config_.logit_softcap != 0)
            real("final_logit_softcapping", config_.logit_softcap);
        add_window();
    }

    /// llama.cpp's other architectures know no window; of these two it takes one for granted or asks for it.
    void add_window() {
        const bool phi3 = architecture_ == "phi3", gemma2 = architecture_ == "gemma2";
        if (config_.sliding_window == 0) {
            if (phi3 || gemma2)
                number("attention.sliding_window", phi3 ? 0 : config_.max_context);
            return;
        }
        if (!phi3 && !architecture_.starts_with("gemma")) {
            plan_.notes.push_back(fmt::format("the window of {} tokens is not told: llama.cpp's architecture '{}' "
                                              "attends to everything",
                                              config_.sliding_window, architecture_));
            return;
        }
        number("attention.sliding_window", config_.sliding_window);
        if (!slides_as_usual())
            plan_.header.set(full("attention.sliding_window_pattern"), config_.layer_slides);
    }

    bool slides_as_usual() const {
        for (int layer = 0; layer < config_.layers; ++layer)
            if (config_.slides(layer) != (traits_.global_every == 1 || (layer + 1) % traits_.global_every != 0))
                return false;
        return true;
    }

    void add_rope() {
        const RopeSettings& rope = config_.rope;
        number("rope.dimension_count", rope.dimensions);
        real("rope.freq_base", rope.base);
        if (architecture_ == "gemma3")
            real("rope.freq_base_swa", config_.sliding_rope.base);
        if (architecture_ == "phi3")
            number("rope.scaling.original_context_length", rope.original_context);
        switch (rope.scaling) {
        case RopeScaling::none:
            break;
        case RopeScaling::linear:
            add_scaling("linear", rope.factor);
            break;
        case RopeScaling::yarn:
            add_yarn();
            break;
        case RopeScaling::llama3:
            add_factors("rope_freqs.weight", llama3_divisors(rope));
            break;
        case RopeScaling::longrope:
            add_longrope();
            break;
        case RopeScaling::dynamic:
            plan_.notes.push_back("the rope scaling 'dynamic', which GGUF files do not tell, is left out: texts that "
                                  "fit the model's context are not affected");
            break;
        }
    }

    void add_scaling(const char* type, double factor) {
        plan_.header.set(full("rope.scaling.type"), type);
        real("rope.scaling.factor", factor);
    }

    void add_yarn() {
        const RopeSettings& rope = config_.rope;
        add_scaling("yarn", rope.factor);
        number("rope.scaling.original_context_length", rope.original_context);
        real("rope.scaling.yarn_beta_fast", rope.beta_fast);
        real("rope.scaling.yarn_beta_slow", rope.beta_slow);
        // llama.cpp multiplies this factor and YaRN's own.
        if (rope.attention_factor)
            real("rope.scaling.attn_factor", *rope.attention_factor / (0.1 * std::log(rope.factor) + 1));
    }

    void add_longrope() {
        const RopeSettings& rope = config_.rope;
        plan_.header.set(full("rope.scaling.type"), "longrope");
        number("rope.scaling.original_context_length", rope.original_context);
        real("rope.scaling.attn_factor", attention_factor_of(rope));
        add_factors("rope_factors_long.weight", rope.long_factors);
        add_factors("rope_factors_short.weight", rope.short_factors);
    }

    void add_factors(const char* name, const std::vector<double>& factors) {
        PlannedTensor tensor;
        tensor.name = name;
        tensor.shape = {static_cast<std::int64_t>(factors.size())};
        tensor.values.assign(factors.begin(), factors.end());
        plan_.tensors.push_back(std::move(tensor));
    }

    GgufPlan& plan_;
    std::string file_;
    const DecoderConfig& config_;
    const ArchitectureTraits& traits_;
    std::string_view architecture_;
};

/// The folder that holds the model.
std::string name_of(const Checkpoint& checkpoint) {
    const auto path = std::filesystem::weakly_canonical(checkpoint.path);
    return (std::filesystem::is_directory(path) ? path : path.parent_path()).filename().string();
}

} // namespace

void add_model_metadata(GgufPlan& plan, const Checkpoint& checkpoint, const DecoderConfig& config) {
    ModelMetadata(plan, checkpoint, config).add(name_of(checkpoint));
}

} // namespace qs
