#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

void finish(Checkpoint& checkpoint, const fs::path& path) {
    checkpoint.path = path;
    if (const auto duplicate = checkpoint.index_names()) {
        const TensorInfo& tensor = checkpoint.tensors[*duplicate];
        throw Error(checkpoint.files[tensor.file]->path().string(),
                    fmt::format("tensor '{}' is in another file of the checkpoint too", printable(tensor.name)));
    }
    assign_places(checkpoint.tensors);
    if (checkpoint.architecture.empty())
        checkpoint.architecture = architecture_by_names(checkpoint.tensors);
    if (checkpoint.tensors.empty())
        checkpoint.notes.push_back("there are no tensors in it");
}

} // namespace

void append_file(Checkpoint& checkpoint, std::shared_ptr<const MappedFile> file, ParsedFile&& parsed) {
    if (checkpoint.container.empty())
        checkpoint.container = std::move(parsed.container);
    const std::size_t number = checkpoint.files.size();
    checkpoint.files.push_back(std::move(file));
    for (TensorInfo& tensor : parsed.tensors) {
        tensor.file = number;
        checkpoint.tensors.push_back(std::move(tensor));
    }
    checkpoint.notes.insert(checkpoint.notes.end(), parsed.notes.begin(), parsed.notes.end());
}

std::shared_ptr<Checkpoint> open_file(const fs::path& path) {
    auto file = MappedFile::open(path);
    switch (recognise(file->bytes(), path)) {
    case Container::gguf:
        return open_gguf(std::move(file));
    case Container::json:
        return open_index(std::move(file));
    case Container::safetensors:
        break;
    }
    return open_safetensors(std::move(file));
}

std::shared_ptr<const Checkpoint> open_checkpoint(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found)
        throw Error(path.string(), "does not exist");
    if (error)
        throw Error(path.string(), "cannot be opened: " + error.message());
    try {
        const auto checkpoint = fs::is_directory(status) ? open_folder(path) : open_file(path);
        finish(*checkpoint, path);
        return checkpoint;
    } catch (const fs::filesystem_error& failure) {
        throw Error(path.string(), "cannot be read: " + failure.code().message());
    }
}

} // namespace qs
