#pragma once

#include <string_view>

namespace qs {

/// How an architecture differs from Llama. Sources: the model classes of Hugging Face transformers.
struct ArchitectureTraits {
    std::string_view type;      ///< model_type of its config.json
    std::string_view gguf = {}; ///< general.architecture where that is another name; empty where it is the same
    bool runs = false;          ///< core/model has its forward pass
    bool fused_qkv = false;     ///< one matrix for q, k and v
    bool fused_gate_up = false; ///< one matrix for the MLP's gate and up
    bool gated = true;          ///< the MLP has a gate
    bool qkv_bias = false;
    bool output_bias = false; ///< attention output and MLP matrices have biases
    bool qk_norm = false;     ///< norms over each head of q and k
    int norms = 2;            ///< a layer; with four, the outputs of attention and MLP are normed too
    bool norm_bias = false;   ///< LayerNorm rather than RMSNorm
    bool norm_offset = false; ///< norms scale by 1 + weight, and the embedding is scaled by √hidden: Gemma
    bool tied = false;        ///< the head is the embedding unless the config says otherwise
    bool learned_positions = false;
    bool head_bias = false;
    /// Of so many layers one attends to everything, the others to the window; 1 where the window is everywhere.
    int global_every = 1;

    constexpr std::string_view gguf_name() const { return gguf.empty() ? type : gguf; }
};

/// By the model_type of a config.json; null for an unknown one.
const ArchitectureTraits* find_architecture(std::string_view type);
/// By the general.architecture of a GGUF file; null for an unknown one.
const ArchitectureTraits* find_gguf_architecture(std::string_view name);

} // namespace qs
