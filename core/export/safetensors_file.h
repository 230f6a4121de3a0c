#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/atomic_file.h"

namespace qs {

/// A tensor as the header of a safetensors file lists it.
struct SafetensorsEntry {
    std::string name;
    std::string dtype; ///< "F16", "I32", …
    std::vector<std::int64_t> shape;
    std::uint64_t bytes = 0;
};

/// An entry of a type whose elements are whole bytes.
SafetensorsEntry safetensors_entry(std::string name, std::string dtype, std::vector<std::int64_t> shape);

/// What stands in front of the tensors, which follow each other in the order of the entries.
std::string safetensors_header(std::span<const SafetensorsEntry> entries);

/// Writes the tensors of a model into a folder: into one file or, where they are larger than `file_bytes`, into several
/// with an index. Tensors lie in the order of the entries, but for those of odd lengths, which come last so that all
/// are aligned. They can be given in any order: those that come before their turn wait in memory.
class SafetensorsWriter {
public:
    static constexpr std::uint64_t usual_file_bytes = 5'000'000'000;

    SafetensorsWriter(std::filesystem::path folder, std::vector<SafetensorsEntry> entries,
                      std::uint64_t file_bytes = usual_file_bytes);

    /// All of a tensor, once.
    void put(const std::string& name, std::vector<std::byte> bytes);
    /// After the last tensor.
    void finish();

private:
    void write_next(std::span<const std::byte> bytes);
    std::string file_name(std::size_t file) const;
    void write_index() const;

    std::filesystem::path folder_;
    std::vector<SafetensorsEntry> entries_;
    std::vector<std::size_t> ends_; ///< of each file: past its last entry
    std::unordered_map<std::string, std::vector<std::byte>> waiting_;
    std::size_t next_ = 0, file_number_ = 0;
    std::optional<AtomicFile> file_;
};

} // namespace qs
