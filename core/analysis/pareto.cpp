#include "core/analysis/pareto.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace qs {

std::vector<std::size_t> pareto_front(std::span<const Costs> choices) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < choices.size(); ++i)
        if (!std::isnan(choices[i].first) && !std::isnan(choices[i].second))
            order.push_back(i);
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return std::pair(choices[i].first, choices[i].second); });
    std::vector<std::size_t> front;
    double least = std::numeric_limits<double>::infinity();
    for (const std::size_t i : order)
        if (front.empty() || choices[i].second < least) {
            front.push_back(i);
            least = choices[i].second;
        }
    return front;
}

} // namespace qs
