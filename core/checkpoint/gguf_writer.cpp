#include "core/checkpoint/gguf_writer.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"

namespace qs {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

namespace {

const GgmlType& type_of(DType dtype, const std::string& tensor) {
    const auto types = ggml_types();
    const auto found = std::ranges::find(types, dtype, &GgmlType::dtype);
    if (found == types.end() || dtype == DType::unsupported)
        throw Error("tensor " + tensor,
                    "is of the type " + std::string(to_string(dtype)) + ", which GGUF files do not hold");
    return *found;
}

} // namespace

template <class T>
void GgufHeader::set_number(const std::string& key, GgufValueType type, T value) {
    ByteBuffer bytes;
    bytes.number(type);
    bytes.number(value);
    set({key, bytes.take()});
}

template <class T>
void GgufHeader::set_array(const std::string& key, GgufValueType type, const std::vector<T>& values) {
    ByteBuffer bytes;
    bytes.number(GgufValueType::array);
    bytes.number(type);
    bytes.number<std::uint64_t>(values.size());
    bytes.append(values.data(), values.size() * sizeof(T));
    set({key, bytes.take()});
}

void GgufHeader::set(const std::string& key, std::uint32_t value) {
    set_number(key, GgufValueType::u32, value);
}

void GgufHeader::set(const std::string& key, float value) {
    set_number(key, GgufValueType::f32, value);
}

void GgufHeader::set(const std::string& key, bool value) {
    set_number(key, GgufValueType::boolean, std::uint8_t{value});
}

void GgufHeader::set(const std::string& key, std::string_view value) {
    ByteBuffer bytes;
    bytes.number(GgufValueType::string);
    bytes.string(value);
    set({key, bytes.take()});
}

void GgufHeader::set(const std::string& key, const std::vector<std::string>& values) {
    ByteBuffer bytes;
    bytes.number(GgufValueType::array);
    bytes.number(GgufValueType::string);
    bytes.number<std::uint64_t>(values.size());
    for (const std::string& value : values)
        bytes.string(value);
    set({key, bytes.take()});
}

void GgufHeader::set(const std::string& key, const std::vector<std::uint8_t>& values) {
    set_array(key, GgufValueType::u8, values);
}

void GgufHeader::set(const std::string& key, const std::vector<bool>& values) {
    set_array(key, GgufValueType::boolean, std::vector<std::uint8_t>(values.begin(), values.end()));
}

void GgufHeader::set(const std::string& key, const std::vector<std::int32_t>& values) {
    set_array(key, GgufValueType::i32, values);
}

void GgufHeader::set(const std::string& key, const std::vector<float>& values) {
    set_array(key, GgufValueType::f32, values);
}

void GgufHeader::set(GgufEntry entry) {
    std::erase_if(entries_, [&](const GgufEntry& other) { return other.key == entry.key; });
    entries_.push_back(std::move(entry));
}

void GgufHeader::add_tensor(std::string name, const std::vector<std::int64_t>& shape, DType dtype) {
    const GgmlType& type = type_of(dtype, name);
    std::uint64_t elements = 1;
    for (const std::int64_t extent : shape)
        elements *= static_cast<std::uint64_t>(extent);
    const std::uint64_t bytes = elements / type.elements * type.bytes;
    tensors_.push_back({std::move(name), shape, type.id, data_bytes_, bytes});
    data_bytes_ += padded(bytes);
}

std::vector<std::byte> GgufHeader::bytes() const {
    ByteBuffer out;
    out.append("GGUF", 4);
    out.number(gguf_version);
    out.number<std::uint64_t>(tensors_.size());
    out.number<std::uint64_t>(entries_.size());
    for (const GgufEntry& entry : entries_) {
        out.string(entry.key);
        out.append(entry.value.data(), entry.value.size());
    }
    for (const Tensor& tensor : tensors_) {
        out.string(tensor.name);
        out.number(static_cast<std::uint32_t>(tensor.shape.size()));
        for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent)
            out.number(*extent);
        out.number(tensor.type);
        out.number(tensor.offset);
    }
    out.pad_to(padded(out.size()));
    return out.take();
}

} // namespace qs
