#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"
#include "core/checkpoint/cursor.h"
#include "core/checkpoint/gguf_writer.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

constexpr std::size_t longest_kept_array = 64;
constexpr std::size_t longest_kept_string = 1 << 20;
constexpr std::size_t most_kept_values = 1 << 20;  // of all arrays together
constexpr std::size_t most_whole_values = 1 << 23; // where arrays are asked for in full
constexpr std::uint64_t most_entries = 1 << 16;
constexpr int deepest_array = 4;
constexpr std::uint32_t most_dimensions = 4;
constexpr std::uint64_t largest_alignment = std::uint64_t{1} << 31; // the key is a 32-bit number
// The least that an entry (key length, type, one byte) and a tensor (name length, dimensions, type, offset) take.
constexpr std::uint64_t smallest_entry = 8 + 4 + 1;
constexpr std::uint64_t smallest_tensor = 8 + 4 + 4 + 8;

constexpr std::array<GgmlType, 41> type_table = {{
    {0, "F32", DType::f32, 1, 4},
    {1, "F16", DType::f16, 1, 2},
    {2, "Q4_0", DType::q4_0, 32, 18},
    {3, "Q4_1", DType::q4_1, 32, 20},
    {6, "Q5_0", DType::q5_0, 32, 22},
    {7, "Q5_1", DType::q5_1, 32, 24},
    {8, "Q8_0", DType::q8_0, 32, 34},
    {9, "Q8_1", DType::unsupported, 32, 36},
    {10, "Q2_K", DType::q2_K, 256, 84},
    {11, "Q3_K", DType::q3_K, 256, 110},
    {12, "Q4_K", DType::q4_K, 256, 144},
    {13, "Q5_K", DType::q5_K, 256, 176},
    {14, "Q6_K", DType::q6_K, 256, 210},
    {15, "Q8_K", DType::unsupported, 256, 292},
    {16, "IQ2_XXS", DType::iq2_xxs, 256, 66},
    {17, "IQ2_XS", DType::iq2_xs, 256, 74},
    {18, "IQ3_XXS", DType::iq3_xxs, 256, 98},
    {19, "IQ1_S", DType::iq1_s, 256, 50},
    {20, "IQ4_NL", DType::iq4_nl, 32, 18},
    {21, "IQ3_S", DType::iq3_s, 256, 110},
    {22, "IQ2_S", DType::iq2_s, 256, 82},
    {23, "IQ4_XS", DType::iq4_xs, 256, 136},
    {24, "I8", DType::i8, 1, 1},
    {25, "I16", DType::i16, 1, 2},
    {26, "I32", DType::i32, 1, 4},
    {27, "I64", DType::i64, 1, 8},
    {28, "F64", DType::f64, 1, 8},
    {29, "IQ1_M", DType::iq1_m, 256, 56},
    {30, "BF16", DType::bf16, 1, 2},
    {31, "Q4_0_4_4", DType::unsupported, 32, 18},
    {32, "Q4_0_4_8", DType::unsupported, 32, 18},
    {33, "Q4_0_8_8", DType::unsupported, 32, 18},
    {34, "TQ1_0", DType::tq1_0, 256, 54},
    {35, "TQ2_0", DType::tq2_0, 256, 66},
    {36, "IQ4_NL_4_4", DType::unsupported, 32, 18},
    {37, "IQ4_NL_4_8", DType::unsupported, 32, 18},
    {38, "IQ4_NL_8_8", DType::unsupported, 32, 18},
    {39, "MXFP4", DType::mxfp4, 32, 17},
    {40, "NVFP4", DType::nvfp4, 64, 36},
    {41, "Q1_0", DType::q1_0, 128, 18},
    {42, "Q2_0", DType::q2_0, 64, 18},
}};

const GgmlType* find_type(std::uint32_t id) {
    const auto found = std::ranges::find(type_table, id, &GgmlType::id);
    return found == type_table.end() ? nullptr : &*found;
}

using ValueType = GgufValueType;

