#include "app/gui/ScoreMetric.h"

#include <array>

namespace qs::gui {

std::span<const ScoreMetric> scoreMetrics() {
    static const std::array<ScoreMetric, 5> table = {{
        {"perplexity",
         "Perplexity",
         {},
         "Between how many equally likely tokens the model is undecided on average; lower is better.",
         false,
         [](const ScoreSummary& scores) { return scores.perplexity; },
         [](const ScoreSummary& scores) { return scores.perplexity_stderr; },
         std::nullopt},
        {"kld_mean", "KLD mean", "nats",
         "Mean Kullback–Leibler divergence of the predicted distribution from the unquantized model's: what is lost of "
         "its predictions, right or wrong.",
         true, [](const ScoreSummary& scores) { return scores.kld_mean; },
         [](const ScoreSummary& scores) { return scores.kld_stderr; }, 0.0},
        {"kld_median", "KLD median", "nats", "The divergence that half of the tokens stay below.", true,
         [](const ScoreSummary& scores) { return scores.kld_median; }, nullptr, 0.0},
        {"kld_p99", "KLD 99 %", "nats", "The divergence that 99 of 100 tokens stay below: how bad it gets.", true,
         [](const ScoreSummary& scores) { return scores.kld_p99; }, nullptr, 0.0},
        {"top1_agreement",
         "Same top token",
         {},
         "Share of tokens for which the model finds the same one most probable as the unquantized model.",
         false,
         [](const ScoreSummary& scores) { return scores.top1_agreement; },
         [](const ScoreSummary& scores) { return scores.top1_stderr; },
         1.0},
    }};
    return table;
}

} // namespace qs::gui
