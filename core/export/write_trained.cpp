#include "core/export/write_trained.h"

#include <map>

#include "core/base/error.h"
#include "core/export/companions.h"
#include "core/export/gguf_export.h"
#include "core/export/safetensors_file.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

std::map<std::size_t, LinearTensor> linears_by_tensor(const WeightReader& reader) {
    std::map<std::size_t, LinearTensor> result;
    for (LinearTensor& linear : reader.linears())
        result.emplace(linear.tensor, std::move(linear));
    return result;
}

bool is_gguf(const std::filesystem::path& path) {
    return path.extension() == ".gguf";
}

void write_safetensors(const Decoder& decoder, const WeightHook& hook, AtomicFile& file,
                       const std::filesystem::path& folder, JobControl& job) {
    const Checkpoint& checkpoint = decoder.weights().checkpoint();
    const auto trained = linears_by_tensor(decoder.weights());
    std::vector<SafetensorsEntry> entries;
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        entries.push_back(trained.contains(i)
                              ? safetensors_entry(tensor.name, "F32", tensor.shape)
                              : SafetensorsEntry{tensor.name, tensor.dtype_name, tensor.shape, tensor.bytes});
    }
    std::uint64_t total = 0;
    for (const SafetensorsEntry& entry : entries)
        total += entry.bytes;
    job.set_total(total);
    file.write(safetensors_header(entries));
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        const auto linear = trained.find(i);
        job.check();
        job.advance(entries[i].bytes);
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
    copy_companions(checkpoint, folder);
}

} // namespace

void check_writable(const Decoder& decoder, const std::filesystem::path& path) {
    if (decoder.config().gguf && !is_gguf(path))
        throw Error(decoder.weights().checkpoint().path.string(),
                    "is a GGUF file, whose trained weights cannot be written as safetensors",
                    "name the output OUT.gguf");
}

void write_trained(const Decoder& decoder, const WeightHook& hook, AtomicFile& file, const std::filesystem::path& path,
                   Device& device, JobControl& job) {
    check_writable(decoder, path);
    if (is_gguf(path))
        export_gguf(decoder.weights().shared_checkpoint(), {parse_spec("fp32"), nullptr, {}, hook}, device, job, file);
    else
        write_safetensors(decoder, hook, file, std::filesystem::absolute(path).parent_path(), job);
}

} // namespace qs