/// Bytes of a metadata value of fixed size; 0 for a string or an array.
std::size_t fixed_size(ValueType type) {
    switch (type) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean:
        return 1;
    case ValueType::u16:
    case ValueType::i16:
        return 2;
    case ValueType::u32:
    case ValueType::i32:
    case ValueType::f32:
        return 4;
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64:
        return 8;
    default:
        return 0;
    }
}

/// Reads the metadata into JSON, the values of the keys in `whole` in full.
class Metadata {
public:
    explicit Metadata(Cursor& cursor, std::span<const std::string_view> whole = {}) : cursor_(cursor), whole_(whole) {}

    nlohmann::json read(std::uint64_t count) {
        nlohmann::json result = nlohmann::json::object();
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::string_view key = cursor_.string(fmt::format("the key of metadata entry {}", i));
            if (key.empty() || !is_utf8(key))
                throw Error(cursor_.file(), fmt::format("metadata entry {} has the key '{}', which is {}", i,
                                                        printable(key), key.empty() ? "empty" : "not UTF-8"));
            what_ = fmt::format("metadata '{}'", printable(key));
            if (result.contains(key))
                refuse("appears twice");
            const ValueType type = read_type();
            in_full_ = std::ranges::find(whole_, key) != whole_.end();
            result[std::string(key)] = read_value(type, 0);
        }
        return result;
    }

private:
    [[noreturn]] void refuse(const std::string& reason) const { throw Error(cursor_.file(), what_ + " " + reason); }

    ValueType read_type() {
        const auto id = cursor_.number<std::uint32_t>(what_);
        if (id > static_cast<std::uint32_t>(ValueType::f64))
            refuse(fmt::format("has the unknown value type {}", id));
        return static_cast<ValueType>(id);
    }

    nlohmann::json read_value(ValueType type, int depth) {
        switch (type) {
        case ValueType::u8:
            return cursor_.number<std::uint8_t>(what_);
        case ValueType::i8:
            return cursor_.number<std::int8_t>(what_);
        case ValueType::u16:
            return cursor_.number<std::uint16_t>(what_);
        case ValueType::i16:
            return cursor_.number<std::int16_t>(what_);
        case ValueType::u32:
            return cursor_.number<std::uint32_t>(what_);
        case ValueType::i32:
            return cursor_.number<std::int32_t>(what_);
        case ValueType::f32:
            return cursor_.number<float>(what_);
        case ValueType::boolean:
            return read_boolean();
        case ValueType::string:
            return read_string();
        case ValueType::array:
            return read_array(depth + 1);
        case ValueType::u64:
            return cursor_.number<std::uint64_t>(what_);
        case ValueType::i64:
            return cursor_.number<std::int64_t>(what_);
        case ValueType::f64:
            return cursor_.number<double>(what_);
        }
        refuse("has an unknown value type");
    }

    bool read_boolean() {
        const auto value = cursor_.number<std::uint8_t>(what_);
        if (value > 1)
            refuse(fmt::format("has the boolean {}, which is neither 0 nor 1", value));
        return value == 1;
    }

    nlohmann::json read_string() {
        const std::string_view text = cursor_.string(what_);
        if (in_full_)
            return text;
        if (text.size() > longest_kept_string)
            return {{"length", text.size()}};
        return to_utf8(text);
    }

    struct ArrayHead {
        ValueType type;
        std::uint64_t count;
    };

    /// What stands in front of an array's values, checked against what the file still holds.
    ArrayHead read_array_head(int depth) {
        if (depth > deepest_array)
            refuse(fmt::format("has arrays nested deeper than {} levels", deepest_array));
        const ValueType type = read_type();
        const auto count = cursor_.number<std::uint64_t>(what_);
        const std::uint64_t smallest = type == ValueType::string ? 8 : type == ValueType::array ? 12 : fixed_size(type);
        if (count > cursor_.remaining() / smallest)
            refuse(fmt::format("is an array of {} values, more than the file's remaining {} bytes can hold", count,
                               cursor_.remaining()));
        return {type, count};
    }

    nlohmann::json read_array(int depth) {
        const auto [type, count] = read_array_head(depth);
        if (in_full_ && kept_values_ + count > most_whole_values)
            refuse(fmt::format("has more than {} values", most_whole_values));
        if (!in_full_ && (count > longest_kept_array || kept_values_ + count > most_kept_values)) {
            skip_values(type, count, depth);
            return {{"length", count}};
        }
        kept_values_ += count;
        nlohmann::json result = nlohmann::json::array();
        for (std::uint64_t i = 0; i < count; ++i)
            result.push_back(read_value(type, depth));
        return result;
    }

    void skip_values(ValueType type, std::uint64_t count, int depth) {
        if (type == ValueType::boolean) {
            for (std::uint64_t i = 0; i < count; ++i)
                read_boolean();
        } else if (type == ValueType::string) {
            for (std::uint64_t i = 0; i < count; ++i)
                cursor_.string(what_);
        } else if (type == ValueType::array) {
            for (std::uint64_t i = 0; i < count; ++i)
                skip_array(depth + 1);
        } else {
            cursor_.take(count * fixed_size(type), what_);
        }
    }

    void skip_array(int depth) {
        const auto [type, count] = read_array_head(depth);
        skip_values(type, count, depth);
    }

    Cursor& cursor_;
    std::span<const std::string_view> whole_;
    std::string what_;
    bool in_full_ = false; // the entry that is read
    std::size_t kept_values_ = 0;
};

