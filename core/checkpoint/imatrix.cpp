#include "core/checkpoint/imatrix.h"

#include <cmath>
#include <cstring>

#include "core/checkpoint/containers.h"
#include "core/checkpoint/cursor.h"

// Both forms are those of ggml-org/llama.cpp 0a32c5ee, common/imatrix-loader.cpp; the means are made of them as its
// tools/quantize/quantize.cpp does (load_imatrix).

namespace qs {

namespace {

constexpr std::string_view sums_suffix = ".in_sum2"; // of squared activations
constexpr std::string_view counts_suffix = ".counts";

[[noreturn]] void refuse(const std::string& file, std::string_view entry, const std::string& reason) {
    throw Error(file, fmt::format("entry '{}' {}", printable(entry), reason), "make the importance matrix again");
}

/// The values divided by the count; what has no count is as it is.
void divide(std::span<float> values, float count) {
    for (float& value : values)
        value = count > 0 ? value / count : value;
}

void check(const std::string& file, std::string_view entry, std::span<const float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]) || values[i] < 0)
            refuse(file, entry,
                   fmt::format("has the importance {} at {}: importances are finite and not negative", values[i], i));
}

// --- GGUF --------------------------------------------------------------------------------------------------------

/// The two tensors of an entry.
struct Pair {
    const TensorInfo* sums = nullptr;
    const TensorInfo* counts = nullptr;
};

using Pairs = std::map<std::string, Pair, std::less<>>;

/// Other tensors, such as sums that are not squared, are not looked at.
Pairs pairs_of(const ParsedFile& parsed) {
    Pairs pairs;
    for (const TensorInfo& tensor : parsed.tensors) {
        const std::string_view name = tensor.name;
        if (name.ends_with(sums_suffix))
            pairs[std::string(name.substr(0, name.size() - sums_suffix.size()))].sums = &tensor;
        else if (name.ends_with(counts_suffix))
            pairs[std::string(name.substr(0, name.size() - counts_suffix.size()))].counts = &tensor;
    }
    return pairs;
}

void check_pair(const std::string& file, const std::string& name, const Pair& pair) {
    if (pair.sums == nullptr || pair.counts == nullptr)
        refuse(file, name, fmt::format("has no tensor '{}'", pair.sums == nullptr ? sums_suffix : counts_suffix));
    for (const TensorInfo* tensor : {pair.sums, pair.counts})
        if (tensor->dtype != DType::f32)
            refuse(file, name, fmt::format("has a tensor of type {}, not F32", tensor->dtype_name));
    const std::uint64_t sums = pair.sums->elements(), counts = pair.counts->elements();
    if (sums == 0 || counts == 0 || sums % counts != 0)
        refuse(file, name, fmt::format("has {} sums, which {} counts do not divide", sums, counts));
}

std::vector<float> floats_of(std::span<const std::byte> file, const TensorInfo& tensor) {
    std::vector<std::uint32_t> words(tensor.elements());
    std::memcpy(words.data(), file.data() + tensor.offset, tensor.bytes);
    std::vector<float> values(words.size());
    std::ranges::transform(words, values.begin(), [&](std::uint32_t word) {
        return std::bit_cast<float>(tensor.byte_swapped ? __builtin_bswap32(word) : word);
    });
    return values;
}

/// Means over the tokens that came to each expert; an expert that none came to has ones.
std::vector<float> means_of(std::span<const std::byte> bytes, const std::string& file, const std::string& name,
                            const Pair& pair) {
    check_pair(file, name, pair);
    std::vector<float> values = floats_of(bytes, *pair.sums);
    const std::vector<float> counts = floats_of(bytes, *pair.counts);
    const std::size_t columns = values.size() / counts.size();
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (!std::isfinite(counts[i]) || counts[i] < 0)
            refuse(file, name, fmt::format("has the count {}", counts[i]));
        const auto means = std::span(values).subspan(i * columns, columns);
        if (counts[i] == 0)
            std::ranges::fill(means, 1.0F);
        divide(means, counts[i]);
    }
    check(file, name, values);
    return values;
}

