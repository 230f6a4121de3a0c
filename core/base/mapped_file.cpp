#include "core/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace qs {

namespace {

class FileDescriptor {
public:
    explicit FileDescriptor(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (fd_ < 0)
            throw Error(path.string(), std::string("cannot be opened: ") + std::strerror(errno));
    }
    ~FileDescriptor() { ::close(fd_); }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    int get() const { return fd_; }

private:
    int fd_;
};

} // namespace

std::uint64_t MappedFile::next_id() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
        throw Error(path.string(), "is not a regular file");
    const FileDescriptor fd(path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        throw Error(path.string(), std::string("cannot be examined: ") + std::strerror(errno));
    std::shared_ptr<MappedFile> file(new MappedFile);
    file->path_ = path;
    file->size_ = static_cast<std::size_t>(status.st_size);
    if (file->size_ == 0)
        return file;
    void* address = ::mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (address == MAP_FAILED)
        throw Error(path.string(), std::string("cannot be mapped: ") + std::strerror(errno));
    file->data_ = static_cast<const std::byte*>(address);
    return file;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr)
        ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::size_t offset, std::size_t length) const {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t begin = (offset + page - 1) / page * page;
    const std::size_t end = std::min(offset + length, size_) / page * page;
    if (data_ != nullptr && begin < end)
        ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

} // namespace qs
