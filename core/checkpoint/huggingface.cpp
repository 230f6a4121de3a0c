#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tbb/parallel_for.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"
#include "core/checkpoint/json_walker.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t largest_index = 256 << 20;
constexpr int deepest_config = 64;

/// The weight_map of an index: which shard holds which tensor.
class Index : public JsonWalker<Index> {
public:
    explicit Index(const std::string& file) : JsonWalker(file, "the index"), file_(file) {}

    std::vector<std::string> shards;
    std::unordered_map<std::string, std::uint32_t> owner; ///< tensor name → index into shards

    void on_key(std::string& text) {
        if (depth() == 1) {
            if (text != "weight_map")
                return skip_value();
            if (std::exchange(map_seen_, true))
                fail("has 'weight_map' twice");
        } else {
            tensor_ = std::move(text);
        }
    }

    void on_begin(bool object) {
        if (!object || depth() > 2)
            refuse();
    }

    void on_end() {}

    void on_scalar(const JsonScalar& value) {
        if (depth() != 2 || value.kind != JsonScalar::Kind::string)
            refuse();
        const auto [found, added] = shard_numbers_.try_emplace(*value.text, static_cast<std::uint32_t>(shards.size()));
        if (added)
            add_shard(*value.text);
        const auto number = found->second;
        if (!owner.try_emplace(std::move(tensor_), number).second)
            throw Error(file_, fmt::format("tensor '{}' appears twice in weight_map", printable(tensor_)));
    }

    void check() const {
        if (!map_seen_)
            throw Error(file_, "is a JSON file without a weight_map, so it is not an index of shards",
                        "open the folder or the model file instead");
        if (owner.empty())
            throw Error(file_, "has an empty weight_map");
    }

private:
    [[noreturn]] void refuse() const { fail("must map each tensor's name to a file name in its weight_map"); }

    /// A shard lies beside its index or below it, never elsewhere.
    void add_shard(const std::string& name) {
        const fs::path path(name);
        const bool inside = !name.empty() && path.is_relative() && name.find('\0') == std::string::npos &&
                            std::none_of(path.begin(), path.end(), [](const fs::path& p) { return p == ".."; });
        if (!inside)
            throw Error(file_, fmt::format("tensor '{}' is mapped to the file '{}', which is not beside the index",
                                           printable(tensor_), printable(name)));
        shards.push_back(name);
    }

    const std::string& file_;
    std::unordered_map<std::string, std::uint32_t> shard_numbers_;
    std::string tensor_;
    bool map_seen_ = false;
};

struct Shard {
    std::shared_ptr<const MappedFile> file;
    ParsedFile parsed;
};

Shard parse_shard(const fs::path& path) {
    if (!fs::exists(path))
        throw Error(path.string(), "is missing: a shard that the index names", "put all shards beside the index");
    Shard shard{MappedFile::open(path), {}};
    if (recognise(shard.file->bytes(), path) != Container::safetensors)
        throw Error(path.string(), "is a shard, but not a safetensors file");
    shard.parsed = parse_safetensors(shard.file->bytes(), path.string());
    return shard;
}

std::vector<Shard> parse_shards(const fs::path& folder, const std::vector<std::string>& names) {
    std::vector<Shard> shards(names.size());
    tbb::parallel_for(std::size_t{0}, names.size(), [&](std::size_t i) { shards[i] = parse_shard(folder / names[i]); });
    return shards;
}

