#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "core/base/error.h"
#include "core/checkpoint/containers.h"

namespace qs::fuzz {

/// Parses, and checks what a caller relies on: every tensor lies inside the file.
template <class Parse>
void parse_bytes(const std::uint8_t* data, std::size_t size, Parse parse) {
    const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
    try {
        ParsedFile parsed = parse(bytes, "input");
        assign_places(parsed.tensors);
        for (const TensorInfo& tensor : parsed.tensors)
            if (tensor.offset > size || tensor.bytes > size - tensor.offset)
                std::abort();
    } catch (const Error&) {
    }
}

} // namespace qs::fuzz
