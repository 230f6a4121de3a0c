#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace qs {

/// A whole file mapped read-only. Pages are read when touched; nothing is copied.
class MappedFile {
public:
    /// Maps `path`; throws Error when it cannot be opened, is not a regular file, or cannot be mapped.
    static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::filesystem::path& path() const { return path_; }
    /// Of this mapping: no other of the process ever has the same.
    std::uint64_t id() const { return id_; }

    /// Tells the kernel that [offset, offset + length) has been used and need not stay mapped into this process
    /// (the page cache keeps it). Keeps the resident set small while a large file streams by.
    void release(std::size_t offset, std::size_t length) const;

private:
    MappedFile() = default;

    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::filesystem::path path_;
    std::uint64_t id_ = next_id();

    static std::uint64_t next_id();
};

} // namespace qs
