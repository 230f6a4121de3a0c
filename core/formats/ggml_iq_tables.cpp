#include "core/formats/ggml_iq_tables.h"

#include <array>
#include <vector>

namespace qs {

namespace {

/// The distances of all points of a grid from one point. The coordinates are kept apart, so that the sums of all points
/// are made at once; they fit a byte.
template <class Grid>
class Distances {
public:
    Distances() {
        for (std::uint32_t index = 0; index < Grid::size; ++index)
            for (std::uint32_t i = 0; i < Grid::dims; ++i)
                coordinates_[i][index] = static_cast<std::uint8_t>(coordinate<Grid>(Grid::point(index), i));
    }

    const std::array<std::uint8_t, Grid::size>& from(std::uint32_t point) {
        distances_.fill(0);
        for (std::uint32_t i = 0; i < Grid::dims; ++i) {
            const auto here = static_cast<std::uint8_t>(coordinate<Grid>(point, i));
            for (std::uint32_t index = 0; index < Grid::size; ++index) {
                const auto difference = static_cast<std::uint8_t>(coordinates_[i][index] - here);
                distances_[index] = static_cast<std::uint8_t>(distances_[index] + difference * difference);
            }
        }
        return distances_;
    }

private:
    std::array<std::array<std::uint8_t, Grid::size>, Grid::dims> coordinates_;
    std::array<std::uint8_t, Grid::size> distances_;
};

/// Appends the number of neighbours and the neighbours: a counting sort of the nearest rings.
template <class Grid>
void append_neighbours(const std::array<std::uint8_t, Grid::size>& distances, std::vector<std::uint16_t>& list) {
    std::array<std::uint16_t, 256> count{};
    for (const std::uint8_t distance : distances)
        ++count[distance];
    std::array<std::size_t, 256> next{};
    const std::size_t begin = list.size() + 1;
    std::size_t end = begin, last = 0;
    for (std::uint32_t rings = 0; rings < Grid::rings && last < count.size(); ++last) {
        next[last] = end;
        end += count[last];
        rings += count[last] != 0 ? 1 : 0;
    }
    list.push_back(static_cast<std::uint16_t>(end - begin));
    list.resize(end);
    for (std::uint32_t index = 0; index < Grid::size; ++index)
        if (distances[index] < last)
            list[next[distances[index]]++] = static_cast<std::uint16_t>(Grid::point(index));
}

template <class Grid>
class SearchTables {
public:
    SearchTables() : places_(largest_point() + 1) {
        std::vector<bool> on_grid(places_.size());
        for (std::uint32_t index = 0; index < Grid::size; ++index) {
            places_[Grid::point(index)] = static_cast<std::int32_t>(index);
            on_grid[Grid::point(index)] = true;
        }
        Distances<Grid> distances;
        for (std::uint32_t point = 0; point < places_.size(); ++point) {
            if (on_grid[point] || !has_all_levels(point))
                continue;
            places_[point] = -1 - static_cast<std::int32_t>(neighbours_.size());
            append_neighbours<Grid>(distances.from(point), neighbours_);
        }
    }

    GridSearch view() const {
        return {places_.data(), neighbours_.data(), static_cast<std::uint32_t>(places_.size()),
                static_cast<std::uint32_t>(neighbours_.size())};
    }

private:
    static std::uint32_t largest_point() {
        std::uint32_t point = 0;
        for (std::uint32_t i = 0; i < Grid::dims; ++i)
            point |= (Grid::levels - 1) << (Grid::bits * i);
        return point;
    }
    /// Bits can say more than there are levels.
    static bool has_all_levels(std::uint32_t point) {
        for (std::uint32_t i = 0; i < Grid::dims; ++i)
            if (coordinate<Grid>(point, i) >= Grid::levels)
                return false;
        return true;
    }

    std::vector<std::int32_t> places_;
    std::vector<std::uint16_t> neighbours_;
};

} // namespace

template <class Grid>
const GridSearch& grid_search() {
    static const SearchTables<Grid> tables;
    static const GridSearch search = tables.view();
    return search;
}

template const GridSearch& grid_search<Iq1Grid>();
template const GridSearch& grid_search<Iq2XxsGrid>();
template const GridSearch& grid_search<Iq2XsGrid>();
template const GridSearch& grid_search<Iq2SGrid>();
template const GridSearch& grid_search<Iq3XxsGrid>();
template const GridSearch& grid_search<Iq3SGrid>();

} // namespace qs
