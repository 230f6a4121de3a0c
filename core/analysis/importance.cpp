#include "core/analysis/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

using namespace std::string_view_literals;

// --- names -------------------------------------------------------------------------------------------------------

struct NameRule {
    std::string_view piece; ///< of Hugging Face's name
    std::string_view gguf;
};

/// DeepSeek's latent attention, of which recipes have no rule.
constexpr std::array latent_attention = {NameRule{".q_a_proj.", "attn_q_a"}, NameRule{".q_b_proj.", "attn_q_b"},
                                         NameRule{".kv_a_proj_with_mqa.", "attn_kv_a_mqa"},
                                         NameRule{".kv_b_proj.", "attn_kv_b"}};

/// Layers beside those of the decoder; llama.cpp numbers them otherwise.
constexpr std::array other_stacks = {"mtp."sv, "encoder.block."sv, "decoder.block."sv, "encoder.layers."sv};

/// Names of a matrix outside the experts, in the order in which they are looked for. The parts of a fused matrix have
/// the same inputs, so the importances of any of them are its own.
std::vector<std::string_view> matrix_names(const TensorInfo& tensor) {
    const auto latent =
        std::ranges::find_if(latent_attention, [&](const NameRule& rule) { return contains(tensor.name, rule.piece); });
    if (latent != latent_attention.end())
        return {latent->gguf};
    switch (converted_part(tensor)) {
    case ModelPart::attention_q:
        return {"attn_q"};
    case ModelPart::attention_k:
        return {"attn_k"};
    case ModelPart::attention_v:
        return tensor.role == Role::attention_v ? std::vector{"attn_v"sv} : std::vector{"attn_qkv"sv, "attn_q"sv};
    case ModelPart::attention_output:
        return {"attn_output"};
    case ModelPart::ffn_gate:
        return {"ffn_gate"};
    case ModelPart::ffn_up:
        return {"ffn_up"};
    case ModelPart::ffn_down:
        return {"ffn_down"};
    default:
        return {};
    }
}

std::vector<std::string_view> expert_names(const TensorInfo& tensor) {
    switch (converted_part(tensor)) {
    case ModelPart::ffn_gate:
        return {"ffn_gate_exps", "ffn_gate_up_exps"};
    case ModelPart::ffn_up:
        return {"ffn_up_exps", "ffn_gate_up_exps"};
    case ModelPart::ffn_down:
        return {"ffn_down_exps"};
    default:
        return {};
    }
}

/// Names that llama.cpp may give a tensor of a Hugging Face checkpoint; none where it is not known.
std::vector<std::string> converted_names(const TensorInfo& tensor) {
    if (tensor.role == Role::token_embedding && !tensor.layer)
        return {"token_embd.weight"};
    if (tensor.role == Role::lm_head)
        return {"output.weight"};
    const auto in_name = [&](std::string_view stack) { return contains(tensor.name, stack); };
    if (!tensor.layer || std::ranges::any_of(other_stacks, in_name))
        return {};
    const bool shared = contains(tensor.name, "shared_expert");
    std::vector<std::string> names;
    for (const auto module : tensor.role == Role::moe_expert ? expert_names(tensor) : matrix_names(tensor))
        names.push_back(fmt::format("blk.{}.{}{}.weight", *tensor.layer, module, shared ? "_shexp" : ""));
    return names;
}

// --- sizes -------------------------------------------------------------------------------------------------------

/// Matrices of the last two dimensions.
std::uint64_t matrices_of(const TensorInfo& tensor) {
    std::uint64_t matrices = 1;
    for (std::size_t i = 0; i + 2 < tensor.shape.size(); ++i)
        matrices *= static_cast<std::uint64_t>(tensor.shape[i]);
    return matrices;
}