/// Keeps of each shard the tensors that the index assigns to it, and those it does not know. Every tensor of the
/// index must be found.
void match_index(std::vector<Shard>& shards, const Index& index, const std::string& file,
                 std::vector<std::string>& notes) {
    std::size_t found = 0;
    std::size_t unknown = 0;
    std::size_t elsewhere = 0;
    for (std::size_t i = 0; i < shards.size(); ++i)
        std::erase_if(shards[i].parsed.tensors, [&](const TensorInfo& tensor) {
            const auto entry = index.owner.find(tensor.name);
            unknown += entry == index.owner.end();
            found += entry != index.owner.end() && entry->second == i;
            elsewhere += entry != index.owner.end() && entry->second != i;
            return entry != index.owner.end() && entry->second != i;
        });
    if (unknown != 0)
        notes.push_back(fmt::format("{} tensors of the shards are not named in the index", unknown));
    if (elsewhere != 0)
        notes.push_back(
            fmt::format("{} tensors are stored in a second shard too; the index says which one counts", elsewhere));
    if (found == index.owner.size())
        return;
    std::unordered_set<std::string_view> names;
    for (const Shard& shard : shards)
        for (const TensorInfo& tensor : shard.parsed.tensors)
            names.insert(tensor.name);
    for (const auto& [name, owner] : index.owner)
        if (!names.contains(name))
            throw Error(file, fmt::format("tensor '{}' is not in {}, where the index says it is", printable(name),
                                          printable(index.shards[owner])));
}

std::string container_text(std::size_t shards) {
    return fmt::format("safetensors ({} shards)", shards);
}

std::string architecture_of(const nlohmann::json& config) {
    const auto type = config.find("model_type");
    if (type != config.end() && type->is_string())
        return type->get<std::string>();
    const auto classes = config.find("architectures");
    if (classes != config.end() && classes->is_array() && !classes->empty() && classes->front().is_string())
        return classes->front().get<std::string>();
    return {};
}

/// The config.json beside the weights. A broken one does not spoil the weights: it becomes a note.
void attach_config(Checkpoint& checkpoint, const fs::path& folder) {
    const fs::path path = folder / "config.json";
    if (!fs::exists(path))
        return;
    try {
        checkpoint.config = std::make_shared<const nlohmann::json>(read_config(path));
        checkpoint.architecture = architecture_of(*checkpoint.config);
    } catch (const Error& error) {
        checkpoint.notes.push_back(std::string("config.json is left aside: ") + error.what());
    }
}

/// Shards without an index: all files of one PREFIX-0000N-of-0000M set.
std::shared_ptr<Checkpoint> open_shard_set(const fs::path& folder, const std::vector<std::string>& names) {
    auto checkpoint = std::make_shared<Checkpoint>();
    for (Shard& shard : parse_shards(folder, names))
        append_file(*checkpoint, std::move(shard.file), std::move(shard.parsed));
    checkpoint->container = container_text(names.size());
    checkpoint->notes.push_back("there is no index beside the shards: they were joined by their names");
    attach_config(*checkpoint, folder);
    return checkpoint;
}

/// The file names in a folder that end with `suffix`, sorted.
std::vector<std::string> names_with(const fs::path& folder, std::string_view suffix) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file() && entry.path().filename().string().ends_with(suffix))
            names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
}

/// True if the names are exactly the parts 1 to N of one file.
bool is_part_set(const std::vector<std::string>& names) {
    const auto first = names.empty() ? std::nullopt : part_name(names.front());
    if (!first || static_cast<std::size_t>(first->count) != names.size())
        return false;
    for (int part = 1; part <= first->count; ++part)
        if (names[static_cast<std::size_t>(part - 1)] != first->name(part))
            return false;
    return true;
}

[[noreturn]] void refuse_folder(const fs::path& folder) {
    for (const char* suffix : {".bin", ".pt", ".pth", ".npz", ".npy"})
        if (const auto names = names_with(folder, suffix); !names.empty())
            throw Error(folder.string(), fmt::format("holds neither safetensors nor GGUF, only {}", names.front()),
                        "convert it to safetensors or GGUF");
    throw Error(folder.string(), "holds no checkpoint", "open a folder with model.safetensors or a .gguf file");
}

