#include "core/formats/registry.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/formats/recipe.h"
#include "core/formats/scoped_codec.h"

namespace qs {

namespace {

using Kind = FormatParameter::Kind;

constexpr const char* ml_dtypes = "ml_dtypes 0.5.3 and CUDA 13.0 conversions";
constexpr const char* bitsandbytes = "bitsandbytes 95f9af30 (CUDA kernels, IEEE division)";
constexpr const char* ggml = "ggml d99724f2 (ggml_quantize_chunk)";
constexpr const char* microxcaling = "microxcaling 7bc41952 (round half to even)";

// --- block sizes -----------------------------------------------------------------------------------------------

std::size_t block_none(const FormatSpec&) {
    return 1;
}
std::size_t block_row(const FormatSpec&) {
    return 0;
}
template <std::size_t weights>
std::size_t block_of(const FormatSpec&) {
    return weights;
}
std::size_t block_parameter(const FormatSpec& spec) {
    return static_cast<std::size_t>(spec.integer("block"));
}
std::size_t block_int(const FormatSpec& spec) {
    return spec.choice("scope") == "group" ? static_cast<std::size_t>(spec.integer("group")) : 0;
}

// --- shapes ----------------------------------------------------------------------------------------------------

FormatSpec as_asked(const FormatSpec& spec, const TensorShape&) {
    return spec;
}

/// What llama.cpp stores instead where the block of a ggml type does not divide the row (its src/llama-quant.cpp,
/// tensor_type_fallback); fp16 is the last resort.
FormatSpec ggml_fallback(const FormatSpec& spec, const TensorShape& shape) {
    static const std::map<std::string, std::string> instead{
        {"q2_K", "q4_0"},     {"q3_K", "q4_0"},    {"q4_K", "q5_0"},      {"q5_K", "q5_1"},
        {"q6_K", "q8_0"},     {"tq1_0", "q4_0"},   {"tq2_0", "q4_0"},     {"q2_0", "q4_0"},
        {"iq4_xs", "iq4_nl"}, {"iq1_s", "iq4_nl"}, {"iq1_m", "iq4_nl"},   {"iq2_xxs", "iq4_nl"},
        {"iq2_xs", "iq4_nl"}, {"iq2_s", "iq4_nl"}, {"iq3_xxs", "iq4_nl"}, {"iq3_s", "iq4_nl"}};
    FormatSpec fitting = spec;
    while (fitting.id != "fp16" && shape.columns % format(fitting.id).block(fitting) != 0) {
        const auto next = instead.find(fitting.id);
        fitting = parse_spec(next == instead.end() ? "fp16" : next->second);
    }
    return fitting;
}

/// A matrix as language models have them: what menus and tables give bits per weight for.
constexpr TensorShape nominal_shape{4096, 4096};

double nominal_bits(const FormatSpec& spec) {
    return bind_codec(spec, nominal_shape)->stored_bits() / static_cast<double>(nominal_shape.count());
}

// --- parameters ------------------------------------------------------------------------------------------------

FormatParameter choice(std::string name, std::string value, std::vector<std::string> choices, std::string help) {
    return {std::move(name), Kind::choice, std::move(value), std::move(choices), 0, 0, std::move(help)};
}

FormatParameter flag(std::string name, std::string help) {
    return {std::move(name), Kind::flag, "0", {}, 0, 0, std::move(help)};
}

std::vector<FormatParameter> fp8_parameters() {
    return {choice("scale", "tensor", {"tensor", "channel"},
                   "Whether one scale serves the whole tensor or each output channel (row) has its own.")};
}

std::vector<FormatParameter> int_parameters(const char* scope) {
    return {choice("scope", scope, {"tensor", "channel", "group"},
                   "What shares a scale: the tensor, an output channel (row), or a group of weights along a row."),
            {"group", Kind::integer, "128", {}, 8, 65536, "Weights in a group, where the scope is a group."},
            flag("affine", "Stores a zero point, so that an uneven range uses all codes."),
            choice("scales", "fp16", {"fp16", "fp32"}, "The precision in which scales are stored.")};
}

/// A power of two from `smallest`, 32 or 64, to 4096.
FormatParameter bitsandbytes_block(int smallest, std::string value) {
    FormatParameter block{"block", Kind::integer, std::move(value), {}, 0, 4096, "Weights that share an absmax."};
    block.minimum = smallest;
    for (int size = smallest; size <= 4096; size *= 2)
        block.choices.push_back(std::to_string(size));
    return block;
}

FormatParameter mx_scale_parameter() {
    return choice("scale", "floor", {"floor", "ceil", "even", "rceil"},
                  "How a block's power of two follows from its absmax: the logarithm rounded down (OCP), up, or down "
                  "after rounding absmax as an element; rceil: the least power with which no weight is clipped.");
}

// --- the table -------------------------------------------------------------------------------------------------

Format floating(std::string id, std::string title, std::string source, std::string exact) {
    return {std::move(id),    "float", std::move(title), {},           "none",   std::move(source),
            std::move(exact), "float", block_none,       nominal_bits, as_asked, bind_floating};
}

Format fp8(std::string id, std::string title) {
    return {std::move(id),
            "float",
            std::move(title),
            fp8_parameters(),
            "float32, amax / largest, for the tensor or each row",
            "OCP 8-bit Floating Point Specification 1.0; scaling as in PyTorch and Transformer Engine",
            ml_dtypes,
            "fp8",
            block_row,
            nominal_bits,
            as_asked,
            bind_floating};
}

Format integer(std::string id, std::string title, const char* scope) {
    return {std::move(id),
            "integer",
            std::move(title),
            int_parameters(scope),
            "float16 or float32, amax / (2ⁿ⁻¹ − 1), with a zero point if affine",
            "rounding to nearest as this program defines it",
            "",
            "integer",
            block_int,
            nominal_bits,
            as_asked,
            bind_integer};
}

Format four_bit(std::string id, std::string title, std::string source) {
    return {std::move(id),
            "bitsandbytes",
            std::move(title),
            {bitsandbytes_block(32, "64"),
             flag("dq", "Double quantization: the absmax of the blocks are themselves stored in 8 bits.")},
            "float32 absmax of a block; with double quantization 8 bits and a float32 for each 256 blocks",
            std::move(source),
            bitsandbytes,
            "bitsandbytes",
            block_parameter,
            nominal_bits,
            as_asked,
            bind_bitsandbytes};
}

constexpr const char* ggml_source = "ggml-org/ggml, src/ggml-quants.c";

template <std::size_t block>
Format ggml_packed(std::string id, std::string title, std::string scale, Importance importance) {
    return {std::move(id), "ggml", std::move(title), {},           std::move(scale), ggml_source,
            ggml,          "ggml", block_of<block>,  nominal_bits, ggml_fallback,    bind_ggml_packed,
            importance};
}

Format mx(std::string id, std::string title) {
    return {std::move(id),
            "microscaling",
            std::move(title),
            {mx_scale_parameter()},
            "8-bit exponent (E8M0) of a block",
            "OCP Microscaling Formats (MX) Specification 1.0",
            microxcaling,
            "microscaling",
            block_of<32>,
            nominal_bits,
            as_asked,
            bind_microscaling};
}

std::vector<Format> make_table() {
    std::vector<Format> table{
        floating("fp32", "32-bit IEEE float", "IEEE 754 binary32", "IEEE 754"),
        floating("tf32", "TensorFloat-32: a float32 rounded to a 10-bit mantissa", "NVIDIA Ampere white paper", ""),
        floating("bf16", "bfloat16: the range of float32, 8 bits of precision", "bfloat16, round to nearest even",
                 "ggml d99724f2, ml_dtypes 0.5.3"),
        floating("fp16", "16-bit IEEE float: 11 bits of precision, up to 65504", "IEEE 754 binary16",
                 "ggml d99724f2, numpy"),
        fp8("fp8_e4m3", "8-bit float, 4 exponent and 3 mantissa bits, up to 448"),
        fp8("fp8_e5m2", "8-bit float, 5 exponent and 2 mantissa bits, up to 57344"),
        integer("int8", "8-bit integers", "channel"),
        integer("int4", "4-bit integers", "group"),
        integer("int3", "3-bit integers", "group"),
        integer("int2", "2-bit integers", "group"),
        {"llm_int8",
         "bitsandbytes",
         "LLM.int8(): 8-bit rows, outlier columns kept in float16",
         {{"threshold",
           Kind::real,
           "0",
           {},
           0,
           65504,
           "Columns with a weight of at least this magnitude stay in float16; 0 keeps none."}},
         "float32 absmax of a row",
         "Dettmers et al., LLM.int8() (2022); bitsandbytes int8_vectorwise_quant",
         bitsandbytes,
         "bitsandbytes",
         block_row,
         nominal_bits,
         as_asked,
         bind_integer},
        four_bit("nf4", "4-bit NormalFloat: levels at the quantiles of a normal distribution",
                 "Dettmers et al., QLoRA (2023); bitsandbytes csrc/kernels.cu"),
        four_bit("fp4", "bitsandbytes' 4-bit float (not E2M1)", "bitsandbytes csrc/kernels.cu"),
        {"dynamic8",
         "bitsandbytes",
         "8-bit dynamic blockwise: levels finer towards zero",
         {bitsandbytes_block(64, "4096")},
         "float32 absmax of a block",
         "Dettmers et al., 8-bit Optimizers via Block-wise Quantization (2022); bitsandbytes csrc/kernels.cu",
         bitsandbytes,
         "bitsandbytes",
         block_parameter,
         nominal_bits,
         as_asked,
         bind_bitsandbytes},
        ggml_packed<32>("q4_0", "4-bit blocks of 32, symmetric about the largest weight", "float16 d of a block",
                        Importance::optional),
        ggml_packed<32>("q4_1", "4-bit blocks of 32 over the block's range", "float16 d and m of a block",
                        Importance::optional),
        ggml_packed<32>("q5_0", "5-bit blocks of 32, symmetric about the largest weight", "float16 d of a block",
                        Importance::optional),
        ggml_packed<32>("q5_1", "5-bit blocks of 32 over the block's range", "float16 d and m of a block",
                        Importance::optional),
        ggml_packed<32>("q8_0", "8-bit blocks of 32", "float16 d of a block", Importance::unused),
        ggml_packed<256>("q2_K", "2-bit super-blocks of 256",
                         "4-bit scales and minimums of 16, float16 d and dmin of 256", Importance::optional),
        ggml_packed<256>("q3_K", "3-bit super-blocks of 256", "6-bit scales of 16, float16 d of 256",
                         Importance::optional),
        ggml_packed<256>("q4_K", "4-bit super-blocks of 256",
                         "6-bit scales and minimums of 32, float16 d and dmin of 256", Importance::optional),
        ggml_packed<256>("q5_K", "5-bit super-blocks of 256",
                         "6-bit scales and minimums of 32, float16 d and dmin of 256", Importance::optional),
        ggml_packed<256>("q6_K", "6-bit super-blocks of 256", "8-bit scales of 16, float16 d of 256",
                         Importance::optional),
        ggml_packed<32>("iq4_nl", "4-bit blocks of 32 with uneven levels", "float16 d of a block",
                        Importance::optional),
        ggml_packed<256>("iq4_xs", "4-bit super-blocks of 256 with uneven levels",
                         "6-bit scales of 32, float16 d of 256", Importance::optional),
        ggml_packed<256>("iq1_s", "ternary super-blocks of 256, groups of eight from a codebook of 2048",
                         "3-bit scales of 32, float16 d of 256", Importance::required),
        ggml_packed<256>("iq1_m", "ternary super-blocks of 256, the codebook of iq1_s with finer scales and shifts",
                         "3-bit scales of 16, float16 d of 256", Importance::optional),
        ggml_packed<256>("iq2_xxs", "2-bit super-blocks of 256, groups of eight from a codebook of 256",
                         "4-bit scales of 32, float16 d of 256", Importance::required),
        ggml_packed<256>("iq2_xs", "2-bit super-blocks of 256, groups of eight from a codebook of 512",
                         "4-bit scales of 16, float16 d of 256", Importance::required),
        ggml_packed<256>("iq2_s", "2-bit super-blocks of 256, groups of eight from a codebook of 1024",
                         "4-bit scales of 16, float16 d of 256", Importance::optional),
        ggml_packed<256>("iq3_xxs", "3-bit super-blocks of 256, groups of four from a codebook of 256",
                         "4-bit scales of 32, float16 d of 256", Importance::optional),
        ggml_packed<256>("iq3_s", "3-bit super-blocks of 256, groups of four from a codebook of 512",
                         "4-bit scales of 32, float16 d of 256", Importance::optional),
        ggml_packed<256>("tq1_0", "ternary blocks of 256, five weights a byte", "float16 d of a block",
                         Importance::unused),
        ggml_packed<256>("tq2_0", "ternary blocks of 256, two bits a weight", "float16 d of a block",
                         Importance::unused),
        ggml_packed<128>("q1_0", "signs in blocks of 128", "float16 mean magnitude of a block", Importance::unused),
        ggml_packed<64>("q2_0", "2-bit blocks of 64", "float16 d of a block", Importance::unused),
        ggml_packed<32>("mxfp4_ggml", "MXFP4 as ggml stores and rounds it", "8-bit exponent of a block",
                        Importance::unused),
        ggml_packed<64>("nvfp4_ggml", "NVFP4 as ggml stores and rounds it", "unsigned E4M3 of 16", Importance::unused),
        mx("mxfp8_e4m3", "E4M3 elements in blocks of 32 with a power of two"),
        mx("mxfp8_e5m2", "E5M2 elements in blocks of 32 with a power of two"),
        mx("mxfp6_e3m2", "6-bit float elements, 3 exponent and 2 mantissa bits, in blocks of 32 with a power of two"),
        mx("mxfp6_e2m3", "6-bit float elements, 2 exponent and 3 mantissa bits, in blocks of 32 with a power of two"),
        mx("mxfp4", "4-bit float (E2M1) elements in blocks of 32 with a power of two"),
        mx("mxint8", "8-bit fixed-point elements in blocks of 32 with a power of two"),
        {"nvfp4",
         "microscaling",
         "4-bit float (E2M1) elements in blocks of 16 with an 8-bit float",
         {},
         "E4M3 of a block, float32 of the tensor",
         "NVIDIA ModelOpt, qtensor/nvfp4_tensor.py",
         "NVIDIA ModelOpt a2fbac7b (NVFP4QTensor)",
         "microscaling",
         block_of<16>,
         nominal_bits,
         as_asked,
         bind_microscaling},
    };
    return table;
}

// --- parsing ---------------------------------------------------------------------------------------------------

/// The error for an id that is not in the table; `known` are those that are.
Error not_a_format(const std::string& id, std::vector<std::string> known) {
    const std::string where = "format '" + id + "'";
    if (find_recipe(id) != nullptr)
        return {where, "is a recipe, which chooses a format for each tensor of a model", "use a format"};
    const auto recipe = std::ranges::find(recipes(), id, &Recipe::name);
    const auto format = std::ranges::find_if(known, [&](const std::string& word) { return same_word(word, id); });
    if (recipe != recipes().end() && format != known.end())
        return {where, "is not known",
                "write " + *format + " for the format, " + recipe->id + " for llama-quantize's mixture"};
    for (const Recipe& entry : recipes())
        known.push_back(entry.id);
    return {where, "is not known", did_you_mean(id, known)};
}

} // namespace

std::span<const Format> formats() {
    static const std::vector<Format> table = make_table();
    return table;
}

const Format& format(std::string_view id) {
    std::vector<std::string> known;
    for (const Format& entry : formats()) {
        if (entry.id == id)
            return entry;
        known.push_back(entry.id);
    }
    throw not_a_format(std::string(id), std::move(known));
}

FormatSpec parse_spec(std::string_view text) {
    text = trimmed(text);
    if (const Recipe* recipe = find_recipe(text))
        return {recipe->id, {}};
    const std::size_t colon = std::min(text.find(':'), text.size());
    if (const Recipe* recipe = find_recipe(text.substr(0, colon)))
        throw Error("recipe " + recipe->id, "takes no parameters");
    const Format& entry = format(text.substr(0, colon));
    auto [values, given] = parse_parameters("format " + entry.id, entry.parameters, text.substr(colon));
    FormatSpec spec{entry.id, std::move(values)};
    if (given.contains("group") && !given.contains("scope"))
        spec.parameters["scope"] = "group";
    if (given.contains("group") && spec.choice("scope") != "group")
        throw Error("format " + spec.id, "group has no meaning with scope=" + spec.choice("scope"),
                    "leave one of them out");
    // The size of a group means nothing elsewhere: equal formats must be equal specs.
    if (spec.parameters.contains("scope") && spec.choice("scope") != "group")
        spec.parameters["group"] = std::ranges::find(entry.parameters, "group", &Parameter::name)->default_value;
    return spec;
}

std::vector<FormatSpec> parse_specs(std::string_view text) {
    const auto known = [](const std::string& part) {
        const std::string id = part.substr(0, part.find(':'));
        return find_recipe(part) != nullptr || std::ranges::find(formats(), id, &Format::id) != formats().end();
    };
    std::vector<FormatSpec> parsed;
    for (const std::string& spec : split_specs(text, known))
        if (FormatSpec next = parse_spec(spec); std::find(parsed.begin(), parsed.end(), next) == parsed.end())
            parsed.push_back(std::move(next));
    return parsed;
}

FormatSpec effective_spec(const FormatSpec& spec, const TensorShape& shape) {
    return format(spec.id).effective(spec, shape);
}

std::unique_ptr<TensorCodec> bind_codec(const FormatSpec& spec, const TensorShape& shape, const float* importance) {
    return format(spec.id).bind(spec, shape, importance);
}

} // namespace qs
