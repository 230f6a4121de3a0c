#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/imatrix.h"

namespace qs {

/// Collects llama.cpp's importance matrix: for each weight, under its GGUF name, the sums of its inputs' squares and
/// how many there were.
class ImatrixCollector {
public:
    /// Tokens to a chunk, which the files tell.
    explicit ImatrixCollector(std::uint32_t chunk_tokens = 512) : chunk_tokens_(chunk_tokens) {}

    /// Adds tokens, one row of `columns` inputs each; of stacked experts those that came to number `expert`. A token
    /// with an input that is not finite is left out. Throws Error where an entry is of another size.
    void add(const std::string& name, const float* inputs, std::size_t tokens, std::size_t columns,
             std::size_t expert = 0, std::size_t experts = 1);
    /// Adds sums that were collected elsewhere (Calibration::mean_square times its tokens).
    void add_sums(const std::string& name, const std::vector<double>& sums, std::uint64_t tokens);
    /// The text that the tokens are of; the files name it.
    void add_dataset(const std::string& name) { datasets_.push_back(name); }

    /// What reading the file of write_gguf() gives.
    ImportanceMatrix importance() const;

    /// The two forms of llama-imatrix. Reading the older one gives the same means, of what is collected in full: its
    /// number of calls is a power of two, not above that of chunks, so that multiplying by it loses nothing.
    void write_gguf(const std::filesystem::path& path) const;
    void write_binary(const std::filesystem::path& path) const;

private:
    struct Entry {
        std::vector<double> sums;
        std::vector<std::uint64_t> counts; ///< one an expert
    };

    Entry& entry(const std::string& name, std::size_t columns, std::size_t experts);
    std::uint64_t chunks(const Entry& entry) const;
    std::uint64_t chunks() const;

    std::uint32_t chunk_tokens_;
    std::vector<std::string> datasets_;
    std::map<std::string, Entry> entries_;
};

} // namespace qs
