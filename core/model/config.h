#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/activation.h"
#include "core/checkpoint/checkpoint.h"
#include "core/model/rope.h"

namespace qs {

struct ArchitectureTraits;

enum class NormKind : std::uint8_t { rms, layer };

/// What the forward pass of a decoder must know beside its weights: a list of what the families do differently rather
/// than their names. Made by read_decoder_config().
struct DecoderConfig {
    std::string family; ///< model_type, in GGUF general.architecture
    int layers = 0;
    int hidden = 0;
    int heads = 0;
    int kv_heads = 0; ///< each is shared by heads / kv_heads heads of queries
    int head_dim = 0;
    int intermediate = 0;
    int vocabulary = 0;
    int max_context = 0; ///< 0 if unknown
    bool tied_head = false;

    NormKind norm = NormKind::rms;
    double norm_epsilon = 1e-5;
    double norm_offset = 0;    ///< norms scale by weight + offset
    bool output_norms = false; ///< the outputs of attention and MLP are normed before they are added
    bool qk_norm = false;      ///< the heads of q and k are normed before they are turned

    bool fused_qkv = false;     ///< one matrix for q, k and v
    bool fused_gate_up = false; ///< one matrix for gate and up
    bool gated = true;          ///< activation(gate) · up rather than activation(up)
    Activation activation = Activation::silu;

    double embedding_scale = 1;
    double attention_scale = 1;   ///< of the products of queries and keys
    double attention_softcap = 0; ///< c · tanh(x / c) of their products; 0 for none
    double logit_softcap = 0;     ///< the same of the logits

    bool learned_positions = false; ///< added to the embedding; else rope
    RopeSettings rope;              ///< of layers that attend to everything
    RopeSettings sliding_rope;      ///< of layers that attend to the window
    int sliding_window = 0;         ///< a token attends to itself and so many − 1 before it
    std::vector<bool> layer_slides; ///< which layers do; empty for none

    bool gguf = false; ///< llama.cpp's names
    /// Rows of q and k are stored in the order in which dimensions 2i and 2i + 1 of a head turn together, as llama.cpp
    /// has the llama architecture; they are put into Hugging Face's order when loaded.
    bool interleaved_qk = false;

    bool slides(int layer) const { return !layer_slides.empty() && layer_slides[static_cast<std::size_t>(layer)]; }
    const RopeSettings& rope_of(int layer) const { return slides(layer) ? sliding_rope : rope; }
};

/// Reads config.json or GGUF metadata. Throws Error naming the file and what the model has that this forward pass does
/// not know.
DecoderConfig read_decoder_config(const Checkpoint& checkpoint);

/// Whether llama.cpp stores the rows of q and k of an architecture, by its general.architecture, as `interleaved_qk`
/// says.
bool interleaves_qk(std::string_view architecture);
/// What follows from a general.architecture alone, where a config.json may say something else.
Activation activation_of_gguf(const ArchitectureTraits& traits);
/// By what llama.cpp multiplies the products of queries and keys, which follows from dimensions.
double attention_scale_of_gguf(const DecoderConfig& config, std::string_view architecture);

} // namespace qs
