#pragma once

#include <QString>

#include <vector>

#include "tests/core/checkpoint/made_files.h"

// Importance matrices made byte by byte, in both forms of llama-imatrix.

namespace qs::test {

/// What llama-imatrix counted of one weight: sums of squared activations, and tokens of each expert.
struct ImatrixEntry {
    QByteArray name;
    std::vector<float> sums;
    std::vector<float> counts = {1};
};

inline QByteArray floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), static_cast<qsizetype>(values.size() * sizeof(float))};
}

inline QByteArray imatrix_type(const QByteArray& type = "imatrix") {
    return gguf_entry("general.type", 8, gguf_string(type));
}

/// A GGUF file of float32 tensors, each at a multiple of 32 bytes.
inline QByteArray
gguf_of_floats(const std::vector<QByteArray>& metadata,
               const std::vector<std::tuple<QByteArray, std::vector<std::uint64_t>, std::vector<float>>>& tensors) {
    std::vector<QByteArray> table;
    QByteArray data;
    for (const auto& [name, dimensions, values] : tensors) {
        table.push_back(gguf_tensor(name, dimensions, 0, static_cast<std::uint64_t>(data.size())));
        data += floats(values);
        data.append((32 - data.size() % 32) % 32, '\0');
    }
    return gguf(metadata, table, 0) + data;
}

inline QByteArray gguf_imatrix(const std::vector<ImatrixEntry>& entries) {
    std::vector<std::tuple<QByteArray, std::vector<std::uint64_t>, std::vector<float>>> tensors;
    for (const ImatrixEntry& entry : entries) {
        const std::uint64_t experts = entry.counts.size();
        tensors.emplace_back(entry.name + ".in_sum2", std::vector{entry.sums.size() / experts, experts}, entry.sums);
        tensors.emplace_back(entry.name + ".counts", std::vector{std::uint64_t{1}, experts}, entry.counts);
    }
    return gguf_of_floats({imatrix_type()}, tensors);
}

/// Only the first count is stored: of calls.
inline QByteArray binary_imatrix(const std::vector<ImatrixEntry>& entries) {
    QByteArray bytes = le(static_cast<std::int32_t>(entries.size()));
    for (const ImatrixEntry& entry : entries)
        bytes += le(static_cast<std::int32_t>(entry.name.size())) + entry.name +
                 le(static_cast<std::int32_t>(entry.counts[0])) + le(static_cast<std::int32_t>(entry.sums.size())) +
                 floats(entry.sums);
    return bytes;
}

} // namespace qs::test
