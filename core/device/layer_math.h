#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/base/activation.h"
#include "core/device/algebra.h"

namespace qs {

/// Rows [begin, begin + length) of a batch: consecutive tokens of one text, which see each other and no other rows.
struct Sequence {
    std::ptrdiff_t begin = 0, length = 0;
};

/// RMS norm, x / √(mean x² + ε) · weight, or LayerNorm, of groups of `size` values; a row is one group or several.
struct Normalisation {
    bool centred = false; ///< LayerNorm
    double epsilon = 0;
    std::size_t size = 0;
};

/// Causal attention of `heads` heads side by side, `heads / kv_heads` of which share keys and values.
struct AttentionShape {
    std::size_t heads = 0, kv_heads = 0, head_size = 0;
    double scale = 1;       ///< of the products of queries and keys
    double cap = 0;         ///< c · tanh(x / c) of those; 0 for none
    std::size_t window = 0; ///< a token sees itself and so many − 1 before it; 0: all before it
};

/// What a model says of one token beside a reference.
struct RowScore {
    double nll = 0; ///< −ln p(token)
    double kld = 0; ///< Σ p ln(p / q) of the reference's distribution p and the model's q
    bool same_top = false;
};

/// The steps of a decoder that are not products, and their gradients, on a device: d_x is the gradient of the loss with
/// respect to x. Matrices are of float32 and on the device; rows of all but keys and values follow each other without a
/// gap. Weights and biases of norms are one row. Calls go in order with those of algebra() and may return before their
/// work is done. Results are the same from run to run, and the CPU's to rounding. Throws Error where a matrix is not on
/// the device or does not fit, and where the device fails.
class LayerMath {
public:
    virtual ~LayerMath() = default;
    /// What makes matrices on the device, copies and multiplies them.
    virtual Algebra& algebra() = 0;

    /// `bias` may be null; `out` may be `in`.
    virtual void normalise(const Normalisation& how, const DeviceMatrix& in, const DeviceMatrix& weight,
                           const DeviceMatrix* bias, const DeviceMatrix& out) = 0;
    /// Adds to the gradients of weight and bias. That of what was given is added to d_in, or replaces it, and may then
    /// be d_out.
    virtual void backward_normalise(const Normalisation& how, const DeviceMatrix& in, const DeviceMatrix& weight,
                                    const DeviceMatrix& d_out, const DeviceMatrix& d_weight, const DeviceMatrix* d_bias,
                                    const DeviceMatrix& d_in, bool replace) = 0;

    /// Rotary embeddings: turns every head by the table's angles, or back. The first token of each sequence stands at
    /// position `first`. A row of the table is a position, a column a pair of dimensions.
    virtual void turn(std::span<const Sequence> sequences, std::size_t first, std::size_t head_size,
                      const DeviceMatrix& cosines, const DeviceMatrix& sines, bool back, const DeviceMatrix& heads) = 0;

    /// The first query of each sequence stands at position `first`; its keys and values are those of positions 0, 1, …,
    /// from row `begin` on. `log_sums`, a column a head, is given ln Σ exp of each query's scores for the way back.
    virtual void attend(const AttentionShape& shape, std::span<const Sequence> sequences, std::size_t first,
                        const DeviceMatrix& q, const DeviceMatrix& keys, const DeviceMatrix& values,
                        const DeviceMatrix& out, const DeviceMatrix& log_sums) = 0;
    /// For `first` 0; replaces d_q, d_k and d_v.
    virtual void backward_attend(const AttentionShape& shape, std::span<const Sequence> sequences,
                                 const DeviceMatrix& q, const DeviceMatrix& keys, const DeviceMatrix& values,
                                 const DeviceMatrix& out, const DeviceMatrix& log_sums, const DeviceMatrix& d_out,
                                 const DeviceMatrix& d_q, const DeviceMatrix& d_k, const DeviceMatrix& d_v) = 0;

    /// activation(gate) · up; activation(up) where `gate` is null.
    virtual void activate(Activation activation, const DeviceMatrix* gate, const DeviceMatrix& up,
                          const DeviceMatrix& out) = 0;
    virtual void backward_activate(Activation activation, const DeviceMatrix* gate, const DeviceMatrix& up,
                                   const DeviceMatrix& d_out, const DeviceMatrix* d_gate, const DeviceMatrix& d_up) = 0;

    virtual void clear(const DeviceMatrix& matrix) = 0;
    /// to += from
    virtual void add(const DeviceMatrix& from, const DeviceMatrix& to) = 0;
    /// to += row, to every row of it.
    virtual void add_row(const DeviceMatrix& row, const DeviceMatrix& to) = 0;
    /// row += Σ of the rows
    virtual void add_sum_of_rows(const DeviceMatrix& rows, const DeviceMatrix& row) = 0;
    virtual void soft_cap(double cap, const DeviceMatrix& values) = 0;
    /// Turns the gradient of what soft_cap() gave into that of what it was given.
    virtual void backward_soft_cap(double cap, const DeviceMatrix& capped, const DeviceMatrix& d) = 0;
    /// Σ a², with `less` Σ (a − less)², in float64.
    virtual double squared_norm(const DeviceMatrix& a, const DeviceMatrix* less) = 0;

    /// −ln p of each row's target, or with `teacher` the divergence of what its logits predict; 0 where the target is
    /// negative. The logits are replaced by the gradient of `scale` times the sum of those.
    virtual std::vector<double> losses(double scale, std::span<const int> targets, const DeviceMatrix* teacher,
                                       const DeviceMatrix& logits) = 0;
    /// The same numbers without gradients, of targets that are not negative.
    virtual std::vector<RowScore> score(const DeviceMatrix& logits, const DeviceMatrix& reference,
                                        std::span<const int> targets) = 0;
};

} // namespace qs
