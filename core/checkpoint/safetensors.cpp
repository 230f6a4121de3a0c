#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"
#include "core/checkpoint/json_walker.h"
#include "core/checkpoint/text.h"

namespace qs {

namespace {

// Limits of the reference (huggingface/safetensors, tensor.rs) and of the arrays that people can make (NumPy: 64).
constexpr std::uint64_t longest_header = 100'000'000;
constexpr std::size_t most_dimensions = 64;

struct SafetensorsType {
    std::string_view name;
    DType dtype;
    unsigned bits;
};

constexpr std::array<SafetensorsType, 22> types = {{
    {"F32", DType::f32, 32},
    {"F16", DType::f16, 16},
    {"BF16", DType::bf16, 16},
    {"F64", DType::f64, 64},
    {"F8_E4M3", DType::f8_e4m3, 8},
    {"F8_E5M2", DType::f8_e5m2, 8},
    {"I64", DType::i64, 64},
    {"I32", DType::i32, 32},
    {"I16", DType::i16, 16},
    {"I8", DType::i8, 8},
    {"U64", DType::u64, 64},
    {"U32", DType::u32, 32},
    {"U16", DType::u16, 16},
    {"U8", DType::u8, 8},
    {"BOOL", DType::boolean, 8},
    {"F4", DType::unsupported, 4},
    {"F6_E2M3", DType::unsupported, 6},
    {"F6_E3M2", DType::unsupported, 6},
    {"F8_E8M0", DType::unsupported, 8},
    {"F8_E4M3FNUZ", DType::unsupported, 8},
    {"F8_E5M2FNUZ", DType::unsupported, 8},
    {"C64", DType::unsupported, 64},
}};

const SafetensorsType* find_type(std::string_view name) {
    const auto found = std::find_if(types.begin(), types.end(), [&](const auto& type) { return type.name == name; });
    return found == types.end() ? nullptr : &*found;
}

std::uint64_t read_u64(std::span<const std::byte> bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < 8; ++i)
        value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    return value;
}

/// Reads the header's JSON into tensors whose extents lie inside the data of `data_size` bytes after `data_begin`.
class Header : public JsonWalker<Header> {
public:
    Header(const std::string& file, std::uint64_t data_begin, std::uint64_t data_size)
        : JsonWalker(file, "the safetensors header"), file_(file), data_begin_(data_begin), data_size_(data_size) {}

    std::vector<TensorInfo> take() { return std::move(tensors_); }

    void on_key(std::string& text) {
        if (depth() == 1)
            start_entry(text);
        else if (depth() == 2 && !in_metadata_)
            start_field(text);
    }

    void on_begin(bool object) {
        const bool expected = depth() == 1 || depth() == 2 ? object
                                                           : depth() == 3 && !object && !in_metadata_ &&
                                                                 (field_ == Field::shape || field_ == Field::offsets);
        if (!expected)
            refuse("has a value of the wrong kind");
    }

    void on_end() {
        if (depth() == 1 && !in_metadata_)
            finish_tensor();
        if (depth() == 1)
            in_entry_ = in_metadata_ = false;
    }

    void on_scalar(const JsonScalar& value) {
        if (depth() == 2 && in_metadata_ && value.kind == JsonScalar::Kind::string)
            return;
        if (depth() == 2 && !in_metadata_ && field_ == Field::dtype && value.kind == JsonScalar::Kind::string)
            set_type(*value.text);
        else if (depth() == 3 && value.kind == JsonScalar::Kind::unsigned_integer)
            add_number(value.number);
        else
            refuse(in_metadata_ ? "must map strings to strings" : "has a value of the wrong kind");
    }

private:
    enum class Field { none, dtype, shape, offsets };

    [[noreturn]] void refuse(const std::string& reason) const {
        if (in_metadata_)
            throw Error(file_, "__metadata__ in the safetensors header " + reason);
        if (!in_entry_)
            fail(reason);
        throw Error(file_, fmt::format("tensor '{}' {}", printable(tensor_.name), reason));
    }

    void start_entry(std::string& name) {
        in_entry_ = true;
        in_metadata_ = name == "__metadata__";
        if (in_metadata_ && std::exchange(metadata_seen_, true))
            refuse("appears twice");
        tensor_ = {};
        tensor_.name = std::move(name);
        tensor_.shape.reserve(4);
        type_ = nullptr;
        offset_count_ = 0;
        shape_seen_ = offsets_seen_ = false;
        field_ = Field::none;
    }

    void start_field(const std::string& name) {
        field_ = name == "dtype"          ? Field::dtype
                 : name == "shape"        ? Field::shape
                 : name == "data_offsets" ? Field::offsets
                                          : Field::none;
        if (field_ == Field::none)
            return skip_value();
        if ((field_ == Field::dtype && type_ != nullptr) ||
            (field_ == Field::shape && std::exchange(shape_seen_, true)) ||
            (field_ == Field::offsets && std::exchange(offsets_seen_, true)))
            refuse("has '" + name + "' twice");
    }

    void set_type(const std::string& name) {
        type_ = find_type(name);
        if (type_ == nullptr)
            refuse("has the unknown dtype '" + printable(name) + "'");
        tensor_.dtype = type_->dtype;
        tensor_.dtype_name = type_->name;
    }

