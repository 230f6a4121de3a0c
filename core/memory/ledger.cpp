#include "core/memory/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

constexpr double overhead_bytes = 512.0 * 1024 * 1024;
constexpr std::uint64_t tokens_a_step = 2048;
constexpr std::uint64_t most_context = std::uint64_t{1} << 24;

/// 6740000000 → "6,740,000,000".
std::string grouped(double number) {
    const std::string digits = fmt::format("{:.0f}", number);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0)
            text += ',';
        text += digits[i];
    }
    return text;
}

std::string grouped(std::uint64_t number) {
    return grouped(static_cast<double>(number));
}

/// The bits that a format's name promises: its first number.
double name_bits(const std::string& id) {
    const auto digit = std::ranges::find_if(id, [](unsigned char c) { return std::isdigit(c) != 0; });
    return digit == id.end() ? 0 : std::stod(std::string(digit, id.end()));
}

// --- what each weight is stored in -----------------------------------------------------------------------------

/// How one weight matrix is stored: the bits of all copies, and in what.
struct Storage {
    double bits = 0;
    std::string as;    ///< "nf4", "bf16"
    bool kept = false; ///< left by the ecosystem in more bits than the format has
};

Storage plain_storage(const WeightGroup& group, double bits, std::string as) {
    return {bits * static_cast<double>(group.count()), std::move(as), true};
}

Storage in_format(const WeightGroup& group, const FormatSpec& spec) {
    const TensorShape shape{group.rows, group.columns};
    const FormatSpec stored = effective_spec(spec, shape);
    return {bind_codec(stored, shape)->stored_bits() * static_cast<double>(group.copies), stored.text(),
            stored != spec};
}

bool is_embedding(Role role) {
    return role == Role::token_embedding || role == Role::position_embedding;
}

/// llama-quantize stores what serves as the head as Q6_K, or as Q8_0 where no block of 256 divides the row
/// (llama.cpp, src/llama-quant.cpp: llama_tensor_get_type and its fallback).
Storage ggml_head(const WeightGroup& group, const FormatSpec& spec) {
    if (spec.id == "q8_0")
        return in_format(group, spec);
    if (group.columns % 256 != 0)
        return in_format(group, parse_spec("q8_0"));
    return plain_storage(group, 210.0 * 8 / 256, "q6_K");
}

Storage ggml_storage(const WeightGroup& group, const FormatSpec& spec, const MemoryOptions& options, bool tied) {
    if (group.role == Role::moe_router || group.role == Role::position_embedding)
        return plain_storage(group, 32, "fp32");
    const bool head = group.role == Role::lm_head || (tied && group.role == Role::token_embedding);
    const bool chosen = group.role == Role::lm_head ? options.quantize_head : options.quantize_embeddings;
    return head && !chosen ? ggml_head(group, spec) : in_format(group, spec);
}

/// What the ecosystem of the format does with a tensor (registry.h: Format::ecosystem).
Storage storage_of(const WeightGroup& group, const FormatSpec& spec, const MemoryOptions& options, bool tied) {
    const std::string& ecosystem = format(spec.id).ecosystem;
    if (ecosystem == "float")
        return in_format(group, spec);
    if (!group.matrix)
        return ecosystem == "ggml" ? plain_storage(group, 32, "fp32") : plain_storage(group, 16, "bf16");
    if (ecosystem == "ggml")
        return ggml_storage(group, spec, options, tied);
    const bool stays = (is_embedding(group.role) && !options.quantize_embeddings) ||
                       (group.role == Role::lm_head && !options.quantize_head);
    return stays ? plain_storage(group, 16, "bf16") : in_format(group, spec);
}

// --- the weight lines ------------------------------------------------------------------------------------------

/// Weights of one line that are stored alike.
struct Share {
    double count = 0;
    double bits = 0;
};

/// One of the four lines of weights, gathered group by group.
struct WeightLine {
    double bytes = 0;
    double count = 0;
    double kept_bytes = 0;
    double kept_count = 0;
    std::map<std::string, Share> shares; ///< by what they are stored in

    void add(const WeightGroup& group, const Storage& storage) {
        const auto weights = static_cast<double>(group.count());
        bytes += storage.bits / 8;
        count += weights;
        if (storage.kept) {
            kept_bytes += storage.bits / 8;
            kept_count += weights;
        }
        Share& share = shares[storage.as];
        share.count += weights;
        share.bits += storage.bits;
    }

    std::string formula() const {
        std::string text;
        for (const auto& [as, share] : shares)
            text += fmt::format("{}{} × {:.6g} bits ({})", text.empty() ? "" : " + ", grouped(share.count),
                                share.bits / share.count, as);
        return shares.size() > 1 ? "(" + text + ") ÷ 8" : text + " ÷ 8";
    }
};

enum LineIndex { linear, embedding, head, norms, line_count };

