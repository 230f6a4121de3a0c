#pragma once

#include <array>
#include <concepts>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/matrix.h"

namespace qs {

/// The linear layers that a decoder layer can have.
enum class Slot : std::uint8_t { q, k, v, qkv, o, gate, up, gate_up, down };
inline constexpr std::size_t slot_count = 9;

/// Where the matrix of a linear layer lies and what it is.
struct LinearTensor {
    std::size_t tensor = 0; ///< index into Checkpoint::tensors
    std::string name;       ///< the checkpoint's
    Role role = Role::other;
    int layer = 0;
    Index outputs = 0, inputs = 0;
};

/// What a linear layer makes of its inputs, without the bias, where that is not inputs · weightᵀ.
using LinearProduct = std::function<void(const Matrix& weight, const Matrix& inputs, Matrix& outputs)>;

/// y = x · weightᵀ + bias.
template <class MatrixType, class VectorType>
struct BasicLinear {
    LinearTensor tensor;
    MatrixType weight; ///< [outputs, inputs] in Hugging Face's order of rows, however it is stored
    VectorType bias;   ///< empty for none
    LinearProduct product = {};
};

/// Empty where the layer has no such norm.
template <class VectorType>
struct BasicNorm {
    VectorType weight, bias;
};

/// All weights of one layer as float32.
template <class MatrixType, class VectorType>
struct BasicLayer {
    using Linear = BasicLinear<MatrixType, VectorType>;
    using Norm = BasicNorm<VectorType>;

    int layer = 0;
    std::array<std::optional<Linear>, slot_count> linears; ///< by Slot
    Norm attention_norm, attention_output_norm, mlp_norm, mlp_output_norm;
    Norm q_norm, k_norm; ///< of one head

    const std::optional<Linear>& operator[](Slot slot) const { return linears[static_cast<std::size_t>(slot)]; }
    std::optional<Linear>& operator[](Slot slot) { return linears[static_cast<std::size_t>(slot)]; }
};

/// The members of a layer that are norms.
template <class MatrixType, class VectorType>
constexpr auto norms_of(const BasicLayer<MatrixType, VectorType>&) {
    using Layer = BasicLayer<MatrixType, VectorType>;
    return std::array{&Layer::attention_norm, &Layer::attention_output_norm,
                      &Layer::mlp_norm,       &Layer::mlp_output_norm,
                      &Layer::q_norm,         &Layer::k_norm};
}

/// In the host's memory.
using Linear = BasicLinear<Matrix, RowVector>;
using Norm = BasicNorm<RowVector>;
using LayerWeights = BasicLayer<Matrix, RowVector>;

/// Makes `to` a copy of a layer but for its matrices, whose memory is kept for others.
void copy_without_matrices(const LayerWeights& from, LayerWeights& to);

/// A row of the table of norms' names (weights.cpp).
struct NormName;

/// Replaces a matrix after it has been loaded, for example by what a format makes of it; and, where the inputs of
/// layers are rounded too, says what a linear layer computes with it.
class WeightHook {
public:
    WeightHook() = default;
    template <class Replace>
    requires(!std::same_as<std::remove_cvref_t<Replace>, WeightHook> &&
             std::invocable<Replace&, const LinearTensor&, Matrix&>) WeightHook(Replace&& replace)
        : replace_(std::forward<Replace>(replace)) {} // NOLINT: as implicit as a function is

    explicit operator bool() const { return static_cast<bool>(replace_); }
    void operator()(const LinearTensor& tensor, Matrix& weight) const { replace_(tensor, weight); }

    /// Linear::product of a layer; null where all have none.
    std::function<LinearProduct(const LinearTensor&)> product;

private:
    std::function<void(const LinearTensor&, Matrix& weight)> replace_;
};

/// A tensor of a Hugging Face checkpoint as llama.cpp's converter writes it.
struct ConvertedTensor {
    std::size_t tensor = 0;             ///< index into Checkpoint::tensors
    std::string name;                   ///< llama.cpp's
    std::optional<LinearTensor> linear; ///< where it is the weight of a linear layer of a decoder layer
    bool of_qk = false;                 ///< its rows are those of q or k
    bool norm_weight = false;           ///< DecoderConfig::norm_offset is added to it
};

/// Whether rows of a matrix of this role can be interleaved.
bool is_qk(Role role);
/// The row, of heads of `head_dim`, in which DecoderConfig::interleaved_qk stores one of Hugging Face's order.
Index interleaved_row(Index row, Index head_dim);
/// The other way round.
Index row_before_interleaving(Index row, Index head_dim);

/// Reads the weights of a decoder out of a checkpoint: Hugging Face's names or llama.cpp's, every type that
/// load_weights() reads. Nothing is kept: what was read of a file is released.
class WeightReader {
public:
    /// Throws Error where the layers hold a tensor that the forward pass would not use.
    WeightReader(std::shared_ptr<const Checkpoint> checkpoint, DecoderConfig config);

    const Checkpoint& checkpoint() const { return *checkpoint_; }
    const std::shared_ptr<const Checkpoint>& shared_checkpoint() const { return checkpoint_; }
    const DecoderConfig& config() const { return config_; }

    /// The linear layers of all layers, in the order in which they are used.
    std::vector<LinearTensor> linears() const;
    LayerWeights layer(int index, const WeightHook& hook = {}) const;

    /// Matrices outside the layers. The head of a tied model is its embedding.
    LinearTensor embedding() const;
    LinearTensor head() const;
    /// A matrix, [outputs, inputs] in Hugging Face's order of rows.
    Matrix load(const LinearTensor& tensor) const;
    /// Rows of a matrix, one for each number; numbers must be in range.
    Matrix load_rows(const LinearTensor& tensor, std::span<const int> rows) const;
    /// Rows [0, count) of the learned positions. Throws Error where there are fewer.
    Matrix positions(Index count) const;
    Norm output_norm() const;
    /// The name of a layer's norm without ".weight"; empty where it has none.
    std::string norm_name(int layer, Norm LayerWeights::*norm) const;

    /// The tensors of a Hugging Face model under llama.cpp's names, of a tied model without a head.
    std::vector<ConvertedTensor> converted() const;

private:
    std::string layer_name(int layer, std::string_view module) const;
    std::string module_of(Slot slot) const;
    std::optional<LinearTensor> find_linear(int layer, Slot slot) const;
    LinearTensor outer_matrix(const char* hugging_face, const char* gpt2, const char* gguf) const;
    const TensorInfo& require(const std::string& name) const;
    RowVector vector(const std::string& name, Index size) const;
    RowVector optional_vector(const std::string& name, Index size) const;
    Norm norm(const std::string& stem, Index size) const;
    std::string norm_module(const NormName& names) const;
    Index outputs_of(Slot slot) const;
    Index inputs_of(Slot slot) const;
    Index stored_row(Role role, Index row) const;
    void refuse_unknown_tensors() const;

    std::shared_ptr<const Checkpoint> checkpoint_;
    DecoderConfig config_;
    std::string prefix_; ///< in front of Hugging Face's names: "model.", "transformer.", …
};

} // namespace qs
