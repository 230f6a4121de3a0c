#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qs {

/// An importance matrix as llama-imatrix writes it: for each weight, under its GGUF name, how much the squared error of
/// each column counts.
struct ImportanceMatrix {
    std::filesystem::path path;
    /// One value a column, finite and not negative; of stacked experts all values of the first, then of the next.
    std::map<std::string, std::vector<float>, std::less<>> entries;

    /// The values of an entry; null where there is none.
    const std::vector<float>* find(std::string_view name) const;
};

/// Reads a whole importance matrix, in the GGUF form or the binary one (.dat) before it, told apart by content. Throws
/// Error naming file, entry and reason.
ImportanceMatrix open_imatrix(const std::filesystem::path& path);

} // namespace qs