LineIndex line_of(const WeightGroup& group) {
    if (!group.matrix)
        return norms;
    if (is_embedding(group.role))
        return embedding;
    return group.role == Role::lm_head ? head : linear;
}

using WeightLines = std::array<WeightLine, line_count>;

/// As llama-quantize stores the tensors, whatever the options say.
WeightLines recipe_lines(const ModelCard& card, const Recipe& recipe) {
    const RecipeModel& model = card.recipe_model;
    if (model.tensors.empty())
        throw Error(card.source, fmt::format("has {} layers, too many for a recipe", card.layers));
    const std::vector<RecipeChoice> choices = choose(recipe, model, recipe.needs_importance);
    WeightLines lines;
    for (std::size_t i = 0; i < choices.size(); ++i) {
        const RecipeTensor& tensor = model.tensors[i];
        const WeightGroup group{tensor.role,   {},         tensor.matrices, tensor.rows, tensor.columns,
                                tensor.matrix, tensor.part};
        Storage storage = in_format(group, spec_of(recipe, choices[i]));
        storage.kept = storage.as != recipe.type;
        lines[line_of(group)].add(group, storage);
    }
    return lines;
}

WeightLines weight_lines(const ModelCard& card, const FormatSpec& spec, const MemoryOptions& options) {
    if (const Recipe* recipe = recipe_of(spec))
        return recipe_lines(card, *recipe);
    WeightLines lines;
    for (const WeightGroup& group : card.weights)
        lines[line_of(group)].add(group, storage_of(group, spec, options, card.tied_embeddings));
    return lines;
}

std::string formula_of(const WeightLine& line, LineIndex index, const ModelCard& card) {
    if (line.count > 0)
        return line.formula();
    return index == head && card.tied_embeddings ? "0: the embedding serves as the head" : "0: the model has none";
}

// --- what grows with the context -------------------------------------------------------------------------------

double cache_bytes_a_value(const std::string& type) {
    static const std::map<std::string, double> table{{"fp32", 4},     {"fp16", 2},         {"bf16", 2},
                                                     {"fp8_e4m3", 1}, {"q8_0", 34.0 / 32}, {"q4_0", 18.0 / 32}};
    const auto found = table.find(type);
    if (found == table.end())
        throw Error("kv cache '" + type + "'", "is not known", "use fp32, fp16, bf16, fp8_e4m3, q8_0 or q4_0");
    return found->second;
}

LedgerLine kv_cache(const ModelCard& card, const MemoryOptions& options) {
    const double a_value = cache_bytes_a_value(options.kv_cache);
    const double a_token = static_cast<double>(card.kv_heads) * (card.head_dim_k + card.head_dim_v) * a_value;
    const int sliding = card.sliding_window > 0 ? card.sliding_layers : 0;
    const auto window = std::min(options.context, static_cast<std::uint64_t>(card.sliding_window));
    const double cells = static_cast<double>(card.layers - sliding) * static_cast<double>(options.context) +
                         static_cast<double>(sliding) * static_cast<double>(window);
    LedgerLine line{"kv cache", cells * a_token * static_cast<double>(options.batch), {}};
    std::string tokens;
    if (sliding < card.layers)
        tokens = fmt::format("{} layers × {} tokens", card.layers - sliding, grouped(options.context));
    if (sliding > 0)
        tokens +=
            fmt::format("{}{} layers × {} tokens of the window", tokens.empty() ? "" : " + ", sliding, grouped(window));
    if (sliding > 0 && sliding < card.layers)
        tokens = "(" + tokens + ")";
    line.formula = fmt::format("{} × {} KV heads × ({} + {}) × {:.6g} bytes × {} sequences", tokens, card.kv_heads,
                               card.head_dim_k, card.head_dim_v, a_value, grouped(options.batch));
    return line;
}

/// The widest moment of a layer over a step of the prefill, in 16 bits: the residual, its norm, and the larger of
/// attention's and the MLP's own values; the logits of the last tokens in float32; without flash attention the scores
/// of every head in float32.
LedgerLine activations(const ModelCard& card, const MemoryOptions& options) {
    const std::uint64_t tokens = std::max(options.batch, std::min(options.batch * options.context, tokens_a_step));
    const double attention = static_cast<double>(card.heads) * (card.head_dim_k + card.head_dim_v) +
                             static_cast<double>(card.kv_heads) * (card.head_dim_k + card.head_dim_v);
    const double mlp = 2.0 * card.intermediate * std::max(1, card.experts_per_token);
    const double widest = std::max(attention, mlp);
    const auto steps = static_cast<double>(tokens), batch = static_cast<double>(options.batch);
    const double logits = batch * card.vocabulary * 4;
    LedgerLine line{"activations", steps * (2.0 * card.hidden + widest) * 2 + logits, {}};
    line.formula = fmt::format("{} tokens a step × (2 × {} hidden + {} of {}) × 2 bytes + {} × {} logits × 4 bytes",
                               grouped(tokens), grouped(static_cast<double>(card.hidden)), grouped(widest),
                               attention > mlp ? "attention" : "the MLP", grouped(options.batch),
                               grouped(static_cast<double>(card.vocabulary)));
    if (!options.flash_attention) {
        const auto context = static_cast<double>(options.context);
        line.bytes += steps * context * card.heads * 4;
        line.formula += fmt::format(" + {} × {} scores × {} heads × 4 bytes", grouped(tokens), grouped(options.context),
                                    card.heads);
    }
    return line;
}

