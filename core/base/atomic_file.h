#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace qs {

/// A file that is complete or absent: written beside its place under another name, renamed into place by commit().
/// Without commit() nothing is left behind and an older file of the name stays as it was. Throws Error naming the file.
class AtomicFile {
public:
    /// Opens the file beside `path`, so that a folder that cannot be written is found out before the work begins.
    explicit AtomicFile(const std::filesystem::path& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    /// Writes at a place of the file, wherever write() has come to; may be called from several threads at once.
    void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
    /// Flushes to the disk and renames; the object is done with then.
    void commit();

private:
    [[noreturn]] void fail(const char* what) const;

    std::filesystem::path path_, beside_;
    int descriptor_ = -1;
};

/// Writes all of a file at once.
void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

} // namespace qs