[[noreturn]] void refuse_choice(const fs::path& folder, const std::vector<std::string>& names) {
    const std::size_t shown = std::min<std::size_t>(names.size(), 4);
    throw Error(folder.string(),
                fmt::format("holds {} checkpoints: {}{}", names.size(),
                            fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                            shown < names.size() ? ", …" : ""),
                "open one of the files");
}

} // namespace

nlohmann::json read_config(const fs::path& path, std::size_t most_bytes) {
    const auto file = MappedFile::open(path);
    if (file->bytes().size() > most_bytes)
        throw Error(path.string(), fmt::format("has {} bytes, more than such a file can need", file->bytes().size()));
    const std::string_view text = as_text(file->bytes());
    const auto limit_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        if (depth > deepest_config)
            throw Error(path.string(), fmt::format("is nested deeper than {} levels", deepest_config));
        return true;
    };
    try {
        nlohmann::json config = nlohmann::json::parse(text.begin(), text.end(), limit_depth);
        if (!config.is_object())
            throw Error(path.string(), "is not a JSON object");
        return config;
    } catch (const nlohmann::json::parse_error& error) {
        throw Error(path.string(), fmt::format("is not valid JSON at byte {}", error.byte));
    } catch (const nlohmann::json::out_of_range&) {
        throw Error(path.string(), "holds a number that is too large for a float64");
    }
}

const nlohmann::json& decoder_config(const nlohmann::json& config) {
    const auto text = config.find("text_config");
    return text != config.end() && text->is_object() && !config.contains("hidden_size") ? *text : config;
}

std::shared_ptr<Checkpoint> open_safetensors(std::shared_ptr<const MappedFile> file) {
    const fs::path path = file->path();
    auto checkpoint = std::make_shared<Checkpoint>();
    append_file(*checkpoint, file, parse_safetensors(file->bytes(), path.string()));
    if (const auto part = part_name(path.filename().string()); part && part->count > 1)
        checkpoint->notes.push_back(fmt::format("this is shard {} of {}: open the folder or its index for the whole",
                                                part->number, part->count));
    attach_config(*checkpoint, path.parent_path());
    return checkpoint;
}

std::shared_ptr<Checkpoint> open_index(std::shared_ptr<const MappedFile> file) {
    const std::string name = file->path().string();
    const fs::path folder = file->path().parent_path();
    if (file->bytes().size() > largest_index)
        throw Error(name, fmt::format("has {} bytes, more than an index of shards can need", file->bytes().size()));
    Index index(name);
    index.walk(as_text(file->bytes()));
    index.check();
    auto shards = parse_shards(folder, index.shards);
    auto checkpoint = std::make_shared<Checkpoint>();
    match_index(shards, index, name, checkpoint->notes);
    for (Shard& shard : shards)
        append_file(*checkpoint, std::move(shard.file), std::move(shard.parsed));
    checkpoint->container = container_text(shards.size());
    attach_config(*checkpoint, folder);
    return checkpoint;
}

std::shared_ptr<Checkpoint> open_folder(const fs::path& folder) {
    if (fs::exists(folder / "model.safetensors.index.json"))
        return open_index(MappedFile::open(folder / "model.safetensors.index.json"));
    if (fs::exists(folder / "model.safetensors"))
        return open_file(folder / "model.safetensors");
    if (const auto indexes = names_with(folder, ".safetensors.index.json"); indexes.size() == 1)
        return open_index(MappedFile::open(folder / indexes.front()));
    const auto weights = names_with(folder, ".safetensors");
    if (weights.size() == 1)
        return open_file(folder / weights.front());
    if (is_part_set(weights))
        return open_shard_set(folder, weights);
    const auto ggufs = names_with(folder, ".gguf");
    if (weights.empty() && (ggufs.size() == 1 || is_part_set(ggufs)))
        return open_file(folder / ggufs.front());
    std::vector<std::string> all = weights;
    all.insert(all.end(), ggufs.begin(), ggufs.end());
    if (all.empty())
        refuse_folder(folder);
    refuse_choice(folder, all);
}

} // namespace qs
