#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/matrix.h"

namespace qs {

/// What a model says of the tokens of a text, one value a predicted token.
struct TokenScores {
    std::vector<float> nll;             ///< −ln p(token)
    std::vector<float> kld;             ///< Σ p ln(p / q) of the reference's distribution p and this one's q
    std::vector<std::uint8_t> same_top; ///< whether both give the same token the highest probability

    void append(const TokenScores& later);
    std::size_t count() const { return nll.size(); }
};

/// Log-probabilities of rows of logits, as far as scoring needs them.
class Distributions {
public:
    /// Takes the logits.
    explicit Distributions(Matrix&& logits);

    const Matrix& logits() const { return logits_; }
    const Matrix& probabilities() const { return probabilities_; }
    double log_sum(Index row) const { return log_sums_[static_cast<std::size_t>(row)]; }
    Index top(Index row) const { return tops_[static_cast<std::size_t>(row)]; }
    double log_probability(Index row, int token) const {
        return static_cast<double>(logits_(row, token)) - log_sum(row);
    }

private:
    Matrix logits_, probabilities_;
    std::vector<double> log_sums_;
    std::vector<Index> tops_;
};

/// Scores of the tokens that the rows predict (a negative one is not scored), beside a reference of the same rows.
TokenScores score(const Distributions& model, const Distributions& reference, std::span<const int> targets);

/// Figures over all tokens, as llama.cpp's perplexity tool defines them (tools/perplexity/perplexity.cpp); standard
/// errors take the tokens as independent.
struct ScoreSummary {
    std::size_t tokens = 0;
    double perplexity = 0, perplexity_stderr = 0; ///< e^mean(nll), and that times the standard error of the mean
    double kld_mean = 0, kld_stderr = 0, kld_median = 0, kld_p99 = 0;
    double top1_agreement = 0, top1_stderr = 0;
};
ScoreSummary summarise(const TokenScores& scores);

} // namespace qs
