#include "core/export/gguf_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include <nlohmann/json.hpp>

#include "core/analysis/importance.h"
#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/export/stored_types.h"
#include "core/formats/recipe.h"
#include "core/formats/registry.h"
#include "core/memory/architectures.h"

namespace qs {

namespace {

/// llama.h's numbers of file types: by a recipe's name, or by a format where all matrices have the same.
struct FileType {
    std::string_view name;
    std::uint32_t number;
};
constexpr std::array file_types = {
    FileType{"fp32", 0},        FileType{"fp16", 1},       FileType{"Q4_0", 2},        FileType{"Q4_1", 3},
    FileType{"Q8_0", 7},        FileType{"Q5_0", 8},       FileType{"Q5_1", 9},        FileType{"Q2_K", 10},
    FileType{"Q3_K_S", 11},     FileType{"q3_K", 11},      FileType{"Q3_K_M", 12},     FileType{"Q3_K_L", 13},
    FileType{"Q4_K_S", 14},     FileType{"q4_K", 14},      FileType{"Q4_K_M", 15},     FileType{"Q5_K_S", 16},
    FileType{"q5_K", 16},       FileType{"Q5_K_M", 17},    FileType{"Q6_K", 18},       FileType{"IQ2_XXS", 19},
    FileType{"IQ2_XS", 20},     FileType{"Q2_K_S", 21},    FileType{"IQ3_XS", 22},     FileType{"IQ3_XXS", 23},
    FileType{"IQ1_S", 24},      FileType{"IQ4_NL", 25},    FileType{"IQ3_S", 26},      FileType{"IQ3_M", 27},
    FileType{"iq2_s", 29},      FileType{"IQ2_S", 28},     FileType{"IQ2_M", 29},      FileType{"IQ4_XS", 30},
    FileType{"IQ1_M", 31},      FileType{"bf16", 32},      FileType{"TQ1_0", 36},      FileType{"TQ2_0", 37},
    FileType{"mxfp4_ggml", 38}, FileType{"MXFP4_MOE", 38}, FileType{"nvfp4_ggml", 39}, FileType{"Q1_0", 40},
    FileType{"Q2_0", 41},
};

std::uint32_t file_type_of(const FormatSpec& spec) {
    const Recipe* recipe = recipe_of(spec);
    const std::string_view name = recipe == nullptr ? std::string_view(spec.id) : recipe->name();
    const auto exact = std::ranges::find(file_types, name, &FileType::name);
    const auto found = exact != file_types.end()
                           ? exact
                           : std::ranges::find_if(file_types, [&](auto& type) { return same_word(type.name, name); });
    if (found == file_types.end())
        throw Error("format " + spec.text(), "has no number among llama.cpp's file types");
    return found->number;
}

/// The number in "blk.3.attn_q.weight"; -1 outside the layers.
int layer_of(std::string_view name) {
    constexpr std::string_view list = "blk.";
    int layer = -1;
    if (name.starts_with(list))
        std::from_chars(name.data() + list.size(), name.data() + name.size(), layer);
    return layer;
}

/// Layer, then name: the order in which llama-quantize writes.
void sort_as_llama_quantize(std::vector<PlannedTensor>& tensors) {
    std::ranges::sort(tensors, {}, [](const PlannedTensor& tensor) {
        return std::pair(layer_of(tensor.name), std::string_view(tensor.name));
    });
}

// --- formats -----------------------------------------------------------------------------------------------------

void check_format(const FormatSpec& spec) {
    if (recipe_of(spec) == nullptr && !gguf_type_of(spec))
        throw Error("format " + spec.text(), "is not one that GGUF files hold",
                    "use one of ggml's, fp32, fp16, bf16, or a recipe");
}

std::string tensors_text(std::size_t count) {
    return count == 1 ? "1 tensor" : fmt::format("{} tensors", count);
}

class FormatChooser {
public:
    FormatChooser(const Checkpoint& checkpoint, const GgufRequest& request)
        : checkpoint_(checkpoint), request_(request), view_(recipe_view(checkpoint)),
          gguf_(checkpoint.container.starts_with("GGUF")) {
        check_format(request.format);
        for (const TensorTypeRule& rule : request.overrides)
            check_format(rule.format);
        const Recipe* recipe = recipe_of(request.format);
        if (recipe == nullptr)
            return;
        const bool importance = request.imatrix != nullptr;
        for (const RecipeChoice& choice : choose(*recipe, view_.model, importance || recipe->needs_importance))
            choices_.push_back(spec_of(*recipe, choice));
        if (recipe->needs_importance && !importance)
            notes_.push_back(fmt::format("llama-quantize makes {} with an importance matrix only, which loses less",
                                         recipe->name()));
    }

