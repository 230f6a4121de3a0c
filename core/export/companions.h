#pragma once

#include <filesystem>

#include "core/base/json_number.h"
#include "core/checkpoint/checkpoint.h"

namespace qs {

/// Where the files beside a checkpoint's weights lie.
std::filesystem::path folder_of(const Checkpoint& checkpoint);

/// Copies what makes a model of weights, its config and tokenizer, from the folder of a checkpoint into another; what
/// is there already stays.
void copy_companions(const Checkpoint& checkpoint, const std::filesystem::path& to);

/// The config.json beside a checkpoint, its keys in their order; null where there is none.
Json read_ordered_config(const Checkpoint& checkpoint);
void write_json(const std::filesystem::path& path, const Json& document);

} // namespace qs
