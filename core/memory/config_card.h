#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/memory/model_card.h"

// What the makers of model cards and core/model share.

namespace qs {

/// A card from the keys of a config.json, with the weights that the architecture has. `file` is for errors.
ModelCard card_of_config(const nlohmann::json& config, const std::string& file);

/// Only the dimensions of it: everything but `weights` and `parameters`.
ModelCard dimensions_of_config(const nlohmann::json& config, const std::string& file);
/// The same from the metadata of a GGUF file.
ModelCard dimensions_of_gguf(const nlohmann::json& metadata, const std::string& file);
/// The same of an open checkpoint. Throws Error where it has neither config nor metadata.
ModelCard dimensions_of(const Checkpoint& checkpoint);

} // namespace qs
