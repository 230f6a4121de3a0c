#pragma once

#include <nlohmann/json.hpp>

namespace qs {

/// JSON whose fields keep the order in which they were written.
using Json = nlohmann::ordered_json;

/// A number as the program writes it into JSON: all its digits; what JSON has no number for is "nan", "inf" or "-inf".
Json json_number(double value);

/// The text of a document; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const Json& document);

} // namespace qs
