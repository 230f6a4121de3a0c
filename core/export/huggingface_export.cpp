#include "core/export/huggingface_export.h"

#include <fmt/format.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/base/atomic_folder.h"
#include "core/base/error.h"
#include "core/export/companions.h"
#include "core/export/float_tensor.h"
#include "core/export/fold_smoothing.h"
#include "core/export/layout.h"
#include "core/model/calibrated_layers.h"

namespace qs {

namespace {

namespace fs = std::filesystem;

// --- the folder ----------------------------------------------------------------------------------------------------

std::uint64_t bytes_in(const fs::path& folder) {
    std::uint64_t bytes = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        bytes += entry.file_size();
    return bytes;
}

void check_source(const Checkpoint& checkpoint, const fs::path& folder) {
    if (checkpoint.container.starts_with("GGUF"))
        throw Error(checkpoint.path.string(),
                    "is a GGUF file, whose tensors are not written under Hugging Face's names",
                    "open the model's safetensors, or write GGUF");
    std::error_code absent;
    if (fs::equivalent(folder_of(checkpoint), folder, absent))
        throw Error(folder.string(), "is where the checkpoint itself lies", "name another folder");
}

/// "torch_dtype" of the config, under the name that it has there.
void set_dtype(Json& config, const std::string& dtype) {
    const char* name = dtype == "F32" ? "float32" : dtype == "F16" ? "float16" : "bfloat16";
    config[config.contains("dtype") ? "dtype" : "torch_dtype"] = name;
    if (const auto text = config.find("text_config"); text != config.end())
        for (const char* key : {"dtype", "torch_dtype"})
            if (text->contains(key))
                (*text)[key] = name;
}

ExportSummary summarise(const Checkpoint& checkpoint, const std::vector<SafetensorsEntry>& entries) {
    ExportSummary summary;
    std::uint64_t bytes = 0;
    for (const SafetensorsEntry& entry : entries)
        bytes += entry.bytes;
    summary.tensors = entries.size();
    summary.bits_per_weight = 8.0 * static_cast<double>(bytes) / static_cast<double>(checkpoint.parameters());
    return summary;
}

SafetensorsEntry as_it_is(const TensorInfo& tensor) {
    return {tensor.name, tensor.dtype_name, tensor.shape, tensor.bytes};
}

std::vector<std::byte> copied(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    const auto bytes = checkpoint.data(tensor);
    return {bytes.begin(), bytes.end()};
}

// --- the model -----------------------------------------------------------------------------------------------------

/// One export on its way through the layers.
class HuggingFaceExport {
public:
    HuggingFaceExport(const Decoder& decoder, const HuggingFaceRequest& request, JobControl& job,
                      const fs::path& folder)
        : decoder_(decoder), checkpoint_(decoder.weights().checkpoint()), request_(request), job_(job),
          variant_(applied(request.variant)), entry_(layout_for(request.layout, request.variant)),
          float_type_(kept_type()), layout_(entry_.make({request.variant, float_type_})),
          folder_(folder, request.overwrite) {
        for (LinearTensor& linear : decoder.weights().linears())
            linears_.emplace(linear.tensor, std::move(linear));
    }

    ExportSummary run() {
        check_matrices();
        std::vector<SafetensorsEntry> entries = plan();
        ExportSummary summary = summarise(checkpoint_, entries);
        writer_.emplace(folder_.path(), std::move(entries), request_.file_bytes);
        job_.set_total(checkpoint_.parameters() +
                       CalibratedLayers::work(decoder_, std::span(&variant_, 1), request_.calibration));
        write_tensors();
        write_config();
        summary.notes = layout_->notes();
        summary.bytes = bytes_in(folder_.path());
        folder_.commit();
        return summary;
    }

private:
    /// LLM.int8()'s codes are those of rounding to nearest, whatever inputs are outliers when it runs.
    static Variant applied(Variant variant) {
        if (variant.method.id == "llm_int8")
            variant.method = parse_method("rtn");
        return variant;
    }

