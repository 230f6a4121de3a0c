#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

using namespace std::string_view_literals;

constexpr std::string_view not_yet = "convert it to safetensors or GGUF";
constexpr std::string_view unpack = "unpack it and open the checkpoint inside";
constexpr std::string_view reconvert = "convert the model again with a current llama.cpp";

/// A kind of file that is not opened, told by bytes at a fixed place.
struct ForeignKind {
    std::size_t offset;
    std::string_view magic;
    std::string_view what;
    std::string_view remedy;
};

// The magics of ggml's files before GGUF are 32-bit numbers, so their letters stand reversed in the file.
constexpr std::array<ForeignKind, 18> foreign_kinds = {{
    {0, "version https://git-lfs"sv, "is a Git LFS pointer, not the checkpoint itself", "run `git lfs pull`"},
    {0, "lmgg"sv, "is a ggml file from before GGUF (magic ggml)", reconvert},
    {0, "fmgg"sv, "is a ggml file from before GGUF (magic ggmf)", reconvert},
    {0, "tjgg"sv, "is a ggml file from before GGUF (magic ggjt)", reconvert},
    {0, "algg"sv, "is a ggml LoRA adapter from before GGUF (magic ggla)", reconvert},
    {0, "\x93NUMPY"sv, "is a NumPy array (.npy), which this version does not open", not_yet},
    // A pickle whose first item is the magic number of torch.save before the zip form.
    {2, "\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv,
     "is a legacy PyTorch checkpoint (pickle), which this version does not open", not_yet},
    {0, "\x80\x02"sv, "is a Python pickle, which could run code and is not opened", not_yet},
    {0, "\x80\x03"sv, "is a Python pickle, which could run code and is not opened", not_yet},
    {0, "\x80\x04"sv, "is a Python pickle, which could run code and is not opened", not_yet},
    {0, "\x80\x05"sv, "is a Python pickle, which could run code and is not opened", not_yet},
    {0, "\x89HDF\r\n"sv, "is an HDF5 file, which is not opened", not_yet},
    {0, "7z\xbc\xaf\x27\x1c"sv, "is a 7-Zip archive", unpack},
    {0, "\x1f\x8b"sv, "is a gzip archive", unpack},
    {0, "\x28\xb5\x2f\xfd"sv, "is a Zstandard archive", unpack},
    {0,
     "\xfd"
     "7zXZ"sv,
     "is an xz archive", unpack},
    {257, "ustar"sv, "is a tar archive", unpack},
    {4, "TFL3"sv, "is a TensorFlow Lite model, which is not opened", not_yet},
}};

/// The name of a ZIP archive's first entry (its local header: name length at byte 26, name at byte 30).
std::string_view first_zip_entry(std::string_view text) {
    if (text.size() < 30)
        return {};
    const std::size_t length = static_cast<unsigned char>(text[26]) + 256u * static_cast<unsigned char>(text[27]);
    return text.substr(30, length);
}

[[noreturn]] void refuse_zip(std::string_view text, const std::string& file) {
    const std::string_view entry = first_zip_entry(text);
    if (entry.ends_with(".npy"))
        throw Error(file, "is a NumPy archive (.npz), which this version does not open", std::string(not_yet));
    // torch.save writes ARCHIVE/data.pkl, then the tensors as ARCHIVE/data/0 …
    if (entry.ends_with("data.pkl") || entry.find("/data/") != std::string_view::npos)
        throw Error(file, "is a PyTorch checkpoint (zip of a pickle), which this version does not open",
                    std::string(not_yet));
    throw Error(file, "is a ZIP archive", std::string(unpack));
}

bool is_zip(std::string_view text) {
    return text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06");
}

std::string_view without_leading_space(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

bool is_web_page(std::string_view text) {
    std::string start(text.substr(0, 14));
    std::ranges::transform(start, start.begin(), [](unsigned char c) { return std::tolower(c); });
    return start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<?xml");
}

bool has_safetensors_header(std::span<const std::byte> bytes) {
    // The upper half of a sane header length is 0, which JSON text cannot have there.
    return bytes.size() > 8 && bytes[8] == std::byte{'{'} &&
           std::all_of(bytes.begin() + 4, bytes.begin() + 8, [](std::byte b) { return b == std::byte{0}; });
}

bool has_pickle_name(const std::filesystem::path& path) {
    const std::string extension = path.extension().string();
    constexpr std::array names = {".pkl"sv, ".pickle"sv, ".pt"sv, ".pth"sv, ".bin"sv, ".ckpt"sv};
    return std::ranges::find(names, extension) != names.end();
}

} // namespace

Container recognise(std::span<const std::byte> bytes, const std::filesystem::path& path) {
    const std::string file = path.string();
    if (bytes.empty())
        throw Error(file, "is empty", "get the file again");
    const std::string_view text = as_text(bytes.first(std::min<std::size_t>(bytes.size(), 4096)));
    if (text.starts_with("GGUF"))
        return Container::gguf;
    if (has_safetensors_header(bytes))
        return Container::safetensors;
    for (const ForeignKind& kind : foreign_kinds)
        if (text.size() > kind.offset && text.substr(kind.offset).starts_with(kind.magic))
            throw Error(file, std::string(kind.what), std::string(kind.remedy));
    if (is_zip(text))
        refuse_zip(text, file);
    const std::string_view trimmed = without_leading_space(text);
    if (is_web_page(trimmed))
        throw Error(file, "is a web page, not a checkpoint", "the download saved the page: get the file itself");
    if (trimmed.starts_with('{'))
        return Container::json;
    if (path.extension() == ".safetensors")
        return Container::safetensors;
    if (path.extension() == ".gguf")
        throw Error(file, "does not begin with the GGUF magic", "the file is damaged: get it again");
    if (has_pickle_name(path))
        throw Error(file, "is neither safetensors nor GGUF; by its name it is a Python pickle, which is not opened",
                    std::string(not_yet));
    throw Error(file, "is no known checkpoint", "safetensors, GGUF and Hugging Face folders are opened");
}

} // namespace qs
