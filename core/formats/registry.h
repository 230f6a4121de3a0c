#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/format_spec.h"
#include "core/formats/parameters.h"
#include "core/formats/tensor_codec.h"

namespace qs {

using FormatParameter = Parameter;

/// One row of the table of formats. Everything that lists formats walks formats().
struct Format {
    std::string id;
    std::string family; ///< "float", "integer", "bitsandbytes", "ggml", "microscaling"
    std::string title;  ///< one line for people
    std::vector<FormatParameter> parameters;
    std::string scale;          ///< what the scale is and where it is stored, in words
    std::string source;         ///< where the definition comes from
    std::string bit_exact_with; ///< the reference whose bytes are reproduced; empty if none
    /// Who leaves what in 16 bits: "bitsandbytes", "ggml", "float" (nothing), "fp8", "integer", "microscaling".
    std::string ecosystem;
    /// Weights per block for these parameters; 1 where there is no block, 0 where it is a row or a whole tensor.
    std::size_t (*block)(const FormatSpec&);
    /// Stored bits per weight for a large matrix of 4096 columns (what menus and tables show).
    double (*nominal_bits)(const FormatSpec&);
    /// The row of the table that the shape can really take: `spec` itself, or the fallback of llama.cpp for ggml
    /// types whose block does not divide the row.
    FormatSpec (*effective)(const FormatSpec& spec, const TensorShape& shape);
    /// Binds the format to a tensor. `spec` must be effective for `shape`; `importance` has one value a column of
    /// each matrix and outlives the codec, or is null. A format that requires importance binds without it, but does not
    /// encode.
    std::unique_ptr<TensorCodec> (*bind)(const FormatSpec& spec, const TensorShape& shape, const float* importance);
    Importance importance = Importance::unused; ///< what it does with an importance matrix
};

/// The one table of formats, in the order in which people read it.
std::span<const Format> formats();
/// Throws Error naming the id and the nearest known ones.
const Format& format(std::string_view id);

/// Parses `id[:name=value[,name=value|flag]…]`, or the name of a recipe (recipe.h), which the functions below refuse;
/// throws Error naming the option and what is allowed.
FormatSpec parse_spec(std::string_view text);
/// Parses a comma-separated list of specs; a comma followed by something that is not a format id continues the
/// parameters of the spec before it (`nf4:block=128,dq,int8` is two specs).
std::vector<FormatSpec> parse_specs(std::string_view text);

/// Shorthand for format(spec.id).effective / .bind.
FormatSpec effective_spec(const FormatSpec& spec, const TensorShape& shape);
std::unique_ptr<TensorCodec> bind_codec(const FormatSpec& spec, const TensorShape& shape,
                                        const float* importance = nullptr);

} // namespace qs
