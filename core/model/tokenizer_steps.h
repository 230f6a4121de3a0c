#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/model/tokenizer_regex.h"

// The steps before and after a model, named as in Hugging Face's tokenizer.json (huggingface/tokenizers).

namespace qs {

/// Changes a text before it is cut into pieces.
using Normalizer = std::function<void(std::string& text)>;

/// A part of a text that the model sees alone.
struct Piece {
    std::string text;
    bool at_start; ///< it is what the whole text begins with
};

/// Cuts pieces into smaller ones, or rewrites them.
using PreTokenizer = std::function<void(std::vector<Piece>& pieces)>;

/// Turns the texts of tokens into what they spell, joined once all decoders have run. `whole` is false where a lone
/// token is shown: then nothing is taken off its beginning.
using Decoder = std::function<void(std::vector<std::string>& tokens, bool whole)>;

/// Each builds a step from its JSON description; null is no step. Throws Error(`where`, …) naming a step or a field
/// that is unknown or wrong.
Normalizer make_normalizer(const nlohmann::json& description, const std::string& where);
PreTokenizer make_pre_tokenizer(const nlohmann::json& description, const std::string& where);
Decoder make_decoder(const nlohmann::json& description, const std::string& where);

/// The words of GPT-2 (openai/gpt-2, src/encoder.py).
inline constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// The step that cuts each piece at the matches of an expression and keeps all parts.
PreTokenizer split_isolated(const Regex& regex);
/// The step that writes each piece in GPT-2's byte alphabet.
PreTokenizer byte_alphabet_step();

} // namespace qs