/// Copies metadata, numbers into little endian.
class EntryCopier {
public:
    explicit EntryCopier(Cursor& cursor) : cursor_(cursor) {}

    GgufEntry copy() {
        GgufEntry entry;
        entry.key = cursor_.string("a key of the metadata");
        copy_value(copy_type());
        entry.value = out_.take();
        return entry;
    }

private:
    static constexpr const char* what = "the metadata";

    template <class T>
    T copy_number() {
        const T value = cursor_.number<T>(what);
        out_.number(value);
        return value;
    }

    ValueType copy_type() { return static_cast<ValueType>(copy_number<std::uint32_t>()); }

    void copy_value(ValueType type) {
        switch (fixed_size(type)) {
        case 1:
            copy_number<std::uint8_t>();
            break;
        case 2:
            copy_number<std::uint16_t>();
            break;
        case 4:
            copy_number<std::uint32_t>();
            break;
        case 8:
            copy_number<std::uint64_t>();
            break;
        default:
            type == ValueType::string ? out_.string(cursor_.string(what)) : copy_array();
        }
    }

    void copy_array() {
        const ValueType type = copy_type();
        const auto count = copy_number<std::uint64_t>();
        for (std::uint64_t i = 0; i < count; ++i)
            copy_value(type);
    }

    Cursor& cursor_;
    ByteBuffer out_;
};

/// Reads the table of tensors; offsets are relative to the data until place() is called.
class TensorTable {
public:
    TensorTable(Cursor& cursor, bool swapped, std::uint64_t alignment)
        : cursor_(cursor), swapped_(swapped), alignment_(alignment) {}

    std::vector<TensorInfo> read(std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i)
            tensors_.push_back(read_tensor(i));
        return std::move(tensors_);
    }

