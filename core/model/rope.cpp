#include "core/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qs {

namespace {

using Frequencies = std::vector<double>;

/// Radians a token of each pair of dimensions: base^(−2i / dimensions).
Frequencies plain_frequencies(int dimensions, double base) {
    Frequencies frequencies(static_cast<std::size_t>(dimensions / 2));
    for (std::size_t i = 0; i < frequencies.size(); ++i)
        frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / dimensions);
    return frequencies;
}

/// The base grows with the text, so that the slowest pair still turns as little as it did in the original context.
double dynamic_base(const RopeSettings& settings, Index tokens) {
    if (tokens <= settings.original_context)
        return settings.base;
    const double d = settings.dimensions;
    const double longer = settings.factor * static_cast<double>(tokens) / settings.original_context;
    return settings.base * std::pow(longer - (settings.factor - 1), d / (d - 2));
}

/// YaRN: pairs that turn often in the original context keep their frequency, those that hardly turn are interpolated,
/// with a ramp between.
void apply_yarn(const RopeSettings& settings, Frequencies& frequencies) {
    const auto pair_that_turns = [&](double turns) {
        const double wavelength = settings.original_context / turns;
        return settings.dimensions * std::log(wavelength / (2 * std::numbers::pi)) / (2 * std::log(settings.base));
    };
    const double first = std::max(0.0, std::floor(pair_that_turns(settings.beta_fast)));
    const double last = std::min(settings.dimensions - 1.0, std::ceil(pair_that_turns(settings.beta_slow)));
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double along = (static_cast<double>(i) - first) / std::max(0.001, last - first);
        const double interpolated = std::clamp(along, 0.0, 1.0);
        frequencies[i] *= interpolated / settings.factor + (1 - interpolated);
    }
}

double llama3_multiplier(const RopeSettings& settings, double frequency) {
    const double turns = settings.original_context * frequency / (2 * std::numbers::pi);
    const double kept = (turns - settings.low_frequency) / (settings.high_frequency - settings.low_frequency);
    const double share = std::clamp(kept, 0.0, 1.0);
    return share + (1 - share) / settings.factor;
}

void divide(Frequencies& frequencies, const std::vector<double>& divisors) {
    for (std::size_t i = 0; i < std::min(frequencies.size(), divisors.size()); ++i)
        frequencies[i] /= divisors[i];
}

Frequencies frequencies_of(const RopeSettings& settings, Index tokens) {
    const bool dynamic = settings.scaling == RopeScaling::dynamic;
    Frequencies frequencies =
        plain_frequencies(settings.dimensions, dynamic ? dynamic_base(settings, tokens) : settings.base);
    if (settings.scaling == RopeScaling::linear)
        std::ranges::for_each(frequencies, [&](double& frequency) { frequency /= settings.factor; });
    if (settings.scaling == RopeScaling::yarn)
        apply_yarn(settings, frequencies);
    if (settings.scaling == RopeScaling::llama3)
        std::ranges::for_each(frequencies,
                              [&](double& frequency) { frequency *= llama3_multiplier(settings, frequency); });
    if (settings.scaling == RopeScaling::longrope)
        divide(frequencies, tokens > settings.original_context ? settings.long_factors : settings.short_factors);
    divide(frequencies, settings.divisors);
    return frequencies;
}

} // namespace

double attention_factor_of(const RopeSettings& settings) {
    if (settings.attention_factor)
        return *settings.attention_factor;
    if (settings.factor <= 1)
        return 1;
    if (settings.scaling == RopeScaling::yarn)
        return 0.1 * std::log(settings.factor) + 1;
    if (settings.scaling == RopeScaling::longrope)
        return std::sqrt(1 + std::log(settings.factor) / std::log(settings.original_context));
    return 1;
}

std::vector<double> llama3_divisors(const RopeSettings& settings) {
    std::vector<double> divisors = plain_frequencies(settings.dimensions, settings.base);
    for (double& divisor : divisors)
        divisor = 1 / llama3_multiplier(settings, divisor);
    return divisors;
}

RopeTable make_rope_table(const RopeSettings& settings, Index tokens) {
    const Frequencies frequencies = frequencies_of(settings, tokens);
    const double scale = attention_factor_of(settings);
    const auto pairs = static_cast<Index>(frequencies.size());
    RopeTable table{Matrix(tokens, pairs), Matrix(tokens, pairs)};
    for (Index position = 0; position < tokens; ++position)
        for (Index pair = 0; pair < pairs; ++pair) {
            const double angle = static_cast<double>(position) * frequencies[static_cast<std::size_t>(pair)];
            table.cosines(position, pair) = static_cast<float>(scale * std::cos(angle));
            table.sines(position, pair) = static_cast<float>(scale * std::sin(angle));
        }
    return table;
}

void apply_rope(const RopeTable& table, Index first, Index head_dim, Eigen::Ref<Matrix> heads) {
    const Index pairs = table.cosines.cols();
    for (Index token = 0; token < heads.rows(); ++token)
        for (Index head = 0; head < heads.cols(); head += head_dim) {
            float* const x = &heads(token, head);
            for (Index pair = 0; pair < pairs; ++pair) {
                const float cosine = table.cosines(first + token, pair), sine = table.sines(first + token, pair);
                const float a = x[pair], b = x[pair + pairs];
                x[pair] = a * cosine - b * sine;
                x[pair + pairs] = b * cosine + a * sine;
            }
        }
}

} // namespace qs