    void choose_for(PlannedTensor& tensor) {
        const std::optional<FormatSpec> wanted = wanted_format(tensor);
        if (request_.imatrix != nullptr && wanted)
            give_importance(tensor);
        tensor.format = wanted ? std::optional(fitting_format(*wanted, tensor)) : std::nullopt;
        if (!tensor.format) {
            const TensorInfo& stored = checkpoint_.tensors[*tensor.source];
            if (stored.dtype == DType::unsupported)
                throw Error(checkpoint_.path.string() + ": tensor " + stored.name,
                            "is of the type " + stored.dtype_name + ", which is not read");
            tensor.type = stored.dtype;
            return;
        }
        tensor.type = *gguf_type_of(*tensor.format);
        note_requantized(tensor);
    }

    std::vector<std::string> notes() const {
        std::vector<std::string> notes = notes_;
        for (const auto& [change, count] : fallbacks_)
            notes.push_back(fmt::format("{}, whose rows the blocks of {} do not divide, became {}", tensors_text(count),
                                        change.first, change.second));
        if (requantized_ > 0)
            notes.push_back(fmt::format("{} were quantized already and are quantized again, which adds the errors of "
                                        "both: quantize the original where there is one",
                                        tensors_text(requantized_)));
        if (dequantized_ > 0)
            notes.push_back(
                fmt::format("{} were quantized already: what that lost stays lost", tensors_text(dequantized_)));
        return notes;
    }

private:
    /// Before the shape is looked at; none for what stays as it is stored.
    std::optional<FormatSpec> wanted_format(const PlannedTensor& tensor) const {
        static const FormatSpec plain = parse_spec("fp32");
        const std::optional<FormatSpec> kept = gguf_ ? std::nullopt : std::optional(plain);
        const auto place = tensor.source ? view_.places[*tensor.source] : std::nullopt;
        if (!place || !view_.model.tensors[*place].kept.empty())
            return tensor.source ? kept : plain;
        const std::string& own_name = checkpoint_.tensors[*tensor.source].name;
        for (const TensorTypeRule& rule : request_.overrides)
            if (rule.matches(tensor.name) || (!gguf_ && rule.matches(own_name)))
                return rule.format;
        return choices_.empty() ? request_.format : choices_[*place];
    }

    void give_importance(PlannedTensor& tensor) const {
        const TensorImportance importance = importance_in_gguf(*request_.imatrix, tensor.info());
        tensor.importance = importance.values.empty() ? nullptr : importance.values.data();
        tensor.matrices = importance.matrices;
    }

    FormatSpec fitting_format(const FormatSpec& wanted, const PlannedTensor& tensor) {
        FormatSpec format = effective_spec(wanted, tensor.matrix());
        if (format != wanted)
            ++fallbacks_[{wanted.text(), format.text()}];
        if (tensor.importance != nullptr || !needs_importance(format, tensor.matrix()))
            return format;
        return without_importance(format, tensor);
    }