std::string size_text(const std::string& name, std::size_t values, const TensorInfo& tensor) {
    return fmt::format("its entry {} has {} values, which do not fit {} columns{}", name, values, tensor.columns(),
                       tensor.expert ? fmt::format(" of each expert, of which this is number {}", *tensor.expert)
                                     : fmt::format(" of {} matrices", matrices_of(tensor)));
}

/// The values of the entry that are the tensor's; none where its size is another.
std::span<const float> fitting_values(const std::vector<float>& entry, const TensorInfo& tensor) {
    const std::uint64_t columns = tensor.columns();
    if (!tensor.expert)
        return entry.size() == columns * matrices_of(tensor) ? std::span(entry) : std::span<const float>();
    const auto expert = static_cast<std::uint64_t>(*tensor.expert);
    if (columns == 0 || entry.size() % columns != 0 || expert >= entry.size() / columns)
        return {};
    return std::span(entry).subspan(expert * columns, columns);
}

/// Whether rows and columns of a matrix may stand the other way round than llama.cpp has them. Hugging Face's stacked
/// experts do in some architectures; where they are square, nothing tells.
bool may_be_transposed(const TensorInfo& tensor) {
    const auto& shape = tensor.shape;
    return tensor.transposed || (tensor.role == Role::moe_expert && shape.size() == 3 && shape[1] == shape[2]);
}

/// What llama-quantize, too, does without where the size is another; and stacked experts whose columns are outputs.
bool may_differ(const TensorInfo& tensor, bool gguf) {
    return tensor.role == Role::token_embedding || (!gguf && tensor.shape.size() == 3);
}

TensorImportance without(std::string reason) {
    TensorImportance importance;
    importance.missing = std::move(reason);
    return importance;
}

} // namespace

void TensorImportance::give_to(TensorView& view) const {
    view.importance = values.empty() ? nullptr : values.data();
    view.shape.matrices = matrices;
}

namespace {

bool is_gguf(const Checkpoint& checkpoint) {
    return checkpoint.container.starts_with("GGUF");
}

} // namespace

std::string importance_name(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    if (is_gguf(checkpoint))
        return tensor.name;
    const std::vector<std::string> names = converted_names(tensor);
    return names.empty() ? std::string() : names.front();
}

namespace {

/// The first entry of these names, fitted to the tensor.
TensorImportance importance_under(const std::vector<std::string>& names, const ImportanceMatrix& imatrix,
                                  const TensorInfo& tensor, bool gguf) {
    const auto name = std::ranges::find_if(names, [&](const auto& known) { return imatrix.find(known) != nullptr; });
    if (name == names.end())
        return without("the importance matrix has no entry " + names.front());
    if (!gguf && may_be_transposed(tensor))
        return without("its columns may be outputs, which importances are not of");
    const std::vector<float>& entry = *imatrix.find(*name);
    const std::span<const float> values = fitting_values(entry, tensor);
    if (!values.empty())
        return {values, tensor.expert ? 1 : matrices_of(tensor), {}};
    if (may_differ(tensor, gguf))
        return without(size_text(*name, entry.size(), tensor));
    throw Error(imatrix.path.string() + ": tensor " + tensor.name, size_text(*name, entry.size(), tensor),
                "give the importance matrix of this model");
}

} // namespace

TensorImportance importance_in_gguf(const ImportanceMatrix& imatrix, const TensorInfo& tensor) {
    return importance_under({tensor.name}, imatrix, tensor, true);
}

TensorImportance importance_of(const ImportanceMatrix& imatrix, const Checkpoint& checkpoint,
                               const TensorInfo& tensor) {
    if (is_gguf(checkpoint))
        return importance_in_gguf(imatrix, tensor);
    const std::vector<std::string> names = converted_names(tensor);
    if (names.empty())
        return without("llama.cpp's name of the tensor, under which importances would stand, is not known");
    return importance_under(names, imatrix, tensor, false);
}

bool needs_importance(const FormatSpec& spec, const TensorShape& shape) {
    return format(effective_spec(spec, shape).id).importance == Importance::required;
}

} // namespace qs
