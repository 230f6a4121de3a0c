#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/base/mapped_file.h"
#include "core/checkpoint/checkpoint.h"

// Inside core/checkpoint: the readers of the containers, each over bytes in memory, and what joins their results.

namespace qs {

/// What one file's header says. Tensors are in the order of their data, `offset` from the start of the file, every
/// extent inside it; roles are not assigned yet.
struct ParsedFile {
    std::string container;
    std::vector<TensorInfo> tensors;
    nlohmann::json metadata; ///< GGUF: key → value (long arrays shortened); null for safetensors
    std::vector<std::string> notes;
};

/// Parses a safetensors file, checked as the reference implementation (huggingface/safetensors) does: header of at
/// most 100 MB inside the file, unique names, known dtypes, bytes = shape × dtype, data covered without hole or
/// overlap. Throws Error(`file`, …).
ParsedFile parse_safetensors(std::span<const std::byte> bytes, const std::string& file);

/// Parses a GGUF v2 or v3 file of either byte order (ggml's docs/gguf.md). Throws Error(`file`, …).
ParsedFile parse_gguf(std::span<const std::byte> bytes, const std::string& file);

enum class Container { safetensors, gguf, json };
/// Tells the container by content. Throws Error naming what the file is instead and what to do.
Container recognise(std::span<const std::byte> bytes, const std::filesystem::path& path);

/// The shape as people write it: "[4096, 11008]".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Where a tensor stands in a model, told by its name.
struct Place {
    Role role = Role::other;
    std::optional<int> layer;
    std::optional<int> expert;
};
Place place_of(std::string_view name);

/// Fills in role, layer and expert of every tensor, and marks GPT-2's transposed matrices.
void assign_places(std::vector<TensorInfo>& tensors);
/// The architecture that the names alone tell without doubt ("gpt2", "gpt_neox", "bert"), or nothing.
std::string architecture_by_names(const std::vector<TensorInfo>& tensors);

/// Adds a parsed file to a checkpoint.
void append_file(Checkpoint& checkpoint, std::shared_ptr<const MappedFile> file, ParsedFile&& parsed);

/// Any one file, by its content.
std::shared_ptr<Checkpoint> open_file(const std::filesystem::path& path);
/// A lone safetensors file, with the config.json beside it if there is one.
std::shared_ptr<Checkpoint> open_safetensors(std::shared_ptr<const MappedFile> file);
/// A GGUF file, with all its parts where it is a part of a split one.
std::shared_ptr<Checkpoint> open_gguf(std::shared_ptr<const MappedFile> file);
/// A JSON index of safetensors shards.
std::shared_ptr<Checkpoint> open_index(std::shared_ptr<const MappedFile> index);
/// A folder that holds one checkpoint.
std::shared_ptr<Checkpoint> open_folder(const std::filesystem::path& folder);

/// Number and count of a file named PREFIX-00001-of-00003SUFFIX; `prefix` and `suffix` are the rest of the name.
struct PartName {
    std::string prefix;
    int number = 0;
    int count = 0;
    std::string suffix;

    /// The name of another part.
    std::string name(int part) const;
};
std::optional<PartName> part_name(const std::string& file_name);

} // namespace qs