    /// Importance matrices have no entry for the token embedding, and may have none for the head: they get what the
    /// mixture of the format's name gives them.
    FormatSpec without_importance(const FormatSpec& format, const PlannedTensor& tensor) {
        const auto place = *view_.places[*tensor.source];
        const ModelPart part = view_.model.tensors[place].part;
        const auto mixture = std::ranges::find(recipes(), format.id, &Recipe::type);
        if ((part != ModelPart::token_embedding && part != ModelPart::head) || mixture == recipes().end())
            throw Error("tensor " + tensor.name,
                        fmt::format("{} needs importances, of which there are none for it", format.text()),
                        "give an importance matrix of this model, or choose another format");
        const std::vector<RecipeChoice> choices = choose(*mixture, view_.model, true);
        const FormatSpec instead = effective_spec(spec_of(*mixture, choices[place]), tensor.matrix());
        notes_.push_back(fmt::format("{} is {}: there are no importances for it, which {} needs", tensor.name,
                                     instead.text(), format.text()));
        return instead;
    }

    /// What has the type already is copied.
    void note_requantized(PlannedTensor& tensor) {
        if (!tensor.source)
            return;
        const DType stored = checkpoint_.tensors[*tensor.source].dtype;
        const bool as_it_is = tensor.interleaved_heads == 0 && !tensor.transposed && tensor.offset == 0 &&
                              !(request_.replacement && tensor.linear);
        if (as_it_is && stored == tensor.type)
            tensor.format.reset();
        else if (block_layout(stored).elements > 1)
            ++(block_layout(tensor.type).elements > 1 ? requantized_ : dequantized_);
    }

