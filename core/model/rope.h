#pragma once

#include <optional>
#include <vector>

#include "core/model/matrix.h"

namespace qs {

/// How rotary position embeddings are stretched beyond the context that a model was trained on.
/// Definitions: Hugging Face transformers, modeling_rope_utils.py.
enum class RopeScaling : std::uint8_t { none, linear, dynamic, yarn, llama3, longrope };

/// Rotary position embeddings of a layer: the first `dimensions` of each head are turned, dimension i together with
/// dimension i + dimensions / 2.
struct RopeSettings {
    int dimensions = 0;
    double base = 10000;
    RopeScaling scaling = RopeScaling::none;
    double factor = 1;                      ///< how many times longer the context becomes
    int original_context = 0;               ///< dynamic, yarn, llama3, longrope: trained on so many tokens
    double low_frequency = 1;               ///< llama3: turns in the original context below which a frequency is
    double high_frequency = 4;              ///< divided by the factor, and above which it is kept
    double beta_fast = 32, beta_slow = 1;   ///< yarn: the same bounds
    std::vector<double> short_factors;      ///< longrope: divisors of the frequencies for texts that fit the
    std::vector<double> long_factors;       ///< original context, and for longer ones
    std::vector<double> divisors;           ///< of the frequencies, from a GGUF file's rope_freqs; may be empty
    std::optional<double> attention_factor; ///< of cosines and sines; else as yarn and longrope define it
};

/// What cosines and sines are multiplied by, which makes up for the flatter attention over a longer context.
double attention_factor_of(const RopeSettings& settings);
/// By what the scaling "llama3" divides the frequency of each pair of dimensions.
std::vector<double> llama3_divisors(const RopeSettings& settings);

/// Cosines and sines of the turns of positions 0, 1, …: a row a position, a column a pair of dimensions.
struct RopeTable {
    Matrix cosines, sines;
};

/// The table for a text of so many tokens, whose length some scalings depend on.
RopeTable make_rope_table(const RopeSettings& settings, Index tokens);

/// Turns every head of `heads` (a row a token, heads of `head_dim` side by side); row i stands at position first + i.
void apply_rope(const RopeTable& table, Index first, Index head_dim, Eigen::Ref<Matrix> heads);

} // namespace qs