void read_gguf(std::span<const std::byte> bytes, const std::string& file, ImportanceMatrix& matrix) {
    const ParsedFile parsed = parse_gguf(bytes, file);
    const auto type = parsed.metadata.find("general.type");
    if (type == parsed.metadata.end() || *type != "imatrix")
        throw Error(file, "is a GGUF file, but not an importance matrix: its metadata 'general.type' is " +
                              (type == parsed.metadata.end() ? "absent" : printable(type->dump())));
    for (const auto& [name, pair] : pairs_of(parsed))
        matrix.entries[name] = means_of(bytes, file, name, pair);
}

// --- the binary form ---------------------------------------------------------------------------------------------

/// Whether the file begins as this form does: a number of entries, and the length of a first name that is text.
bool begins_as_binary(std::span<const std::byte> bytes) {
    constexpr std::int32_t most_entries = 1 << 20, longest_name = 1 << 12;
    std::int32_t head[2];
    if (bytes.size() < sizeof head)
        return false;
    std::memcpy(head, bytes.data(), sizeof head);
    const auto [entries, length] = head;
    if (entries < 1 || entries > most_entries || length < 1 || length > longest_name)
        return false;
    const std::string_view name = as_text(bytes.subspan(sizeof head)).substr(0, static_cast<std::size_t>(length));
    return std::ranges::all_of(name, [](unsigned char c) { return c >= ' '; });
}

std::uint64_t read_length(Cursor& cursor, const std::string& what) {
    const auto length = cursor.number<std::int32_t>(what);
    if (length < 1)
        throw Error(cursor.file(), fmt::format("{} is {}", what, length), "make the importance matrix again");
    return static_cast<std::uint64_t>(length);
}

void read_entry(Cursor& cursor, std::int32_t index, ImportanceMatrix& matrix) {
    const std::string what = fmt::format("the name of entry {}", index);
    const std::string_view name = as_text(cursor.take(read_length(cursor, "the length of " + what), what));
    if (!is_utf8(name))
        refuse(cursor.file(), name, "has a name that is not UTF-8");
    const std::string of_entry = fmt::format("of entry '{}'", printable(name));
    const auto calls = cursor.number<std::int32_t>("the number of calls " + of_entry);
    if (calls < 0)
        refuse(cursor.file(), name, fmt::format("is of {} calls", calls));
    const std::uint64_t count = read_length(cursor, "the number of values " + of_entry);
    const auto bytes = cursor.take(count * sizeof(float), "the values " + of_entry);
    std::vector<float> values(count);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    divide(values, static_cast<float>(calls));
    check(cursor.file(), name, values);
    if (!matrix.entries.try_emplace(std::string(name), std::move(values)).second)
        refuse(cursor.file(), name, "appears twice");
}

/// What follows the entries, the name of the text that they were measured on, is not needed.
void read_binary(std::span<const std::byte> bytes, const std::string& file, ImportanceMatrix& matrix) {
    Cursor cursor(bytes, file);
    const auto entries = cursor.number<std::int32_t>("the number of entries");
    for (std::int32_t i = 0; i < entries; ++i)
        read_entry(cursor, i, matrix);
}

} // namespace

const std::vector<float>* ImportanceMatrix::find(std::string_view name) const {
    const auto found = entries.find(name);
    return found == entries.end() ? nullptr : &found->second;
}

ImportanceMatrix open_imatrix(const std::filesystem::path& path) {
    const auto mapped = MappedFile::open(path);
    const std::string file = path.string();
    ImportanceMatrix matrix{path, {}};
    if (as_text(mapped->bytes()).starts_with("GGUF"))
        read_gguf(mapped->bytes(), file, matrix);
    else if (begins_as_binary(mapped->bytes()))
        read_binary(mapped->bytes(), file, matrix);
    else
        throw Error(file, "is no importance matrix", "llama-imatrix's files are read, in GGUF and in the older .dat");
    if (matrix.entries.empty())
        throw Error(file, "is an importance matrix without entries");
    return matrix;
}

} // namespace qs
