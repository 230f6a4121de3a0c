#include "core/model/tokenizer.h"

#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_readers.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

// The files that hold a tokenizer, as they are named beside weights.
constexpr const char* file_names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer.bin"};

std::unique_ptr<Tokenizer> read_json_file(const MappedFile& file) {
    const std::string name = file.path().filename().string();
    return name.ends_with("vocab.json") ? read_vocab_and_merges(file) : read_huggingface(file);
}

std::unique_ptr<Tokenizer> open_file(const fs::path& path) {
    const auto file = MappedFile::open(path);
    const std::string_view text = as_text(file->bytes());
    if (text.starts_with("GGUF"))
        return read_gguf_tokenizer(*open_checkpoint(path));
    if (const std::size_t first = text.find_first_not_of(" \t\r\n");
        first != std::string_view::npos && text[first] == '{')
        return read_json_file(*file);
    if (path.extension() == ".bin" || is_llama2c(file->bytes()))
        return read_llama2c(*file);
    if (text.starts_with('\n')) // the tag of a SentencePiece model's first piece
        return read_sentencepiece(*file);
    throw Error(path.string(), "is no known tokenizer",
                "tokenizer.json, SentencePiece models, vocab.json with merges.txt, llama2.c's tokenizer.bin and GGUF "
                "files are opened");
}

/// The first of the files that a folder has.
std::optional<fs::path> file_in(const fs::path& folder) {
    for (const char* name : file_names)
        if (fs::exists(folder / name))
            return folder / name;
    return std::nullopt;
}

std::unique_ptr<Tokenizer> open_in_folder(const fs::path& folder) {
    if (const auto file = file_in(folder))
        return open_file(*file);
    throw Error(folder.string(), "holds no tokenizer",
                "put tokenizer.json, tokenizer.model, vocab.json with merges.txt or tokenizer.bin beside the weights");
}

std::optional<std::size_t> vocabulary_of(const Checkpoint& checkpoint) {
    if (checkpoint.config == nullptr)
        return std::nullopt;
    const nlohmann::json& config = decoder_config(*checkpoint.config);
    const auto size = config.find("vocab_size");
    return size != config.end() && size->is_number_unsigned() ? std::optional(size->get<std::size_t>()) : std::nullopt;
}

/// Training runs leave their checkpoints in folders below the tokenizer's. What lies there may belong to another model,
/// so the vocabularies must be of one size; llama2.c writes that into the file's name too.
std::unique_ptr<Tokenizer> open_above(const Checkpoint& checkpoint, fs::path folder) {
    constexpr int most_levels = 2;
    const std::optional<std::size_t> vocabulary = vocabulary_of(checkpoint);
    for (int level = 0; level < most_levels && vocabulary && folder.has_relative_path(); ++level) {
        folder = folder.parent_path();
        auto file = file_in(folder);
        if (const fs::path own = folder / fmt::format("tok{}.bin", *vocabulary); !file && fs::exists(own))
            file = own;
        if (!file)
            continue;
        auto tokenizer = open_file(*file);
        return tokenizer->traits().size == *vocabulary ? std::move(tokenizer) : nullptr;
    }
    return nullptr;
}

std::unique_ptr<Tokenizer> open_beside(const Checkpoint& checkpoint) {
    const fs::path path = fs::absolute(checkpoint.path).lexically_normal();
    const fs::path folder = fs::is_directory(path) ? path : path.parent_path();
    if (!file_in(folder))
        if (auto tokenizer = open_above(checkpoint, folder.has_filename() ? folder : folder.parent_path()))
            return tokenizer;
    return open_in_folder(folder);
}

/// Calls open() and names the path where the file system fails.
template <class Open>
std::unique_ptr<Tokenizer> naming(const fs::path& path, const Open& open) {
    try {
        return open();
    } catch (const fs::filesystem_error& failure) {
        throw Error(path.string(), "cannot be read: " + failure.code().message());
    }
}

} // namespace

std::vector<TokenId> Tokenizer::front() const {
    return traits_.bos ? std::vector{*traits_.bos} : std::vector<TokenId>{};
}

std::vector<TokenId> Tokenizer::back() const {
    return traits_.eos ? std::vector{*traits_.eos} : std::vector<TokenId>{};
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
    if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()) / 4)
        throw Error("", fmt::format("a text of {} bytes is too long to encode at once", text.size()));
    std::vector<TokenId> ids = options.bos ? front() : std::vector<TokenId>{};
    if (is_utf8(text))
        encode_text(text, options.special, ids);
    else
        encode_text(to_utf8(text), options.special, ids);
    if (options.eos)
        for (const TokenId id : back())
            ids.push_back(id);
    return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
    check(ids);
    return to_utf8(decode_bytes(ids, true));
}

std::string Tokenizer::piece(TokenId id) const {
    const std::span<const TokenId> one(&id, 1);
    check(one);
    return decode_bytes(one, false);
}

void Tokenizer::check(std::span<const TokenId> ids) const {
    for (const TokenId id : ids)
        if (id < 0 || static_cast<std::size_t>(id) >= traits_.size)
            throw Error(traits_.file, fmt::format("there is no token {} in a vocabulary of {}", id, traits_.size));
}

std::unique_ptr<Tokenizer> open_tokenizer(const Checkpoint& checkpoint) {
    if (checkpoint.container.starts_with("GGUF"))
        return read_gguf_tokenizer(checkpoint);
    return naming(checkpoint.path, [&] { return open_beside(checkpoint); });
}

std::unique_ptr<Tokenizer> open_tokenizer(const fs::path& path) {
    return naming(path, [&] {
        if (!fs::exists(path))
            throw Error(path.string(), "does not exist");
        return fs::is_directory(path) ? open_in_folder(path) : open_file(path);
    });
}

} // namespace qs
