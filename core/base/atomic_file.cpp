#include "core/base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace qs {

namespace {

/// Where the bytes will lie: behind a symbolic link, its target.
std::filesystem::path place_of(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::is_symlink(path, error))
        return path;
    const auto target = std::filesystem::weakly_canonical(path, error);
    return error ? path : target;
}

} // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(place_of(path)) {
    std::error_code error;
    const auto status = std::filesystem::status(path_, error);
    if (std::filesystem::is_directory(status))
        throw Error(path.string(), "is a folder", "name a file in it");
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        throw Error(path.string(), "is not a regular file and cannot be replaced", "name another file");
    beside_ = path_.parent_path() / fmt::format(".{}.{}.part", path_.filename().string(), ::getpid());
    descriptor_ = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0)
        fail("cannot be written");
}

AtomicFile::~AtomicFile() {
    if (descriptor_ < 0)
        return;
    ::close(descriptor_);
    ::unlink(beside_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(descriptor_, bytes.data(), bytes.size());
        if (written >= 0)
            bytes = bytes.subspan(static_cast<std::size_t>(written));
        else if (errno != EINTR)
            fail("cannot be written");
    }
}

void AtomicFile::write(std::string_view text) {
    write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written >= 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(written));
            offset += static_cast<std::uint64_t>(written);
        } else if (errno != EINTR) {
            fail("cannot be written");
        }
    }
}

void AtomicFile::commit() {
    if (::fsync(descriptor_) != 0 || ::rename(beside_.c_str(), path_.c_str()) != 0)
        fail("cannot be written");
    ::close(descriptor_);
    descriptor_ = -1;
}

void AtomicFile::fail(const char* what) const {
    throw Error(path_.string(), std::string(what) + ": " + std::strerror(errno));
}

void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
}

} // namespace qs