    const Checkpoint& checkpoint_;
    const GgufRequest& request_;
    RecipeView view_;
    bool gguf_;
    std::vector<FormatSpec> choices_; ///< of a recipe, by place in the view
    std::map<std::pair<std::string, std::string>, std::size_t> fallbacks_;
    std::vector<std::string> notes_;
    std::size_t requantized_ = 0, dequantized_ = 0;
};

// --- Hugging Face ------------------------------------------------------------------------------------------------

void refuse_unknown_architecture(const Checkpoint& checkpoint) {
    const std::string file = checkpoint.path.string();
    if (checkpoint.config == nullptr || checkpoint.config->empty())
        throw Error(file, "has no config.json beside it, so that its architecture and dimensions are not known",
                    "put the model's config.json and tokenizer into the folder");
    const nlohmann::json& config = decoder_config(*checkpoint.config);
    const auto found = config.find("model_type");
    const std::string type = found != config.end() && found->is_string() ? found->get<std::string>() : std::string();
    const ArchitectureTraits* traits = find_architecture(type);
    if (traits == nullptr || !traits->runs)
        throw Error(file,
                    type.empty() ? "says no model_type in its config.json"
                                 : "is of the architecture '" + type + "', which is not converted to GGUF here",
                    "convert it with llama.cpp's convert_hf_to_gguf.py, and quantize the GGUF file");
}

PlannedTensor planned(const ConvertedTensor& converted, const Checkpoint& checkpoint, const DecoderConfig& config,
                      bool interleave) {
    const TensorInfo& tensor = checkpoint.tensors[converted.tensor];
    PlannedTensor result;
    result.name = converted.name;
    result.shape = tensor.shape;
    result.source = converted.tensor;
    result.transposed = tensor.transposed;
    if (tensor.transposed)
        std::swap(result.shape[0], result.shape[1]);
    if (interleave && converted.of_qk)
        result.interleaved_heads = config.head_dim;
    if (converted.norm_weight)
        result.offset = static_cast<float>(config.norm_offset);
    result.linear = converted.linear;
    return result;
}

void note_left_out(GgufPlan& plan, const Checkpoint& checkpoint) {
    std::vector<bool> taken(checkpoint.tensors.size());
    for (const PlannedTensor& tensor : plan.tensors)
        if (tensor.source)
            taken[*tensor.source] = true;
    std::size_t towers = 0;
    std::string others;
    for (std::size_t i = 0; i < taken.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        if (taken[i] || !is_parameter(tensor) || tensor.name.ends_with(".attn.bias")) // GPT-2's mask
            continue;
        if (in_other_tower(tensor.name))
            ++towers;
        else
            others += (others.empty() ? "" : ", ") + tensor.name;
    }
    if (towers > 0)
        plan.notes.push_back(fmt::format("{} tensors of the vision or audio part are left out: llama.cpp stores them "
                                         "in a file of their own",
                                         towers));
    if (!others.empty())
        plan.notes.push_back("left out, since llama.cpp's architecture has no place for it: " + others);
}

} // namespace

TensorShape PlannedTensor::matrix() const {
    TensorShape result{1, shape.empty() ? 1 : static_cast<std::uint64_t>(shape.back()), matrices};
    for (std::size_t i = 0; i + 1 < shape.size(); ++i)
        result.rows *= static_cast<std::uint64_t>(shape[i]);
    return result;
}

TensorInfo PlannedTensor::info() const {
    TensorInfo info;
    info.name = name;
    info.shape = shape;
    info.role = name == "token_embd.weight" ? Role::token_embedding : Role::other;
    return info;
}

GgufPlan plan_of_gguf(const std::shared_ptr<const Checkpoint>& checkpoint, bool with_linears) {
    GgufPlan plan;
    plan.header = GgufHeader(checkpoint->config->value("general.alignment", gguf_alignment));
    for (GgufEntry& entry : gguf_entries(*checkpoint))
        if (!entry.key.starts_with("split."))
            plan.header.set(std::move(entry));
    for (std::size_t i = 0; i < checkpoint->tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint->tensors[i];
        PlannedTensor planned;
        planned.name = tensor.name;
        planned.shape = tensor.shape;
        planned.source = i;
        plan.tensors.push_back(std::move(planned));
    }
    if (with_linears) {
        const DecoderConfig config = read_decoder_config(*checkpoint);
        for (LinearTensor& linear : WeightReader(checkpoint, config).linears()) {
            plan.tensors[linear.tensor].interleaved_heads =
                config.interleaved_qk && is_qk(linear.role) ? config.head_dim : 0;
            const std::size_t index = linear.tensor;
            plan.tensors[index].linear = std::move(linear);
        }
    }
    sort_as_llama_quantize(plan.tensors);
    return plan;
}

GgufPlan plan_of_hugging_face(const std::shared_ptr<const Checkpoint>& checkpoint) {
    refuse_unknown_architecture(*checkpoint);
    const DecoderConfig config = read_decoder_config(*checkpoint);
    GgufPlan plan;
    add_model_metadata(plan, *checkpoint, config);
    add_tokenizer_metadata(plan, *checkpoint, config.vocabulary);
    const bool interleave = interleaves_qk(find_architecture(config.family)->gguf_name());
    for (const ConvertedTensor& tensor : WeightReader(checkpoint, config).converted())
        plan.tensors.push_back(planned(tensor, *checkpoint, config, interleave));
    note_left_out(plan, *checkpoint);
    sort_as_llama_quantize(plan.tensors);
    return plan;
}

void choose_formats(GgufPlan& plan, const Checkpoint& checkpoint, const GgufRequest& request) {
    FormatChooser chooser(checkpoint, request);
    for (PlannedTensor& tensor : plan.tensors)
        chooser.choose_for(tensor);
    for (std::string& note : chooser.notes())
        plan.notes.push_back(std::move(note));
    plan.header.set("general.quantization_version", std::uint32_t{2});
    plan.header.set("general.file_type", file_type_of(request.format));
    if (request.imatrix != nullptr) {
        plan.header.set("quantize.imatrix.file", request.imatrix->path.filename().string());
        plan.header.set("quantize.imatrix.entries_count", static_cast<std::uint32_t>(request.imatrix->entries.size()));
    }
}

} // namespace qs
