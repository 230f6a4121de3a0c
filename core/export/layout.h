#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json_number.h"
#include "core/export/safetensors_file.h"
#include "core/methods/apply.h"
#include "core/model/variant.h"
#include "core/model/weights.h"

namespace qs {

/// How the quantized linear layers of a Hugging Face checkpoint lie in its safetensors, and what its config.json says
/// of them. One a model; see layouts() for the table.
class Layout {
public:
    using Tensors = std::vector<std::pair<std::string, std::vector<std::byte>>>;

    virtual ~Layout() = default;

    /// The tensors that stand in the place of a layer's weight. Throws Error where the matrix has a shape that the
    /// layout cannot store.
    virtual std::vector<SafetensorsEntry> entries(const LinearTensor& tensor) const = 0;
    /// Whether a tensor is known only when all layers are: it is then given by finish().
    virtual bool comes_last(const SafetensorsEntry&) const { return false; }
    /// What entries() announced, of a layer.
    virtual Tensors tensors(const LinearTensor& tensor, const MethodResult& result) = 0;
    virtual Tensors finish() { return {}; }

    /// After finish(): config.json's "quantization_config".
    virtual Json config() const = 0;
    /// The name of a second file with that, which older readers look for; none if empty.
    virtual std::string config_file() const { return {}; }
    /// What a person should know, a sentence each.
    virtual std::vector<std::string> notes() const { return {}; }
};

/// What a layout is made for.
struct LayoutRequest {
    Variant variant;
    std::string float_type; ///< of the tensors that stay: "F16" or "BF16"
};

/// One row of the table of layouts.
struct LayoutEntry {
    std::string id;
    std::string stores;   ///< what it can store, in words
    std::string read_by;  ///< what it was loaded in
    bool half;            ///< tensors that stay are stored in float16, whatever they were
    bool takes_smoothing; ///< AWQ's scales can be folded into its weights
    bool takes_conv1d;    ///< its readers know GPT-2's Conv1D
    bool (*takes)(const Variant&);
    std::unique_ptr<Layout> (*make)(const LayoutRequest&);
};

/// The one table of layouts, in the order in which the first that takes a variant is chosen.
std::span<const LayoutEntry> layouts();
/// The layout of this name, or for "auto" the one that is meant for the variant. Throws Error where it does not take
/// the variant, saying what does.
const LayoutEntry& layout_for(const std::string& id, const Variant& variant);

/// The name of a layer's module: its weight's without ".weight".
std::string module_name(const LinearTensor& tensor);

// The rows of the table.
std::unique_ptr<Layout> make_bitsandbytes_layout(const LayoutRequest& request);
std::unique_ptr<Layout> make_gptq_layout(const LayoutRequest& request);
std::unique_ptr<Layout> make_awq_layout(const LayoutRequest& request);
std::unique_ptr<Layout> make_hqq_layout(const LayoutRequest& request);
std::unique_ptr<Layout> make_compressed_tensors_layout(const LayoutRequest& request);

} // namespace qs
