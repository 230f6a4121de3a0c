#include "core/memory/architectures.h"

#include <algorithm>
#include <array>

namespace qs {

namespace {

using Traits = ArchitectureTraits;

// Llama comes before Mistral and Mixtral, which are the same architecture to llama.cpp.
constexpr std::array table = {
    Traits{.type = "llama", .runs = true},
    Traits{.type = "mistral", .gguf = "llama", .runs = true},
    Traits{.type = "mixtral", .gguf = "llama"},
    Traits{.type = "qwen2", .runs = true, .qkv_bias = true},
    Traits{.type = "qwen2_moe", .gguf = "qwen2moe", .qkv_bias = true},
    Traits{.type = "qwen3", .runs = true, .qk_norm = true},
    Traits{.type = "qwen3_moe", .gguf = "qwen3moe", .qk_norm = true},
    Traits{.type = "gemma", .runs = true, .norm_offset = true, .tied = true},
    Traits{.type = "gemma2", .runs = true, .norms = 4, .norm_offset = true, .tied = true, .global_every = 2},
    Traits{.type = "gemma3_text",
           .gguf = "gemma3",
           .runs = true,
           .qk_norm = true,
           .norms = 4,
           .norm_offset = true,
           .tied = true,
           .global_every = 6},
    Traits{.type = "phi3", .runs = true, .fused_qkv = true, .fused_gate_up = true},
    Traits{.type = "phi",
           .gguf = "phi2",
           .gated = false,
           .qkv_bias = true,
           .output_bias = true,
           .norms = 1,
           .norm_bias = true,
           .head_bias = true},
    Traits{.type = "gpt2",
           .runs = true,
           .fused_qkv = true,
           .gated = false,
           .qkv_bias = true,
           .output_bias = true,
           .norm_bias = true,
           .tied = true,
           .learned_positions = true},
    Traits{.type = "gpt_neox",
           .gguf = "gptneox",
           .fused_qkv = true,
           .gated = false,
           .qkv_bias = true,
           .output_bias = true,
           .norm_bias = true},
    Traits{
        .type = "starcoder2", .gated = false, .qkv_bias = true, .output_bias = true, .norm_bias = true, .tied = true},
};

template <class Name>
const Traits* find(std::string_view name, Name name_of) {
    const auto found = std::ranges::find(table, name, name_of);
    return found == table.end() ? nullptr : &*found;
}

} // namespace

const ArchitectureTraits* find_architecture(std::string_view type) {
    return find(type, &Traits::type);
}

const ArchitectureTraits* find_gguf_architecture(std::string_view name) {
    return find(name, &Traits::gguf_name);
}

} // namespace qs
