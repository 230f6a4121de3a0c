#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/checkpoint/gguf_types.h"

namespace qs {

/// What stands in a GGUF file in front of the data of its tensors: metadata and the table of tensors.
class GgufHeader {
public:
    explicit GgufHeader(std::uint64_t alignment = gguf_alignment) : alignment_(alignment) {}

    /// Sets an entry of the metadata; one of the key that is there already gives way to a new one at the end.
    void set(const std::string& key, std::uint32_t value);
    void set(const std::string& key, float value);
    void set(const std::string& key, bool value);
    void set(const std::string& key, std::string_view value);
    void set(const std::string& key, const char* value) { set(key, std::string_view(value)); }
    void set(const std::string& key, const std::vector<std::string>& values);
    void set(const std::string& key, const std::vector<std::uint8_t>& values);
    void set(const std::string& key, const std::vector<bool>& values);
    void set(const std::string& key, const std::vector<std::int32_t>& values);
    void set(const std::string& key, const std::vector<float>& values);
    void set(GgufEntry entry);

    /// Adds a tensor of a row-major shape.
    void add_tensor(std::string name, const std::vector<std::int64_t>& shape, DType type);

    /// The header, padded up to where the data begins.
    std::vector<std::byte> bytes() const;
    /// Where the data of a tensor begins and how long it is, from the beginning of the data.
    std::uint64_t offset(std::size_t tensor) const { return tensors_[tensor].offset; }
    std::uint64_t size(std::size_t tensor) const { return tensors_[tensor].bytes; }
    /// Bytes of the data of all tensors, padding included.
    std::uint64_t data_bytes() const { return data_bytes_; }

private:
    struct Tensor {
        std::string name;
        std::vector<std::int64_t> shape;
        std::uint32_t type = 0;
        std::uint64_t offset = 0, bytes = 0;
    };

    template <class T>
    void set_number(const std::string& key, GgufValueType type, T value);
    template <class T>
    void set_array(const std::string& key, GgufValueType type, const std::vector<T>& values);
    std::uint64_t padded(std::uint64_t bytes) const { return (bytes + alignment_ - 1) / alignment_ * alignment_; }

    std::uint64_t alignment_;
    std::vector<GgufEntry> entries_;
    std::vector<Tensor> tensors_;
    std::uint64_t data_bytes_ = 0;
};

/// Bytes to be written, numbers in little endian.
class ByteBuffer {
public:
    template <class T>
    void number(T value) {
        static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
        append(&value, sizeof value);
    }
    void append(const void* data, std::size_t size) {
        const std::size_t at = bytes_.size();
        bytes_.resize(at + size);
        if (size > 0)
            std::memcpy(bytes_.data() + at, data, size);
    }
    /// Its length in 64 bits, its bytes.
    void string(std::string_view text) {
        number<std::uint64_t>(text.size());
        append(text.data(), text.size());
    }
    void pad_to(std::size_t size) { bytes_.resize(size); }
    std::size_t size() const { return bytes_.size(); }
    const std::vector<std::byte>& all() const { return bytes_; }
    std::vector<std::byte> take() { return std::exchange(bytes_, {}); }

private:
    std::vector<std::byte> bytes_;
};

} // namespace qs
