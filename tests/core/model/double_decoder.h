#pragma once

#include <Eigen/Dense>

#include <cmath>
#include <numbers>

#include "core/model/decoder.h"

// A decoder in float64, written as plainly as it can be: one text, a token and a head at a time. Finite differences of
// its loss are exact to far more digits than gradients in float32.

namespace qs::test {

/// The parameters of a model in memory.
struct Parameters {
    std::vector<LayerWeights> layers;
    Head head;
    Matrix embedding, positions;
};

inline Parameters load_parameters(const Decoder& decoder, Index positions) {
    Parameters parameters;
    for (int layer = 0; layer < decoder.config().layers; ++layer)
        parameters.layers.push_back(decoder.weights().layer(layer));
    parameters.head = decoder.load_head();
    parameters.embedding = decoder.weights().load(decoder.weights().embedding());
    if (decoder.config().learned_positions)
        parameters.positions = decoder.weights().positions(positions);
    return parameters;
}

class DoubleDecoder {
public:
    DoubleDecoder(const DecoderConfig& config, const Parameters& parameters) : c_(config), p_(parameters) {}

    /// Σ −ln p of all tokens but the first.
    double loss(const std::vector<int>& tokens) const {
        const Eigen::MatrixXd log_p = log_probabilities(tokens);
        double sum = 0;
        for (Index i = 0; i + 1 < log_p.rows(); ++i)
            sum -= log_p(i, tokens[i + 1]);
        return sum;
    }

    /// Σ p ln(p / q) of another model's predictions p of the same tokens.
    double divergence(const DoubleDecoder& other, const std::vector<int>& tokens) const {
        const Eigen::MatrixXd log_q = log_probabilities(tokens), log_p = other.log_probabilities(tokens);
        return (log_p.array().exp() * (log_p - log_q).array()).topRows(log_p.rows() - 1).sum();
    }

    Eigen::MatrixXd log_probabilities(const std::vector<int>& tokens) const {
        const RopeTables tables(c_, static_cast<Index>(tokens.size()));
        MatrixXd x(tokens.size(), c_.hidden);
        for (Index i = 0; i < x.rows(); ++i) {
            x.row(i) = c_.embedding_scale * p_.embedding.row(tokens[i]).cast<double>();
            if (c_.learned_positions)
                x.row(i) += p_.positions.row(i).cast<double>();
        }
        for (const LayerWeights& layer : p_.layers)
            x = run(layer, tables.of(c_, layer.layer), x);
        const Matrix& head = c_.tied_head ? p_.embedding : p_.head.weight;
        MatrixXd logits = capped(c_.logit_softcap, norm(p_.head.norm, x) * head.cast<double>().transpose());
        for (Index i = 0; i < logits.rows(); ++i) {
            const double top = logits.row(i).maxCoeff();
            logits.row(i).array() -= top + std::log((logits.row(i).array() - top).exp().sum());
        }
        return logits;
    }

private:
    using MatrixXd = Eigen::MatrixXd;

    static MatrixXd capped(double cap, const MatrixXd& x) {
        return cap == 0 ? x : MatrixXd(cap * (x.array() / cap).tanh());
    }

    MatrixXd norm(const Norm& norm, MatrixXd x) const {
        for (Index i = 0; i < x.rows(); ++i) {
            const double mean = c_.norm == NormKind::layer ? x.row(i).mean() : 0;
            const double variance = (x.row(i).array() - mean).square().mean();
            x.row(i) =
                (x.row(i).array() - mean) / std::sqrt(variance + c_.norm_epsilon) * norm.weight.cast<double>().array();
            if (norm.bias.size() > 0)
                x.row(i) += norm.bias.cast<double>();
        }
        return x;
    }

    static MatrixXd linear(const Linear& linear, const MatrixXd& x) {
        MatrixXd y = x * linear.weight.cast<double>().transpose();
        if (linear.bias.size() > 0)
            y.rowwise() += linear.bias.cast<double>();
        return y;
    }