    void check_matrices() const {
        for (const auto& [index, linear] : linears_)
            if (checkpoint_.tensors[index].transposed && !entry_.takes_conv1d)
                throw Error(checkpoint_.path.string() + ": tensor " + linear.name,
                            fmt::format("is a Conv1D, which readers of the layout {} do not know", entry_.id),
                            "choose the layout gptq or bitsandbytes");
    }

    /// The 16-bit type of the tensors that stay: the model's own, where the layout allows it.
    std::string kept_type() const {
        const TensorInfo& embedding = checkpoint_.tensors[decoder_.weights().embedding().tensor];
        return !entry_.half && embedding.dtype == DType::bf16 ? "BF16" : "F16";
    }

    /// The decoder layer that a tensor belongs to; none for what is outside of them.
    std::optional<int> layer_of(const TensorInfo& tensor) const {
        if (!tensor.layer || *tensor.layer >= decoder_.config().layers)
            return std::nullopt;
        return tensor.layer;
    }

    void plan_tensor(std::size_t index, std::vector<SafetensorsEntry>& entries,
                     std::vector<SafetensorsEntry>& last) const {
        const TensorInfo& tensor = checkpoint_.tensors[index];
        if (const auto linear = linears_.find(index); linear != linears_.end()) {
            for (SafetensorsEntry& entry : layout_->entries(linear->second))
                (layout_->comes_last(entry) ? last : entries).push_back(std::move(entry));
            return;
        }
        entries.push_back(is_castable(tensor) ? safetensors_entry(tensor.name, float_type_, tensor.shape)
                                              : as_it_is(tensor));
    }

    /// All tensors in the order in which they come: those outside the layers, then layer after layer.
    std::vector<SafetensorsEntry> plan() const {
        std::vector<SafetensorsEntry> entries, last;
        for (int layer = -1; layer < decoder_.config().layers; ++layer)
            for (std::size_t i = 0; i < checkpoint_.tensors.size(); ++i) {
                const TensorInfo& tensor = checkpoint_.tensors[i];
                if (in_other_tower(tensor.name))
                    throw Error(checkpoint_.path.string() + ": tensor " + tensor.name,
                                "belongs to another part of the model than its text decoder",
                                "save the text model alone, and quantize that");
                if (layer_of(tensor).value_or(-1) == layer)
                    plan_tensor(i, entries, last);
            }
        std::ranges::move(last, std::back_inserter(entries));
        return entries;
    }

    void write_tensors() {
        write_kept(-1, {});
        CalibratedLayers layers(decoder_, {variant_}, request_.calibration, job_);
        LayerWeights made;
        for (int layer = 0; layer < decoder_.config().layers; ++layer) {
            const LayerWeights weights = decoder_.weights().layer(layer);
            layers.begin(weights);
            std::vector<QuantizedLinear> linears;
            layers.quantize(0, made, [&](const LinearTensor& tensor, const MethodResult& result) {
                linears.push_back({tensor, checked(result)});
                job_.advance(static_cast<std::uint64_t>(tensor.outputs * tensor.inputs));
            });
            write_layer(weights, linears);
        }
        put(layout_->finish());
        writer_->finish();
    }

    /// What is stored of a layer. Throws Error where its weights are not finite.
    static MethodResult checked(const MethodResult& result) {
        if (result.weight_error.nonfinite > 0)
            throw Error("", fmt::format("has {} weights that are not finite", result.weight_error.nonfinite),
                        "get the checkpoint again, or train it anew");
        MethodResult kept;
        kept.method = result.method;
        kept.format = result.format;
        kept.stored = result.stored;
        kept.smoothing = result.smoothing;
        return kept;
    }

    void write_layer(const LayerWeights& weights, std::vector<QuantizedLinear>& linears) {
        ChangedTensors changed;
        if (entry_.takes_smoothing)
            changed = fold_smoothing(decoder_, weights, linears);
        for (const QuantizedLinear& linear : linears) {
            job_.check();
            put(layout_->tensors(linear.tensor, linear.result));
        }
        write_kept(weights.layer, changed);
    }

