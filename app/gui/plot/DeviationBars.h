#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// Horizontal bars, one at each whole number of the value axis, that begin at a common base: each with a whisker of its
/// standard error on both sides and a label behind it. A line across all of them, with a band of its own standard
/// error, is what they are measured against. On a logarithmic axis a bar without a positive value has only its label.
class DeviationBars : public Drawn {
public:
    DeviationBars(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

    struct Bar {
        double value = std::numeric_limits<double>::quiet_NaN(); ///< NaN: only the label
        double error = 0;
        QColor colour;
        QString label;
        bool strong = false;
        bool begins = false; ///< a group, of which a line above it parts the one before
    };
    struct Line {
        double value = 0, error = 0;
        QString name;
    };
    void setBars(std::vector<Bar> bars) { bars_ = std::move(bars); }
    const std::vector<Bar>& bars() const { return bars_; }
    void setBase(double base) { base_ = base; }
    void setLine(std::optional<Line> line) { line_ = std::move(line); }
    const std::optional<Line>& line() const { return line_; }

    /// The bar in whose row a value of the value axis lies.
    std::optional<std::size_t> barAt(double value) const;
    /// The range that shows bars, whiskers, base and line, with `room` of its size for labels behind.
    QCPRange shown(bool log, double room) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    double pixelOf(double value) const;
    void drawGroups(QCPPainter* painter) const;
    void drawLine(QCPPainter* painter) const;
    void drawBar(QCPPainter* painter, std::size_t index) const;

    std::vector<Bar> bars_;
    std::optional<Line> line_;
    double base_ = 0;
};

} // namespace qs::gui
