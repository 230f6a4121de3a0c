#pragma once

#include <cstdint>
#include <span>

#include "core/checkpoint/checkpoint.h"

// The numbers of a GGUF file, for its reader and its writer.

namespace qs {

/// The version that is written; it differs from 2 in allowing big-endian files.
inline constexpr std::uint32_t gguf_version = 3;
inline constexpr std::uint64_t gguf_alignment = 32; ///< of tensors, unless the key "general.alignment" says otherwise

/// The types of metadata values, as ggml's docs/gguf.md numbers them.
enum class GgufValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// A row of ggml's table of types: elements and bytes of a block (src/ggml-common.h, src/ggml.c).
struct GgmlType {
    std::uint32_t id;
    const char* name;
    DType dtype;
    std::uint64_t elements;
    std::uint64_t bytes;
};
std::span<const GgmlType> ggml_types();

} // namespace qs
