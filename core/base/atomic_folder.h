#pragma once

#include <filesystem>

namespace qs {

/// A folder that is complete or absent: filled beside its place under another name, renamed into place by commit().
/// Without commit() nothing is left behind and an older folder of the name stays as it was. Throws Error naming the
/// folder.
class AtomicFolder {
public:
    /// Makes the folder beside `path`, so that what cannot be written is found out before the work begins. A folder
    /// that is there already must be empty, or with `overwrite` hold files alone, all of which commit() removes.
    AtomicFolder(const std::filesystem::path& path, bool overwrite);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder&) = delete;
    AtomicFolder& operator=(const AtomicFolder&) = delete;

    /// Where its files are to be written until commit().
    const std::filesystem::path& path() const { return beside_; }
    /// The object is done with then.
    void commit();

private:
    std::filesystem::path path_, beside_;
    bool committed_ = false;
};

} // namespace qs
