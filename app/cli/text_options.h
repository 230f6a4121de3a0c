#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/cli/command.h"
#include "core/model/decoder.h"
#include "core/model/tokenizer.h"

namespace qs::cli {

// Options that several commands have.
void add_context_option(CLI::App& command, int& context);
void add_tokenizer_option(CLI::App& command, std::string& path);
void add_calibration_tokens_option(CLI::App& command, int& tokens);

/// The tokenizer at a path, or the checkpoint's own where that is empty.
std::unique_ptr<Tokenizer> open_chosen_tokenizer(const std::string& path, const Checkpoint& checkpoint);

/// --text, --ids, --context, --split and --tokenizer of a command that runs a model over a text.
struct TextOptions {
    std::string text, ids, split, tokenizer;
    int context = 0;

    /// `use` says what is done with the text, which `option` names.
    void add(CLI::App& command, const std::string& use, const std::string& option = "--text");
    bool given() const { return !text.empty() || !ids.empty(); }
    /// The text, or the file of token ids. Throws UsageError where neither is given.
    const std::string& file() const;
    std::unique_ptr<Tokenizer> open(const Checkpoint& checkpoint) const {
        return open_chosen_tokenizer(tokenizer, checkpoint);
    }
    /// All windows of a text, or of token ids where --ids is given; and the context that was chosen.
    std::vector<std::vector<int>> windows(const std::string& file, const Decoder& decoder, Index& context) const;
};

} // namespace qs::cli
