#include "app/cli/text_options.h"

#include <iterator>

#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/model/text_windows.h"

namespace qs::cli {

namespace {

std::string read_file(const std::string& path) {
    return std::string(as_text(MappedFile::open(path)->bytes()));
}

Index context_of(const TextOptions& options, const DecoderConfig& config, bool documents) {
    return options.context > 0 ? options.context : usual_context(config, documents);
}

/// Token ids are run as they are: whoever wrote them put the BOS token where it belongs.
std::vector<std::vector<int>> windows_of_ids(const TextOptions& options, const std::string& file,
                                             const DecoderConfig& config, Index& context) {
    const auto documents = parse_ids(read_file(file), file);
    context = context_of(options, config, documents.size() > 1);
    std::vector<std::vector<int>> windows;
    for (const auto& document : documents)
        std::ranges::move(cut_windows(document, {}, context), std::back_inserter(windows));
    return windows;
}

std::vector<std::vector<int>> windows_of_text(const TextOptions& options, const std::string& file,
                                              const Decoder& decoder, Index& context) {
    const auto tokenizer = options.open(decoder.weights().checkpoint());
    context = context_of(options, decoder.config(), !options.split.empty());
    return text_windows(*tokenizer, decoder.config(), read_file(file), {options.split, context, 0});
}

} // namespace

void add_context_option(CLI::App& command, int& context) {
    command
        .add_option("--context", context,
                    "Tokens of a window, BOS included (default: 512; with --split what the model takes)")
        ->type_name("N")
        ->check(CLI::Range(2, 1 << 20));
}

void add_tokenizer_option(CLI::App& command, std::string& path) {
    command
        .add_option("--tokenizer", path,
                    "Folder or file of the tokenizer, where it is neither in the checkpoint nor beside it")
        ->type_name("PATH");
}

void add_calibration_tokens_option(CLI::App& command, int& tokens) {
    command.add_option("--calibration-tokens", tokens, "Calibrate on the first N tokens at most")
        ->type_name("N")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
}

std::unique_ptr<Tokenizer> open_chosen_tokenizer(const std::string& path, const Checkpoint& checkpoint) {
    return path.empty() ? open_tokenizer(checkpoint) : open_tokenizer(std::filesystem::path(path));
}

void TextOptions::add(CLI::App& command, const std::string& use, const std::string& option) {
    auto* text_option = command.add_option(option, text, "Text to " + use)->type_name("FILE");
    command.add_option("--ids", ids, "Token ids to " + use + " instead of a text: numbers, or JSON lists of them")
        ->type_name("FILE")
        ->excludes(text_option);
    add_context_option(command, context);
    command
        .add_option("--split", split,
                    "Cut the text into documents at this string; each is stripped of white space and run on its own")
        ->type_name("STRING")
        ->needs(text_option);
    add_tokenizer_option(command, tokenizer);
}

const std::string& TextOptions::file() const {
    if (!given())
        throw UsageError("--text or --ids is required");
    return ids.empty() ? text : ids;
}

std::vector<std::vector<int>> TextOptions::windows(const std::string& file, const Decoder& decoder,
                                                   Index& context) const {
    return ids.empty() ? windows_of_text(*this, file, decoder, context)
                       : windows_of_ids(*this, file, decoder.config(), context);
}

} // namespace qs::cli
