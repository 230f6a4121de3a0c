#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model/tokenizer.h"
#include "core/model/tokenizer_added.h"
#include "core/model/tokenizer_models.h"
#include "core/model/tokenizer_steps.h"

namespace qs {

/// The parts that most tokenizers are made of. A step that is empty does nothing.
struct TokenizerParts {
    TokenizerTraits traits;
    AddedTokens raw_added;        ///< found in the text as it stands
    AddedTokens normalized_added; ///< found in the normalized text
    Normalizer normalizer;        ///< of the text between the tokens of raw_added
    PreTokenizer pre_tokenizer;
    std::unique_ptr<const TokenModel> model;
    Decoder decoder;
    std::vector<std::string> texts; ///< of every id, for the decoder
    std::vector<TokenId> front;     ///< what is put before and behind a text
    std::vector<TokenId> back;
};

/// Puts a tokenizer together; fills in traits.size.
std::unique_ptr<Tokenizer> assemble(TokenizerParts parts);

} // namespace qs