    /// The tensors of a layer, or for −1 those outside the layers, that are not quantized.
    void write_kept(int layer, const ChangedTensors& changed) {
        for (std::size_t i = 0; i < checkpoint_.tensors.size(); ++i) {
            const TensorInfo& tensor = checkpoint_.tensors[i];
            if (linears_.contains(i) || layer_of(tensor).value_or(-1) != layer)
                continue;
            if (const auto values = changed.find(tensor.name); values != changed.end())
                writer_->put(tensor.name, cast_values(checkpoint_, tensor, values->second, float_type_));
            else if (is_castable(tensor))
                writer_->put(tensor.name, cast_tensor(checkpoint_, tensor, float_type_, job_));
            else
                writer_->put(tensor.name, copied(checkpoint_, tensor));
        }
    }

    void put(Layout::Tensors tensors) {
        for (auto& [name, bytes] : tensors)
            writer_->put(name, std::move(bytes));
    }

    void write_config() const {
        Json config = read_ordered_config(checkpoint_);
        set_dtype(config, float_type_);
        config["quantization_config"] = layout_->config();
        write_json(folder_.path() / "config.json", config);
        if (!layout_->config_file().empty())
            write_json(folder_.path() / layout_->config_file(), layout_->config());
        copy_companions(checkpoint_, folder_.path());
    }

    const Decoder& decoder_;
    const Checkpoint& checkpoint_;
    const HuggingFaceRequest& request_;
    JobControl& job_;
    Variant variant_;
    const LayoutEntry& entry_;
    std::string float_type_;
    std::unique_ptr<Layout> layout_;
    std::map<std::size_t, LinearTensor> linears_; ///< by the index of their tensor
    AtomicFolder folder_;
    std::optional<SafetensorsWriter> writer_;
};

std::string cast_type(const Variant& variant) {
    return variant.format.id == "fp32" ? "F32" : variant.format.id == "fp16" ? "F16" : "BF16";
}

ExportSummary write_cast(const Checkpoint& checkpoint, const HuggingFaceRequest& request, JobControl& job,
                         const fs::path& path) {
    const std::string type = cast_type(request.variant);
    AtomicFolder folder(path, request.overwrite);
    std::vector<SafetensorsEntry> entries;
    for (const TensorInfo& tensor : checkpoint.tensors)
        entries.push_back(is_castable(tensor) ? safetensors_entry(tensor.name, type, tensor.shape) : as_it_is(tensor));
    ExportSummary summary = summarise(checkpoint, entries);
    job.set_total(checkpoint.parameters());
    SafetensorsWriter writer(folder.path(), std::move(entries), request.file_bytes);
    for (const TensorInfo& tensor : checkpoint.tensors)
        writer.put(tensor.name,
                   is_castable(tensor) ? cast_tensor(checkpoint, tensor, type, job) : copied(checkpoint, tensor));
    writer.finish();
    if (Json config = read_ordered_config(checkpoint); !config.is_null()) {
        set_dtype(config, type);
        write_json(folder.path() / "config.json", config);
    }
    copy_companions(checkpoint, folder.path());
    summary.bytes = bytes_in(folder.path());
    folder.commit();
    return summary;
}

template <class Work>
ExportSummary on_threads(int threads, const Work& work) {
    tbb::task_arena arena(threads > 0 ? threads : tbb::task_arena::automatic);
    return arena.execute(work);
}

} // namespace

ExportSummary export_huggingface(const Decoder& decoder, const HuggingFaceRequest& request, JobControl& job,
                                 const fs::path& folder) {
    check_source(decoder.weights().checkpoint(), folder);
    return on_threads(request.threads, [&] { return HuggingFaceExport(decoder, request, job, folder).run(); });
}

ExportSummary export_cast(const Checkpoint& checkpoint, const HuggingFaceRequest& request, JobControl& job,
                          const fs::path& folder) {
    check_source(checkpoint, folder);
    return on_threads(request.threads, [&] { return write_cast(checkpoint, request, job, folder); });
}

bool is_cast(const Variant& variant) {
    return variant.rounds_to_nearest() &&
           (variant.format.id == "fp32" || variant.format.id == "fp16" || variant.format.id == "bf16");
}

} // namespace qs