private:
    [[noreturn]] void refuse(const std::string& reason) const { throw Error(cursor_.file(), what_ + " " + reason); }

    TensorInfo read_tensor(std::uint64_t index) {
        what_ = fmt::format("tensor {} of the table", index);
        const std::string_view name = cursor_.string(what_);
        what_ = fmt::format("tensor '{}'", printable(name));
        if (!is_utf8(name))
            refuse("has a name that is not UTF-8");
        if (!names_.insert(name).second)
            refuse("appears twice");
        TensorInfo tensor;
        tensor.name = name;
        tensor.shape = read_shape();
        const auto id = cursor_.number<std::uint32_t>(what_);
        const GgmlType* type = find_type(id);
        if (type == nullptr)
            refuse(fmt::format("has the unknown type id {}", id));
        tensor.dtype = type->dtype;
        tensor.dtype_name = type->name;
        tensor.bytes = stored_bytes(tensor, *type);
        tensor.offset = cursor_.number<std::uint64_t>(what_);
        tensor.byte_swapped = swapped_;
        if (tensor.offset % alignment_ != 0)
            refuse(fmt::format("begins at byte {} of the data, which is not a multiple of the alignment {}",
                               tensor.offset, alignment_));
        return tensor;
    }

    /// GGUF writes the fastest dimension first.
    std::vector<std::int64_t> read_shape() {
        const auto dimensions = cursor_.number<std::uint32_t>(what_);
        if (dimensions > most_dimensions)
            refuse(fmt::format("has {} dimensions, more than {}", dimensions, most_dimensions));
        std::vector<std::int64_t> shape(dimensions);
        for (std::uint32_t i = dimensions; i-- > 0;) {
            const auto extent = cursor_.number<std::uint64_t>(what_);
            if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
                refuse(fmt::format("has a dimension of {}, which is too large", extent));
            shape[i] = static_cast<std::int64_t>(extent);
        }
        return shape;
    }

    std::uint64_t stored_bytes(const TensorInfo& tensor, const GgmlType& type) const {
        std::uint64_t elements = 1;
        for (const std::int64_t extent : tensor.shape)
            if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(extent), &elements))
                refuse("has the shape " + shape_text(tensor.shape) + ", whose number of elements overflows 64 bits");
        if (tensor.columns() % type.elements != 0)
            refuse(fmt::format("of type {} and shape {} has rows that are not a multiple of the block of {}", type.name,
                               shape_text(tensor.shape), type.elements));
        std::uint64_t bytes = 0;
        if (__builtin_mul_overflow(elements / type.elements, type.bytes, &bytes))
            refuse("has the shape " + shape_text(tensor.shape) + ", whose number of bytes overflows 64 bits");
        return bytes;
    }

    Cursor& cursor_;
    bool swapped_;
    std::uint64_t alignment_;
    std::string what_;
    std::vector<TensorInfo> tensors_;
    std::unordered_set<std::string_view> names_;
};

/// Turns offsets relative to the data into offsets from the start of the file, in order, checked against the file's
/// size and each other.
void place(std::vector<TensorInfo>& tensors, std::uint64_t data_begin, std::uint64_t file_size,
           const std::string& file) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
    });
    const std::uint64_t data_size = file_size > data_begin ? file_size - data_begin : 0;
    std::uint64_t previous_end = 0;
    for (TensorInfo& tensor : tensors) {
        if (tensor.offset > data_size || tensor.bytes > data_size - tensor.offset)
            throw Error(file,
                        fmt::format("tensor '{}' of {} bytes at byte {} does not fit the data, which has {} bytes",
                                    printable(tensor.name), tensor.bytes, tensor.offset, data_size),
                        "the file is truncated: get it again");
        if (tensor.offset < previous_end)
            throw Error(file, fmt::format("tensor '{}' at byte {} of the data overlaps the tensor before it",
                                          printable(tensor.name), tensor.offset));
        previous_end = tensor.offset + tensor.bytes;
        // An empty tensor may stand in the padding that a file without data leaves out.
        tensor.offset = std::min(tensor.offset + data_begin, file_size);
    }
}

/// Reads the version, which tells the byte order: a version that only fills the upper half was written the other way.
std::uint32_t read_version(Cursor& cursor, bool& swapped) {
    auto version = cursor.number<std::uint32_t>("the GGUF version");
    swapped = version != 0 && (version & 0xffffu) == 0;
    cursor.set_swapped(swapped);
    if (swapped)
        version = __builtin_bswap32(version);
    if (version == 1)
        throw Error(cursor.file(), "is GGUF version 1, which llama.cpp gave up in 2023",
                    "convert the model again with a current llama.cpp (versions 2 and 3 are read)");
    if (version != 2 && version != 3)
        throw Error(cursor.file(), fmt::format("has the GGUF version {}; versions 2 and 3 are read", version));
    return version;
}

