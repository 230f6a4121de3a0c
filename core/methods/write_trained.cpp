#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"
#include "core/methods/qat.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

std::map<std::size_t, LinearTensor> linears_by_tensor(const WeightReader& reader) {
    std::map<std::size_t, LinearTensor> result;
    for (LinearTensor& linear : reader.linears())
        result.emplace(linear.tensor, std::move(linear));
    return result;
}

std::uint64_t bytes_of(const TensorInfo& tensor, bool is_trained) {
    return is_trained ? tensor.elements() * sizeof(float) : tensor.bytes;
}

/// The header of the file: its length, and JSON padded so that the tensors begin at a multiple of eight bytes.
std::string header_of(const Checkpoint& checkpoint, const std::map<std::size_t, LinearTensor>& trained) {
    nlohmann::ordered_json header{{"__metadata__", {{"format", "pt"}}}};
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        const bool is_trained = trained.contains(i);
        const std::uint64_t bytes = bytes_of(tensor, is_trained);
        header[tensor.name] = {{"dtype", is_trained ? "F32" : tensor.dtype_name},
                               {"shape", tensor.shape},
                               {"data_offsets", {offset, offset + bytes}}};
        offset += bytes;
    }
    std::string json = header.dump();
    json.append((8 - json.size() % 8) % 8, ' ');
    std::string length;
    for (int byte = 0; byte < 8; ++byte)
        length += static_cast<char>(json.size() >> (8 * byte) & 0xFF);
    return length + json;
}

/// What makes a model of the weights, where it lies beside them.
constexpr const char* companions[] = {
    "config.json", "tokenizer.json", "tokenizer_config.json",   "tokenizer.model",
    "vocab.json",  "merges.txt",     "special_tokens_map.json", "generation_config.json"};

void copy_companions(const fs::path& from, const fs::path& to) {
    for (const char* name : companions) {
        std::error_code error;
        if (fs::is_regular_file(from / name) && !fs::exists(to / name))
            fs::copy_file(from / name, to / name, error);
        if (error)
            throw Error((to / name).string(), "cannot be written: " + error.message());
    }
}

} // namespace

void check_writable(const Decoder& decoder) {
    if (decoder.config().gguf)
        throw Error(decoder.weights().checkpoint().path.string(),
                    "is a GGUF file, whose trained weights cannot be written as safetensors",
                    "train the model's safetensors");
}

void write_trained(const Decoder& decoder, const WeightHook& hook, AtomicFile& file, const fs::path& folder,
                   JobControl& job) {
    check_writable(decoder);
    const Checkpoint& checkpoint = decoder.weights().checkpoint();
    const auto trained = linears_by_tensor(decoder.weights());
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i)
        total += bytes_of(checkpoint.tensors[i], trained.contains(i));
    job.set_total(total);
    file.write(header_of(checkpoint, trained));
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        const auto linear = trained.find(i);
        job.check();
        job.advance(bytes_of(tensor, linear != trained.end()));
        if (linear == trained.end()) {
            file.write(checkpoint.data(tensor));
            continue;
        }
        Matrix weight = decoder.weights().load(linear->second);
        hook(linear->second, weight);
        const Matrix stored = tensor.transposed ? Matrix(weight.transpose()) : std::move(weight);
        file.write(std::as_bytes(std::span(stored.data(), static_cast<std::size_t>(stored.size()))));
    }
    file.commit();
    copy_companions(fs::is_directory(checkpoint.path) ? checkpoint.path : checkpoint.path.parent_path(), folder);
}

} // namespace qs
