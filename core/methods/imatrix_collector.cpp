#include "core/methods/imatrix_collector.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/checkpoint/gguf_writer.h"

// The files are those of ggml-org/llama.cpp 006e7ef9, tools/imatrix/imatrix.cpp (save_imatrix, without the sums that
// are not squared, and save_imatrix_legacy).

namespace qs {

namespace {

struct FloatTensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
};

/// Row-major, and as ggml counts dimensions: without leading ones, but for the last.
std::vector<std::int64_t> shape_of(std::uint64_t columns, std::uint64_t matrices) {
    const auto extent = static_cast<std::int64_t>(columns);
    return matrices == 1 ? std::vector{extent} : std::vector{static_cast<std::int64_t>(matrices), extent};
}

void append(ByteBuffer& out, const std::vector<float>& values) {
    out.append(values.data(), values.size() * sizeof(float));
}

std::vector<float> to_float(const std::vector<double>& values) {
    return {values.begin(), values.end()};
}
std::vector<float> to_float(const std::vector<std::uint64_t>& values) {
    std::vector<float> floats(values.size());
    std::ranges::transform(values, floats.begin(), [](std::uint64_t value) { return static_cast<float>(value); });
    return floats;
}

/// Means in float32, of the numbers as the GGUF form holds them; an expert that no token came to has ones.
std::vector<float> means_of(const std::vector<double>& sums, const std::vector<std::uint64_t>& counts) {
    std::vector<float> means = to_float(sums);
    const std::size_t columns = means.size() / counts.size();
    for (std::size_t i = 0; i < means.size(); ++i) {
        const auto count = static_cast<float>(counts[i / columns]);
        means[i] = count > 0 ? means[i] / count : 1.0F;
    }
    return means;
}

} // namespace

ImatrixCollector::Entry& ImatrixCollector::entry(const std::string& name, std::size_t columns, std::size_t experts) {
    Entry& entry = entries_[name];
    if (entry.sums.empty()) {
        entry.sums.resize(columns * experts);
        entry.counts.resize(experts);
    }
    if (entry.sums.size() != columns * experts || entry.counts.size() != experts)
        throw Error("importance matrix",
                    fmt::format("entry '{}' has {} columns of {} matrices, and was given {} of {}", name,
                                entry.sums.size() / entry.counts.size(), entry.counts.size(), columns, experts));
    return entry;
}

void ImatrixCollector::add(const std::string& name, const float* inputs, std::size_t tokens, std::size_t columns,
                           std::size_t expert, std::size_t experts) {
    Entry& entry = this->entry(name, columns, experts);
    double* sums = entry.sums.data() + expert * columns;
    for (std::size_t token = 0; token < tokens; ++token) {
        const float* row = inputs + token * columns;
        if (!std::all_of(row, row + columns, [](float value) { return std::isfinite(value); }))
            continue;
        ++entry.counts[expert];
        for (std::size_t i = 0; i < columns; ++i)
            sums[i] += static_cast<double>(row[i]) * row[i];
    }
}

void ImatrixCollector::add_sums(const std::string& name, const std::vector<double>& sums, std::uint64_t tokens) {
    Entry& entry = this->entry(name, sums.size(), 1);
    for (std::size_t i = 0; i < sums.size(); ++i)
        entry.sums[i] += sums[i];
    entry.counts[0] += tokens;
}

ImportanceMatrix ImatrixCollector::importance() const {
    ImportanceMatrix matrix;
    for (const auto& [name, entry] : entries_)
        matrix.entries[name] = means_of(entry.sums, entry.counts);
    return matrix;
}

std::uint64_t ImatrixCollector::chunks(const Entry& entry) const {
    return (std::ranges::max(entry.counts) + chunk_tokens_ - 1) / chunk_tokens_;
}

std::uint64_t ImatrixCollector::chunks() const {
    std::uint64_t most = 0;
    for (const auto& [name, entry] : entries_)
        most = std::max(most, chunks(entry));
    return most;
}

void ImatrixCollector::write_gguf(const std::filesystem::path& path) const {
    std::vector<FloatTensor> tensors;
    for (const auto& [name, entry] : entries_) {
        const std::uint64_t matrices = entry.counts.size();
        tensors.push_back({name + ".in_sum2", shape_of(entry.sums.size() / matrices, matrices), to_float(entry.sums)});
        tensors.push_back({name + ".counts", shape_of(1, matrices), to_float(entry.counts)});
    }
    GgufHeader header;
    header.set("general.type", "imatrix");
    header.set("imatrix.datasets", datasets_);
    header.set("imatrix.chunk_count", static_cast<std::uint32_t>(chunks()));
    header.set("imatrix.chunk_size", chunk_tokens_);
    for (const FloatTensor& tensor : tensors)
        header.add_tensor(tensor.name, tensor.shape, DType::f32);
    ByteBuffer data;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        data.pad_to(header.offset(i));
        append(data, tensors[i].values);
    }
    data.pad_to(header.data_bytes());
    AtomicFile file(path);
    file.write(header.bytes());
    file.write(data.all());
    file.commit();
}

void ImatrixCollector::write_binary(const std::filesystem::path& path) const {
    ByteBuffer out;
    const auto counted = [](const auto& item) { return std::ranges::max(item.second.counts) > 0; };
    out.number(static_cast<std::int32_t>(std::ranges::count_if(entries_, counted)));
    for (const auto& item : entries_) {
        if (!counted(item))
            continue;
        const auto& [name, entry] = item;
        const auto calls = static_cast<std::int32_t>(std::bit_floor(chunks(entry)));
        std::vector<float> values = means_of(entry.sums, entry.counts);
        for (float& value : values)
            value *= static_cast<float>(calls);
        out.number(static_cast<std::int32_t>(name.size()));
        out.append(name.data(), name.size());
        out.number(calls);
        out.number(static_cast<std::int32_t>(values.size()));
        append(out, values);
    }
    out.number(static_cast<std::int32_t>(chunks()));
    const std::string dataset = datasets_.empty() ? std::string() : datasets_.back();
    out.number(static_cast<std::int32_t>(dataset.size()));
    out.append(dataset.data(), dataset.size());
    write_file(path, out.all());
}

} // namespace qs
