#pragma once

#include <vector>

#include "core/formats/bitsandbytes.h"
#include "core/formats/dynamic_map.h"
#include "core/formats/integer.h"
#include "core/formats/tensor_codec.h"

namespace qs {

/// What a format stores, from the codes of all weights and the scales of all scopes, whoever has chosen them.
std::vector<StoredArray> stored_arrays(const SymmetricIntCodec& codec, const std::vector<std::uint16_t>& codes,
                                       const std::vector<SymmetricIntCodec::Scale>& scales);
std::vector<StoredArray> stored_arrays(const AffineIntCodec& codec, const std::vector<std::uint16_t>& codes,
                                       const std::vector<AffineIntCodec::Scale>& scales);
/// NF4 and FP4.
std::vector<StoredArray> stored_arrays(const std::vector<std::uint16_t>& codes, const std::vector<AbsmaxScale>& scales);
std::vector<StoredArray> stored_arrays(const std::vector<std::uint16_t>& codes, const NestedAbsmax& nested);

} // namespace qs
