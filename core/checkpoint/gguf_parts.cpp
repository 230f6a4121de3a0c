#include <charconv>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"

namespace qs {

namespace {

constexpr std::size_t digits = 5;

std::optional<int> five_digits(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && text.front() != '-' ? std::optional(value)
                                                                                           : std::nullopt;
}

/// How many parts llama.cpp split this file into; 1 for a whole file.
std::uint64_t split_count(const nlohmann::json& metadata) {
    const auto found = metadata.find("split.count");
    return found != metadata.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 1;
}

ParsedFile parse(const MappedFile& file) {
    if (recognise(file.bytes(), file.path()) != Container::gguf)
        throw Error(file.path().string(), "is a part of a split GGUF, but does not begin with the GGUF magic");
    return parse_gguf(file.bytes(), file.path().string());
}

void check_part(const ParsedFile& parsed, const MappedFile& file, const PartName& name, int part) {
    const std::uint64_t count = split_count(parsed.metadata);
    if (count != static_cast<std::uint64_t>(name.count))
        throw Error(file.path().string(),
                    fmt::format("metadata 'split.count' is {}, but the file's name says {} parts", count, name.count));
    const auto number = parsed.metadata.find("split.no");
    if (number != parsed.metadata.end() && *number != part - 1)
        throw Error(file.path().string(),
                    fmt::format("metadata 'split.no' is {}, but by its name the file is part {} of {}", number->dump(),
                                part, name.count));
}

std::shared_ptr<const MappedFile> map_part(const std::filesystem::path& path, const PartName& name, int part) {
    if (!std::filesystem::exists(path))
        throw Error(path.string(), fmt::format("is missing: part {} of {} of a split GGUF", part, name.count),
                    "put all parts into one folder");
    return MappedFile::open(path);
}

void adopt_metadata(Checkpoint& checkpoint, nlohmann::json&& metadata) {
    const auto architecture = metadata.find("general.architecture");
    if (architecture != metadata.end() && architecture->is_string())
        checkpoint.architecture = architecture->get<std::string>();
    checkpoint.config = std::make_shared<const nlohmann::json>(std::move(metadata));
}

std::shared_ptr<Checkpoint> open_whole(std::shared_ptr<const MappedFile> file, ParsedFile&& parsed) {
    auto checkpoint = std::make_shared<Checkpoint>();
    adopt_metadata(*checkpoint, std::move(parsed.metadata));
    append_file(*checkpoint, std::move(file), std::move(parsed));
    return checkpoint;
}

/// True if there is a list of tokens, which is what a GGUF without tensors is for.
bool has_vocabulary(const nlohmann::json& metadata) {
    const auto tokens = metadata.find("tokenizer.ggml.tokens");
    return tokens != metadata.end() && ((tokens->is_array() && !tokens->empty()) || tokens->is_object());
}

/// All parts of a split file, of which `file` is one.
std::shared_ptr<Checkpoint> open_parts(const std::shared_ptr<const MappedFile>& file, const PartName& name) {
    auto checkpoint = std::make_shared<Checkpoint>();
    std::uint64_t promised = 0;
    for (int part = 1; part <= name.count; ++part) {
        const auto path = file->path().parent_path() / name.name(part);
        const auto mapped = part == name.number ? file : map_part(path, name, part);
        ParsedFile parsed = parse(*mapped);
        check_part(parsed, *mapped, name, part);
        if (part == 1) {
            promised = parsed.metadata.value("split.tensors.count", std::uint64_t{0});
            adopt_metadata(*checkpoint, std::move(parsed.metadata));
        }
        append_file(*checkpoint, mapped, std::move(parsed));
    }
    if (promised != 0 && promised != checkpoint->tensors.size())
        throw Error(file->path().string(),
                    fmt::format("metadata 'split.tensors.count' is {}, but the {} parts hold {} tensors", promised,
                                name.count, checkpoint->tensors.size()));
    return checkpoint;
}

} // namespace

std::string PartName::name(int part) const {
    return fmt::format("{}-{:05d}-of-{:05d}{}", prefix, part, count, suffix);
}

std::optional<PartName> part_name(const std::string& file_name) {
    constexpr std::string_view middle = "-of-";
    const std::size_t of = file_name.rfind(middle);
    const std::size_t count_at = of + middle.size();
    if (of == std::string::npos || of < digits + 1 || file_name[of - digits - 1] != '-' ||
        count_at + digits > file_name.size())
        return std::nullopt;
    const std::string_view text = file_name;
    const auto number = five_digits(text.substr(of - digits, digits));
    const auto count = five_digits(text.substr(count_at, digits));
    if (!number || !count || *number < 1 || *number > *count)
        return std::nullopt;
    return PartName{file_name.substr(0, of - digits - 1), *number, *count, file_name.substr(count_at + digits)};
}

std::shared_ptr<Checkpoint> open_gguf(std::shared_ptr<const MappedFile> file) {
    const std::string path = file->path().string();
    ParsedFile parsed = parse_gguf(file->bytes(), path);
    const auto name = part_name(file->path().filename().string());
    const std::uint64_t count = split_count(parsed.metadata);
    auto checkpoint = count > 1 && name ? open_parts(file, *name) : open_whole(std::move(file), std::move(parsed));
    if (count > 1 && !name)
        checkpoint->notes.push_back(fmt::format(
            "this is one of {} parts, and its name does not tell which: the other parts are not opened", count));
    if (checkpoint->tensors.empty() && !has_vocabulary(*checkpoint->config))
        throw Error(path, "holds neither tensors nor a vocabulary, only metadata");
    return checkpoint;
}

} // namespace qs
