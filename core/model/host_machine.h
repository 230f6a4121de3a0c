#pragma once

#include <initializer_list>
#include <span>
#include <utility>

#include "core/model/backward.h"
#include "core/model/layer.h"

namespace qs {

/// Does the steps of a decoder (LayerSteps, ModelSteps) on the CPU: those forward are in layer.cpp, those backward in
/// backward.cpp.
class HostMachine {
public:
    using Matrix = qs::Matrix;
    using Vector = RowVector;

    /// With `cache` a batch is one sequence that goes on after the cache's tokens, and is added to it.
    explicit HostMachine(const DecoderConfig& config, KeyValues* cache = nullptr, LinearObserver observer = {})
        : config_(config), cache_(cache), first_(cache != nullptr ? cache->length : 0), observer_(std::move(observer)) {
    }

    const DecoderConfig& config() const { return config_; }

    // --- forward ---------------------------------------------------------------------------------------------------
    void normalise(const Norm& norm, const Matrix& in, Matrix& out) { qs::normalise(config_, norm, in, out); }
    void normalise_heads(const Norm& norm, Matrix& heads) { qs::normalise_heads(config_, norm, heads); }
    void apply(const Linear& linear, const Matrix& in, Matrix& out) { apply_linear(linear, in, out, observer_); }
    void apply_unobserved(const Linear& linear, const Matrix& in, Matrix& out) { apply_linear(linear, in, out, {}); }
    void multiply(const Matrix& in, const Matrix& weight, Matrix& out);
    void turn(const RopeTable& rope, std::span<const Sequence> sequences, Matrix& heads);
    void attend(int window, std::span<const Sequence> sequences, LayerActivations& a);
    void activate(const Matrix& gate, const Matrix& up, Matrix& out) { qs::activate(config_, gate, up, out); }
    void add(const Matrix& from, Matrix& to) { to += from; }
    void sum(const Matrix& a, const Matrix& b, Matrix& out) { out = a + b; }
    void soft_cap(double cap, Matrix& values) { qs::soft_cap(cap, values); }
    void assign(const Matrix& from, Matrix& to) { to = from; }
    void take_columns(const Matrix& from, Index first, Index count, Matrix& to) { to = from.middleCols(first, count); }
    void take_rows(const Matrix& from, Index first, Index count, Matrix& to) { to = from.middleRows(first, count); }
    void put_rows(const Matrix& from, Index first, Matrix& to) { to.middleRows(first, from.rows()) = from; }

    // --- backward --------------------------------------------------------------------------------------------------
    void clear(Index rows, Index columns, Matrix& out) { out.setZero(rows, columns); }
    void zeros_like(const Norm& norm, Norm& out);
    void backward_norm(const Norm& norm, const Matrix& in, const Matrix& d_out, Norm& gradient, Matrix& d_in) {
        qs::backward_norm(config_, norm, in, d_out, gradient, d_in);
    }
    /// The gradient of the heads before they were normed, in place.
    void backward_norm_heads(const Norm& norm, const Matrix& before, Norm& gradient, Matrix& d_heads);
    void backward_linear(const Linear& linear, const Matrix& in, const Matrix& d_out, Linear& gradient, Matrix& d_in,
                         bool add);
    /// The gradients of in · weightᵀ; `d_weight` may be null.
    void backward_multiply(const Matrix& in, const Matrix& weight, const Matrix& d_out, Matrix* d_weight, Matrix& d_in,
                           bool add);
    void backward_attend(int window, std::span<const Sequence> sequences, const LayerActivations& a,
                         const Matrix& d_out, Matrix& d_q, Matrix& d_k, Matrix& d_v) {
        qs::backward_attend(config_, window, sequences, a, d_out, d_q, d_k, d_v);
    }
    void turn_back(const RopeTable& rope, std::span<const Sequence> sequences, Matrix& d_heads);
    void backward_activate(const Matrix& gate, const Matrix& up, const Matrix& d_out, Matrix& d_gate, Matrix& d_up) {
        qs::backward_activate(config_, gate, up, d_out, d_gate, d_up);
    }
    void join(std::initializer_list<const Matrix*> parts, Matrix& out);
    void backward_soft_cap(double cap, const Matrix& capped, Matrix& d);
    double losses(double scale, std::span<const int> targets, const Matrix* teacher, Matrix& logits);

private:
    const DecoderConfig& config_;
    KeyValues* cache_;
    Index first_; ///< the position of a sequence's first token
    LinearObserver observer_;
    Matrix part_;
};

} // namespace qs
