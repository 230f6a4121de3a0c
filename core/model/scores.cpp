#include "core/model/scores.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

namespace qs {

namespace {

template <class T>
void append_to(std::vector<T>& into, const std::vector<T>& from) {
    into.insert(into.end(), from.begin(), from.end());
}

struct Mean {
    double mean = 0, standard_error = 0;
};

template <class Values>
Mean mean_of(const Values& values) {
    const auto n = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const auto value : values) {
        sum += static_cast<double>(value);
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    if (n == 0)
        return {};
    const double mean = sum / n, variance = std::max(0.0, squares / n - mean * mean);
    return {mean, n > 1 ? std::sqrt(variance / (n - 1)) : 0};
}

/// The value below which a share of the sorted values lies, interpolated between neighbours.
double quantile(const std::vector<float>& sorted, double share) {
    if (sorted.empty())
        return 0;
    const double place = share * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double part = place - static_cast<double>(below);
    return (1 - part) * static_cast<double>(sorted[below]) + part * static_cast<double>(sorted[above]);
}

} // namespace

void TokenScores::append(const TokenScores& later) {
    append_to(nll, later.nll);
    append_to(kld, later.kld);
    append_to(same_top, later.same_top);
}

Distributions::Distributions(Matrix&& logits)
    : logits_(std::move(logits)), probabilities_(logits_.rows(), logits_.cols()),
      log_sums_(static_cast<std::size_t>(logits_.rows())), tops_(static_cast<std::size_t>(logits_.rows())) {
    tbb::parallel_for(Index{0}, logits_.rows(), [&](Index row) {
        const auto i = static_cast<std::size_t>(row);
        const float largest = logits_.row(row).maxCoeff(&tops_[i]);
        auto p = probabilities_.row(row).array();
        p = (logits_.row(row).array() - largest).exp();
        const double sum = p.cast<double>().sum();
        p *= static_cast<float>(1 / sum);
        log_sums_[i] = static_cast<double>(largest) + std::log(sum);
    });
}

TokenScores score(const Distributions& model, const Distributions& reference, std::span<const int> targets) {
    const std::size_t rows = targets.size();
    std::vector<double> divergences(rows);
    tbb::parallel_for(std::size_t{0}, rows, [&](std::size_t i) {
        const auto row = static_cast<Index>(i);
        if (targets[i] < 0)
            return;
        // Σ p (ln p − ln q), where each logarithm is a logit less its row's ln Σ exp.
        const auto differences = (reference.logits().row(row) - model.logits().row(row)).cast<double>();
        divergences[i] = reference.probabilities().row(row).cast<double>().dot(differences) +
                         (model.log_sum(row) - reference.log_sum(row));
    });
    TokenScores scores;
    for (std::size_t i = 0; i < rows; ++i) {
        const auto row = static_cast<Index>(i);
        if (targets[i] < 0)
            continue;
        scores.nll.push_back(static_cast<float>(-model.log_probability(row, targets[i])));
        scores.kld.push_back(static_cast<float>(divergences[i]));
        scores.same_top.push_back(model.top(row) == reference.top(row));
    }
    return scores;
}

ScoreSummary summarise(const TokenScores& scores) {
    ScoreSummary summary;
    summary.tokens = scores.count();
    const Mean nll = mean_of(scores.nll), kld = mean_of(scores.kld), same = mean_of(scores.same_top);
    summary.perplexity = std::exp(nll.mean);
    summary.perplexity_stderr = nll.standard_error * summary.perplexity;
    summary.kld_mean = kld.mean;
    summary.kld_stderr = kld.standard_error;
    std::vector<float> sorted = scores.kld;
    std::ranges::sort(sorted);
    summary.kld_median = quantile(sorted, 0.5);
    summary.kld_p99 = quantile(sorted, 0.99);
    summary.top1_agreement = same.mean;
    summary.top1_stderr = same.standard_error;
    return summary;
}

} // namespace qs
