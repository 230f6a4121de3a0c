#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/methods/apply.h"

namespace qs {

/// Whether a method has stored an array of this name.
inline bool stores(const MethodResult& result, std::string_view name) {
    return std::ranges::find(result.stored, name, &StoredArray::name) != result.stored.end();
}

/// The array of this name. Throws Error where there is none.
template <class T>
std::vector<T> stored_values(const MethodResult& result, std::string_view name) {
    const auto found = std::ranges::find(result.stored, name, &StoredArray::name);
    if (found == result.stored.end())
        throw Error("format " + result.format.text(), "stores no " + std::string(name));
    std::vector<T> values(found->bytes.size() / sizeof(T));
    std::memcpy(values.data(), found->bytes.data(), values.size() * sizeof(T));
    return values;
}

/// The bytes of values, as a file holds them.
template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    return {bytes, bytes + values.size() * sizeof(T)};
}

} // namespace qs
