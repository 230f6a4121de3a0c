#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// A matrix of values as coloured cells: column j is drawn over [j − ½, j + ½] of the key axis (times the width of a
/// column), row i over [i − ½, i + ½] of the value axis. NaN is a gap and shows the background. Colours run over the
/// finite values' range, or over its logarithm.
class HeatMap : public Drawn {
public:
    HeatMap(QCPAxis* keyAxis, QCPAxis* valueAxis);

    struct Cell {
        int row, column;
        bool operator==(const Cell&) const = default;
    };

    /// `values[row][column]`; rows of equal length.
    void setValues(std::vector<std::vector<double>> values, bool logarithmic);
    /// How much of the key axis a column takes (1 if not set).
    void setColumnWidth(double width) { columnWidth_ = width; }
    const std::vector<std::vector<double>>& values() const { return values_; }
    /// Smallest and largest finite value shown in colour; nullopt when there is none.
    std::optional<std::pair<double, double>> range() const { return range_; }
    void setMarked(std::optional<Cell> cell) { marked_ = cell; }

    std::optional<Cell> cellAt(QPointF pixel) const;
    double value(Cell cell) const {
        return values_[static_cast<std::size_t>(cell.row)][static_cast<std::size_t>(cell.column)];
    }

protected:
    void draw(QCPPainter* painter) override;

private:
    QRectF rectOf(int row, int column) const;
    QColor colourOf(double value) const;
    /// Numbers inside the cells where all of them have room for one.
    void drawNumbers(QCPPainter* painter) const;

    std::vector<std::vector<double>> values_;
    std::optional<std::pair<double, double>> range_;
    std::optional<Cell> marked_;
    double columnWidth_ = 1;
    bool logarithmic_ = false;
};

} // namespace qs::gui