void check_counts(const Cursor& cursor, std::uint64_t tensors, std::uint64_t entries) {
    const auto refuse = [&](std::string_view what, std::uint64_t count) {
        throw Error(cursor.file(),
                    fmt::format("promises {} {}, more than its {} bytes can hold", count, what, cursor.remaining()),
                    "the file is truncated or damaged: get it again");
    };
    if (tensors > cursor.remaining() / smallest_tensor)
        refuse("tensors", tensors);
    if (entries > cursor.remaining() / smallest_entry)
        refuse("metadata entries", entries);
    if (entries > most_entries)
        throw Error(cursor.file(), fmt::format("has {} metadata entries, more than {}", entries, most_entries));
    if (tensors == 0 && entries == 0)
        throw Error(cursor.file(), "is a GGUF file with neither metadata nor tensors");
}

std::uint64_t read_alignment(const nlohmann::json& metadata, const std::string& file) {
    const auto found = metadata.find("general.alignment");
    if (found == metadata.end())
        return gguf_alignment;
    if (!found->is_number_unsigned() || !std::has_single_bit(found->get<std::uint64_t>()) ||
        found->get<std::uint64_t>() > largest_alignment)
        throw Error(file, fmt::format("metadata 'general.alignment' is {}, not a power of two", found->dump()));
    return found->get<std::uint64_t>();
}

/// What stands in front of the metadata.
struct Header {
    std::uint32_t version = 0;
    bool swapped = false;
    std::uint64_t tensors = 0;
    std::uint64_t entries = 0;
};

Header read_header(Cursor& cursor) {
    if (as_text(cursor.take(4, "the GGUF magic")) != "GGUF")
        throw Error(cursor.file(), "does not begin with the GGUF magic");
    Header header;
    header.version = read_version(cursor, header.swapped);
    header.tensors = cursor.number<std::uint64_t>("the number of tensors");
    header.entries = cursor.number<std::uint64_t>("the number of metadata entries");
    check_counts(cursor, header.tensors, header.entries);
    return header;
}

} // namespace

std::span<const GgmlType> ggml_types() {
    return type_table;
}

ParsedFile parse_gguf(std::span<const std::byte> bytes, const std::string& file) {
    Cursor cursor(bytes, file);
    const Header header = read_header(cursor);
    ParsedFile parsed;
    parsed.container = fmt::format("GGUF v{}{}", header.version, header.swapped ? " (big endian)" : "");
    parsed.metadata = Metadata(cursor).read(header.entries);
    const std::uint64_t alignment = read_alignment(parsed.metadata, file);
    parsed.tensors = TensorTable(cursor, header.swapped, alignment).read(header.tensors);
    const std::uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
    place(parsed.tensors, data_begin, bytes.size(), file);
    return parsed;
}

nlohmann::json gguf_metadata(const Checkpoint& checkpoint, std::span<const std::string_view> keys) {
    const MappedFile& first = *checkpoint.files.front(); // of a split file, the part with the metadata
    const std::string file = first.path().string();
    Cursor cursor(first.bytes(), file);
    const Header header = read_header(cursor);
    nlohmann::json metadata = Metadata(cursor, keys).read(header.entries);
    nlohmann::json result = nlohmann::json::object();
    for (const std::string_view key : keys)
        if (const auto found = metadata.find(key); found != metadata.end())
            result[std::string(key)] = std::move(*found);
    return result;
}

std::vector<GgufEntry> gguf_entries(const Checkpoint& checkpoint) {
    const MappedFile& first = *checkpoint.files.front();
    const std::string file = first.path().string();
    Cursor cursor(first.bytes(), file);
    const Header header = read_header(cursor);
    EntryCopier copier(cursor);
    std::vector<GgufEntry> entries;
    for (std::uint64_t i = 0; i < header.entries; ++i)
        entries.push_back(copier.copy());
    return entries;
}

} // namespace qs
