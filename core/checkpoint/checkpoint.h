#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/base/mapped_file.h"

namespace qs {

/// What a tensor's bytes are. `unsupported` is a type known by name only: listed, never read.
enum class DType : std::uint8_t {
    f64,
    f32,
    f16,
    bf16,
    f8_e4m3,
    f8_e5m2,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    boolean,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_K,
    q3_K,
    q4_K,
    q5_K,
    q6_K,
    iq4_nl,
    iq4_xs,
    tq1_0,
    tq2_0,
    mxfp4,
    nvfp4,
    q1_0,
    q2_0,
    iq1_s,
    iq1_m,
    iq2_xxs,
    iq2_xs,
    iq2_s,
    iq3_xxs,
    iq3_s,
    unsupported
};

/// What a tensor does in a transformer (PRODUCT.md, words).
enum class Role : std::uint8_t {
    token_embedding,
    attention_q,
    attention_k,
    attention_v,
    attention_qkv,
    attention_o,
    mlp_gate,
    mlp_up,
    mlp_gate_up,
    mlp_down,
    norm,
    lm_head,
    moe_router,
    moe_expert,
    position_embedding,
    bias,
    other
};

/// Text form used in JSON and on the screen, e.g. "attention_q".
std::string_view to_string(Role role);
/// Lower-case name, e.g. "bf16", "q4_0".
std::string_view to_string(DType dtype);
/// True for types that hold weights the analysis can read: the floats and the ggml block types.
bool is_weight_type(DType dtype);
/// Elements per block and bytes per block of a type (1 and the size for plain types).
struct BlockLayout {
    std::size_t elements;
    std::size_t bytes;
};
BlockLayout block_layout(DType dtype);

/// One tensor of a checkpoint, as its header describes it. Shape is row-major, slowest dimension first,
/// so a linear layer is [out, in] in every container (but see `transposed`).
struct TensorInfo {
    std::string name;
    DType dtype = DType::unsupported;
    std::string dtype_name;          ///< as the container spells it: "BF16", "Q4_K"
    std::vector<std::int64_t> shape; ///< empty for a scalar
    Role role = Role::other;
    std::optional<int> layer;  ///< decoder layer index
    std::optional<int> expert; ///< expert index inside a MoE layer
    std::size_t bytes = 0;     ///< stored bytes
    std::size_t offset = 0;    ///< from the start of its file
    std::size_t file = 0;      ///< index into Checkpoint::files
    bool byte_swapped = false; ///< stored big endian
    bool transposed = false;   ///< a linear layer stored [in, out]: GPT-2's Conv1D

    std::uint64_t elements() const;
    /// Length of the last dimension (1 for a scalar): the input features of a linear layer.
    std::uint64_t columns() const;
    /// elements() / columns().
    std::uint64_t rows() const;
};

/// An opened checkpoint: headers parsed, files mapped, no weight touched. Immutable, cheap to share.
class Checkpoint {
public:
    std::filesystem::path path;                           ///< what the user opened
    std::string container;                                ///< "safetensors", "GGUF v3", …
    std::string architecture;                             ///< "llama", "gpt2", …; empty if nothing tells
    std::vector<std::shared_ptr<const MappedFile>> files; ///< all parts
    std::vector<TensorInfo> tensors;                      ///< in file order
    /// config.json of a Hugging Face folder, or the GGUF metadata (arrays longer than 64 items are shortened to
    /// {"length": n}). Null if there is none.
    std::shared_ptr<const nlohmann::json> config;
    std::vector<std::string> notes; ///< what a person should know: odd but not wrong

    std::uint64_t parameters() const; ///< sum of elements of all tensors
    std::uint64_t bytes() const;      ///< sum of stored bytes of all tensors
    /// Index of a tensor by its exact name.
    std::optional<std::size_t> find(std::string_view name) const;
    /// The tensor's stored bytes inside its mapped file.
    std::span<const std::byte> data(const TensorInfo& tensor) const;

    /// Builds the table behind find(), as open_checkpoint() does; without it find() searches one by one.
    /// Returns the index of the first tensor whose name an earlier one bears, if any.
    std::optional<std::size_t> index_names();

private:
    std::vector<std::uint32_t> slots_; // open addressing by the hash of the name: 1 + index of the tensor, or 0
    std::size_t indexed_ = 0;          // tensors.size() when the table was built
};

/// Opens a checkpoint: a .safetensors or .gguf file, a model.safetensors.index.json, or a Hugging Face folder.
/// The container is told by content, not by extension. Throws Error naming file, tensor and reason.
std::shared_ptr<const Checkpoint> open_checkpoint(const std::filesystem::path& path);

/// Whether a tensor is a part of the model: masks, counters and tables of numbers are not.
bool is_parameter(const TensorInfo& tensor);
/// True for what belongs to the vision or audio part of a multimodal model, not to the decoder.
bool in_other_tower(std::string_view tensor_name);

/// The part of a config.json that describes the decoder: in a multimodal model an object of its own.
const nlohmann::json& decoder_config(const nlohmann::json& config);
/// A config.json or a file like it, as an object. Throws Error naming the file and what is wrong with it, also if it
/// has more than `most_bytes`.
nlohmann::json read_config(const std::filesystem::path& path, std::size_t most_bytes = 16 << 20);

/// Metadata of a GGUF checkpoint that its `config` shortens: the values of `keys`, arrays in full and strings byte for
/// byte. Reads the header again; absent keys are left out.
nlohmann::json gguf_metadata(const Checkpoint& checkpoint, std::span<const std::string_view> keys);

/// An entry of a GGUF file's metadata in the file's own form, in little endian: the number of the value's type, the
/// value.
struct GgufEntry {
    std::string key;
    std::vector<std::byte> value;
};
/// All metadata of a GGUF checkpoint, of a split file those of the first part.
std::vector<GgufEntry> gguf_entries(const Checkpoint& checkpoint);

} // namespace qs
