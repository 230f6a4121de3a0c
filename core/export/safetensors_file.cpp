#include "core/export/safetensors_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "core/base/json_number.h"

namespace qs {

namespace {

std::uint64_t element_bytes(const std::string& dtype) {
    if (dtype.ends_with("64"))
        return 8;
    if (dtype.ends_with("32"))
        return 4;
    return dtype.ends_with("16") ? 2 : 1;
}

/// After tensors of a multiple of eight bytes any begins at a multiple of its elements' size, and so do those of other
/// lengths with the largest elements first.
std::vector<SafetensorsEntry> aligned(std::vector<SafetensorsEntry> entries) {
    const auto turn = [](const SafetensorsEntry& entry) -> std::uint64_t {
        return entry.bytes % 8 == 0 ? 0 : 8 - element_bytes(entry.dtype);
    };
    std::ranges::stable_sort(entries, {}, turn);
    return entries;
}

/// Past the last entry of each file: as many as fit, at least one.
std::vector<std::size_t> divide(const std::vector<SafetensorsEntry>& entries, std::uint64_t file_bytes) {
    std::vector<std::size_t> ends;
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (bytes > 0 && bytes + entries[i].bytes > file_bytes) {
            ends.push_back(i);
            bytes = 0;
        }
        bytes += entries[i].bytes;
    }
    ends.push_back(entries.size());
    return ends;
}

} // namespace

SafetensorsEntry safetensors_entry(std::string name, std::string dtype, std::vector<std::int64_t> shape) {
    std::uint64_t bytes = element_bytes(dtype);
    for (const std::int64_t extent : shape)
        bytes *= static_cast<std::uint64_t>(extent);
    return {std::move(name), std::move(dtype), std::move(shape), bytes};
}

std::string safetensors_header(std::span<const SafetensorsEntry> entries) {
    Json header{{"__metadata__", {{"format", "pt"}}}};
    std::uint64_t offset = 0;
    for (const SafetensorsEntry& entry : entries) {
        header[entry.name] = {
            {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {offset, offset + entry.bytes}}};
        offset += entry.bytes;
    }
    std::string json = header.dump();
    json.append((8 - json.size() % 8) % 8, ' '); // the tensors begin at a multiple of eight bytes
    std::string length;
    for (int byte = 0; byte < 8; ++byte)
        length += static_cast<char>(json.size() >> (8 * byte) & 0xFF);
    return length + json;
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder, std::vector<SafetensorsEntry> entries,
                                     std::uint64_t file_bytes)
    : folder_(std::move(folder)), entries_(aligned(std::move(entries))), ends_(divide(entries_, file_bytes)) {}

void SafetensorsWriter::put(const std::string& name, std::vector<std::byte> bytes) {
    if (next_ < entries_.size() && entries_[next_].name == name)
        write_next(bytes);
    else
        waiting_.emplace(name, std::move(bytes));
    while (next_ < entries_.size()) {
        const auto found = waiting_.find(entries_[next_].name);
        if (found == waiting_.end())
            break;
        write_next(found->second);
        waiting_.erase(found);
    }
}

void SafetensorsWriter::write_next(std::span<const std::byte> bytes) {
    assert(bytes.size() == entries_[next_].bytes);
    const std::size_t end = ends_[file_number_];
    if (!file_) {
        file_.emplace(folder_ / file_name(file_number_));
        file_->write(safetensors_header(std::span(entries_).subspan(next_, end - next_)));
    }
    file_->write(bytes);
    if (++next_ < end)
        return;
    file_->commit();
    file_.reset();
    ++file_number_;
}

void SafetensorsWriter::finish() {
    assert(next_ == entries_.size() && waiting_.empty());
    if (ends_.size() > 1)
        write_index();
}

std::string SafetensorsWriter::file_name(std::size_t file) const {
    if (ends_.size() == 1)
        return "model.safetensors";
    return fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, ends_.size());
}

void SafetensorsWriter::write_index() const {
    Json map = Json::object();
    std::uint64_t bytes = 0;
    std::size_t file = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        if (i == ends_[file])
            ++file;
        map[entries_[i].name] = file_name(file);
        bytes += entries_[i].bytes;
    }
    const std::string text = Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(map)}}.dump(2) + "\n";
    write_file(folder_ / "model.safetensors.index.json", std::as_bytes(std::span(text)));
}

} // namespace qs