    void add_number(std::uint64_t number) {
        if (field_ == Field::offsets) {
            if (offset_count_ == 2)
                refuse("has more than two data_offsets");
            offsets_[offset_count_++] = number;
            return;
        }
        if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
            refuse(fmt::format("has a dimension of {}, which is too large", number));
        if (tensor_.shape.size() == most_dimensions)
            refuse(fmt::format("has more than {} dimensions", most_dimensions));
        tensor_.shape.push_back(static_cast<std::int64_t>(number));
    }

    void finish_tensor() {
        if (type_ == nullptr || !shape_seen_ || offset_count_ != 2)
            refuse(fmt::format("has no {}", type_ == nullptr ? "dtype" : !shape_seen_ ? "shape" : "two data_offsets"));
        const std::uint64_t needed = stored_bytes();
        const auto [begin, end] = offsets_;
        if (begin > end)
            refuse(fmt::format("has data_offsets [{}, {}] that run backwards", begin, end));
        if (end > data_size_)
            throw Error(file_,
                        fmt::format("tensor '{}' ends at byte {} of the data, which has {} bytes",
                                    printable(tensor_.name), end, data_size_),
                        "the file is truncated: get it again");
        if (end - begin != needed)
            refuse(fmt::format("has {} bytes, but {} of shape {} takes {}", end - begin, type_->name,
                               shape_text(tensor_.shape), needed));
        tensor_.offset = data_begin_ + begin;
        tensor_.bytes = needed;
        tensors_.push_back(std::move(tensor_));
    }

    std::uint64_t stored_bytes() const {
        std::uint64_t bits = type_->bits;
        std::uint64_t elements = 1;
        for (const std::int64_t extent : tensor_.shape)
            if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(extent), &elements))
                refuse("has the shape " + shape_text(tensor_.shape) + ", whose number of elements overflows 64 bits");
        if (__builtin_mul_overflow(bits, elements, &bits))
            refuse("has the shape " + shape_text(tensor_.shape) + ", whose number of bytes overflows 64 bits");
        if (bits % 8 != 0)
            refuse(fmt::format("of dtype {} and shape {} does not fill whole bytes", type_->name,
                               shape_text(tensor_.shape)));
        return bits / 8;
    }

    const std::string& file_;
    std::uint64_t data_begin_;
    std::uint64_t data_size_;
    std::vector<TensorInfo> tensors_;

    TensorInfo tensor_;
    const SafetensorsType* type_ = nullptr;
    std::array<std::uint64_t, 2> offsets_{};
    std::size_t offset_count_ = 0;
    Field field_ = Field::none;
    bool shape_seen_ = false;
    bool offsets_seen_ = false;
    bool in_entry_ = false;
    bool in_metadata_ = false;
    bool metadata_seen_ = false;
};

void check_unique(const std::vector<TensorInfo>& tensors, const std::string& file) {
    std::unordered_set<std::string_view> names(tensors.size() * 2);
    for (const TensorInfo& tensor : tensors)
        if (!names.insert(tensor.name).second)
            throw Error(file, fmt::format("tensor '{}' appears twice in the header", printable(tensor.name)));
}

/// The tensors, in order of offset, must follow each other from the first byte of the data to the last.
void check_cover(const std::vector<TensorInfo>& tensors, std::uint64_t data_begin, std::uint64_t file_size,
                 const std::string& file) {
    std::uint64_t position = data_begin;
    for (const TensorInfo& tensor : tensors) {
        if (tensor.offset != position)
            throw Error(file, fmt::format("tensor '{}' begins at byte {} of the data where byte {} is expected: {}",
                                          printable(tensor.name), tensor.offset - data_begin, position - data_begin,
                                          tensor.offset < position ? "it overlaps the tensor before it"
                                                                   : "bytes before it belong to no tensor"));
        position += tensor.bytes;
    }
    if (position != file_size)
        throw Error(file, fmt::format("{} bytes at the end of the file belong to no tensor", file_size - position));
}

} // namespace

ParsedFile parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
    if (bytes.size() < 8)
        throw Error(file, fmt::format("has {} bytes, too few for a safetensors header", bytes.size()),
                    "the file is truncated: get it again");
    const std::uint64_t header_size = read_u64(bytes);
    if (header_size > longest_header)
        throw Error(file, fmt::format("the safetensors header's length of {} bytes is over the limit of {}",
                                      header_size, longest_header));
    if (header_size > bytes.size() - 8)
        throw Error(file,
                    fmt::format("the safetensors header's length of {} bytes is more than the {} bytes that follow it",
                                header_size, bytes.size() - 8),
                    "the file is truncated: get it again");
    const std::string_view text = as_text(bytes.subspan(8, header_size));
    if (!text.starts_with('{'))
        throw Error(file, "the safetensors header does not begin with '{'");
    const std::uint64_t data_begin = 8 + header_size;
    Header header(file, data_begin, bytes.size() - data_begin);
    header.walk(text);
    ParsedFile parsed{.container = "safetensors", .tensors = header.take(), .metadata = nullptr, .notes = {}};
    check_unique(parsed.tensors, file);
    std::stable_sort(parsed.tensors.begin(), parsed.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
    });
    check_cover(parsed.tensors, data_begin, bytes.size(), file);
    return parsed;
}

} // namespace qs