    /// One head of q or k, normed and turned.
    MatrixXd head(const Norm& head_norm, const RopeTable& rope, MatrixXd x) const {
        if (c_.qk_norm)
            x = norm(head_norm, x);
        if (c_.learned_positions)
            return x;
        const MatrixXd cosine = rope.cosines.cast<double>(), sine = rope.sines.cast<double>();
        const Index pairs = cosine.cols();
        for (Index token = 0; token < x.rows(); ++token)
            for (Index i = 0; i < pairs; ++i) {
                const double a = x(token, i), b = x(token, i + pairs);
                x(token, i) = a * cosine(token, i) - b * sine(token, i);
                x(token, i + pairs) = b * cosine(token, i) + a * sine(token, i);
            }
        return x;
    }

    MatrixXd attention(const LayerWeights& w, const RopeTable& rope, const MatrixXd& x) const {
        const Index d = c_.head_dim, q_size = c_.heads * d, kv_size = c_.kv_heads * d;
        MatrixXd qkv(x.rows(), q_size + 2 * kv_size);
        if (c_.fused_qkv)
            qkv = linear(*w[Slot::qkv], x);
        else
            qkv << linear(*w[Slot::q], x), linear(*w[Slot::k], x), linear(*w[Slot::v], x);
        MatrixXd out = MatrixXd::Zero(x.rows(), q_size);
        for (Index h = 0; h < c_.heads; ++h) {
            const Index kv = h / (c_.heads / c_.kv_heads) * d;
            const MatrixXd q = head(w.q_norm, rope, qkv.middleCols(h * d, d));
            const MatrixXd k = head(w.k_norm, rope, qkv.middleCols(q_size + kv, d));
            const MatrixXd scores = capped(c_.attention_softcap, c_.attention_scale * q * k.transpose());
            for (Index i = 0; i < x.rows(); ++i) {
                const Index from = c_.slides(w.layer) ? std::max<Index>(0, i + 1 - c_.sliding_window) : 0;
                double sum = 0;
                for (Index j = from; j <= i; ++j) {
                    sum += std::exp(scores(i, j));
                    out.row(i).segment(h * d, d) +=
                        std::exp(scores(i, j)) * qkv.row(j).segment(q_size + kv_size + kv, d);
                }
                out.row(i).segment(h * d, d) /= sum;
            }
        }
        return linear(*w[Slot::o], out);
    }

    double activation(double x) const {
        switch (c_.activation) {
        case Activation::silu:
            return x / (1 + std::exp(-x));
        case Activation::gelu:
            return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
        case Activation::gelu_tanh:
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
        case Activation::relu:
            break;
        }
        return std::max(x, 0.0);
    }

    MatrixXd mlp(const LayerWeights& w, const MatrixXd& x) const {
        const auto activate = [this](double value) { return activation(value); };
        if (!c_.gated)
            return linear(*w[Slot::down], linear(*w[Slot::up], x).unaryExpr(activate));
        MatrixXd both(x.rows(), 2 * c_.intermediate);
        if (c_.fused_gate_up)
            both = linear(*w[Slot::gate_up], x);
        else
            both << linear(*w[Slot::gate], x), linear(*w[Slot::up], x);
        const MatrixXd gate = both.leftCols(c_.intermediate).unaryExpr(activate);
        return linear(*w[Slot::down], gate.cwiseProduct(both.rightCols(c_.intermediate)));
    }

    MatrixXd run(const LayerWeights& w, const RopeTable& rope, const MatrixXd& x) const {
        const MatrixXd attended = attention(w, rope, norm(w.attention_norm, x));
        const MatrixXd y = x + (c_.output_norms ? norm(w.attention_output_norm, attended) : attended);
        const MatrixXd made = mlp(w, norm(w.mlp_norm, y));
        return y + (c_.output_norms ? norm(w.mlp_output_norm, made) : made);
    }

    const DecoderConfig& c_;
    const Parameters& p_;
};

} // namespace qs::test
