#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace qs {

/// What a choice costs in two ways, both better when less: bits per weight and an error, for example.
struct Costs {
    double first = 0, second = 0;
};

/// Those of several choices than which none is better in one way without being worse in the other (the Pareto front),
/// in ascending order of the first cost. Of equal ones the earliest; none with a NaN.
std::vector<std::size_t> pareto_front(std::span<const Costs> choices);

} // namespace qs
