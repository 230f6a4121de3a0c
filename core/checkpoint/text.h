#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace qs {

/// Whether `part` stands anywhere in the text.
inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// True for well-formed UTF-8 (The Unicode Standard, table 3-7).
bool is_utf8(std::string_view text);

/// A name from a file made fit for one line of an error: control characters and broken UTF-8 become \xNN, and what is
/// longer than 120 bytes is cut.
std::string printable(std::string_view text);

/// Well-formed UTF-8 for any bytes: each byte that is none becomes U+FFFD.
std::string to_utf8(std::string_view text);

/// The bytes as characters.
inline std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace qs
