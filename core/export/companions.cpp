#include "core/export/companions.h"

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

constexpr const char* companions[] = {
    "config.json", "tokenizer.json",    "tokenizer_config.json",   "tokenizer.model",        "vocab.json",
    "merges.txt",  "added_tokens.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"};

} // namespace

fs::path folder_of(const Checkpoint& checkpoint) {
    return fs::is_directory(checkpoint.path) ? checkpoint.path : checkpoint.path.parent_path();
}

void copy_companions(const Checkpoint& checkpoint, const fs::path& to) {
    const fs::path from = folder_of(checkpoint);
    for (const char* name : companions) {
        std::error_code error;
        if (fs::is_regular_file(from / name) && !fs::exists(to / name))
            fs::copy_file(from / name, to / name, error);
        if (error)
            throw Error((to / name).string(), "cannot be written: " + error.message());
    }
}

Json read_ordered_config(const Checkpoint& checkpoint) {
    const fs::path path = folder_of(checkpoint) / "config.json";
    if (!fs::is_regular_file(path))
        return nullptr;
    read_config(path); // says what is wrong with it
    return Json::parse(as_text(MappedFile::open(path)->bytes()));
}

void write_json(const fs::path& path, const Json& document) {
    const std::string text = document.dump(2) + "\n";
    write_file(path, std::as_bytes(std::span(text)));
}

} // namespace qs