// --- the difference in words -----------------------------------------------------------------------------------

std::string signed_gb(double bytes) {
    return fmt::format("{}{:.3g} GB", bytes < 0 ? "−" : "+", std::abs(bytes) / 1e9);
}

std::string difference_of(const ModelCard& card, const Ledger& ledger, const WeightLines& lines, double bits) {
    double kept_bytes = 0, kept_count = 0, count = 0;
    for (const WeightLine& line : lines) {
        kept_bytes += line.kept_bytes;
        kept_count += line.kept_count;
        count += line.count;
    }
    const double kept = kept_bytes - kept_count * bits / 8;
    const double scales = ledger.weight_bytes - kept_bytes - (count - kept_count) * bits / 8;
    const double named = (count - static_cast<double>(card.parameters)) * bits / 8;
    std::string parts;
    const auto add = [&](double bytes, const std::string& why) {
        if (std::abs(bytes) >= 1)
            parts += fmt::format("{}{} {}", parts.empty() ? "" : "; ", signed_gb(bytes), why);
    };
    add(named, fmt::format("because the model behind the round number has {:.2f} billion weights", count / 1e9));
    add(kept, recipe_of(ledger.spec) == nullptr ? "for what stays in more bits (embeddings, head, norms)"
                                                : "for what the recipe stores in other types");
    add(scales, "for scales, zero points and padding");
    if (parts.empty())
        return "true and naive size of the weights are equal";
    return fmt::format("true weights differ from parameters × {:.0f} bits ÷ 8 by {}: {}", bits,
                       signed_gb(ledger.weight_bytes - ledger.naive_bytes), parts);
}

/// The total for another context; nothing of the weights depends on it.
double total_at(double fixed, const ModelCard& card, MemoryOptions options, std::uint64_t context) {
    options.context = context;
    return fixed + kv_cache(card, options).bytes + activations(card, options).bytes;
}

} // namespace

Ledger inference_ledger(const ModelCard& card, const FormatSpec& spec, const MemoryOptions& options) {
    constexpr std::array names = {"linear weights", "embedding weights", "head weights", "norm weights"};
    const WeightLines weights = weight_lines(card, spec, options);
    Ledger ledger;
    ledger.spec = spec;
    for (std::size_t i = 0; i < line_count; ++i) {
        ledger.lines.push_back({names[i], weights[i].bytes, formula_of(weights[i], static_cast<LineIndex>(i), card)});
        ledger.weight_bytes += weights[i].bytes;
    }
    ledger.lines.push_back(kv_cache(card, options));
    ledger.lines.push_back(activations(card, options));
    ledger.lines.push_back({"runtime overhead", overhead_bytes,
                            "0.5 GiB, an estimate: CUDA context, kernels, workspaces of the matrix library"});
    for (const LedgerLine& line : ledger.lines)
        ledger.total_bytes += line.bytes;
    const double bits = name_bits(spec.id);
    ledger.naive_bytes = static_cast<double>(card.parameters) * bits / 8;
    ledger.difference = difference_of(card, ledger, weights, bits);
    return ledger;
}

Fit fit(const Gpu& gpu, const ModelCard& card, const FormatSpec& spec, const MemoryOptions& options) {
    const Ledger ledger = inference_ledger(card, spec, options);
    const double fixed = ledger.weight_bytes + overhead_bytes;
    const auto fits_at = [&](std::uint64_t context) { return total_at(fixed, card, options, context) <= gpu.bytes; };
    Fit result{&gpu, fits_at(options.context), 0};
    if (!fits_at(1))
        return result;
    std::uint64_t fits = 1, too_long = most_context + 1;
    while (too_long - fits > 1) {
        const std::uint64_t middle = fits + (too_long - fits) / 2;
        (fits_at(middle) ? fits : too_long) = middle;
    }
    result.max_context = fits;
    return result;
}

std::optional<FormatSpec> best_fitting(const Gpu& gpu, const ModelCard& card, const std::vector<FormatSpec>& specs,
                                       const MemoryOptions& options) {
    std::optional<FormatSpec> best;
    double most = 0;
    for (const FormatSpec& spec : specs) {
        const Ledger ledger = inference_ledger(card, spec, options);
        if (ledger.total_bytes <= gpu.bytes && ledger.weight_bytes > most) {
            most = ledger.weight_bytes;
            best = spec;
        }
    }
    return best;
}

} // namespace qs
