#include "core/base/atomic_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include "core/base/error.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

/// Without the slash at its end, which would leave it without a name.
fs::path place_of(const fs::path& path) {
    const fs::path place = fs::absolute(path).lexically_normal();
    return place.has_filename() ? place : place.parent_path();
}

fs::path beside(const fs::path& place, const char* what) {
    return place.parent_path() / fmt::format(".{}.{}.{}", place.filename().string(), ::getpid(), what);
}

void check_replaceable(const fs::path& path, bool overwrite) {
    const fs::file_status status = fs::symlink_status(path);
    if (!fs::exists(status))
        return;
    if (!fs::is_directory(status))
        throw Error(path.string(), "is not a folder", "name another");
    if (fs::is_empty(path))
        return;
    if (!overwrite)
        throw Error(path.string(), "is there already and is not empty", "name another folder, or pass --overwrite");
    for (const fs::directory_entry& entry : fs::directory_iterator(path))
        if (!entry.is_regular_file())
            throw Error(path.string(), fmt::format("holds more than files: {}", entry.path().filename().string()),
                        "name another folder");
}

} // namespace

AtomicFolder::AtomicFolder(const fs::path& path, bool overwrite)
    : path_(place_of(path)), beside_(beside(path_, "part")) {
    try {
        check_replaceable(path_, overwrite);
        fs::remove_all(beside_); // of a process that was killed
        fs::create_directory(beside_);
    } catch (const fs::filesystem_error& error) {
        throw Error(path.string(), "cannot be written: " + error.code().message());
    }
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!committed_)
        fs::remove_all(beside_, ignored);
}

void AtomicFolder::commit() {
    const fs::path older = beside(path_, "old");
    try {
        const bool replaces = fs::exists(path_) && !fs::is_empty(path_);
        if (replaces)
            fs::rename(path_, older);
        fs::rename(beside_, path_); // an empty folder gives way
        committed_ = true;
        if (replaces)
            fs::remove_all(older);
    } catch (const fs::filesystem_error& error) {
        throw Error(path_.string(), "cannot be written: " + error.code().message());
    }
}

} // namespace qs
