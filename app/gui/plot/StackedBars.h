#pragma once

#include <optional>
#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// Horizontal bars made of segments, one bar at each whole number of the value axis, with a limit: what lies beyond it
/// is hatched, and a bar that ends before it gets a green end with a tick mark.
class StackedBars : public Drawn {
public:
    StackedBars(QCPAxis* keyAxis, QCPAxis* valueAxis);

    struct Segment {
        double size = 0; ///< in units of the key axis
        QColor colour;
    };
    struct Bar {
        std::vector<Segment> segments;
        double mark = 0; ///< a tick across the bar (the naive size)
        QString label;   ///< behind its end
        bool strong = false;

        double total() const;
    };
    struct Hit {
        std::size_t bar, segment;
    };

    void setBars(std::vector<Bar> bars) { bars_ = std::move(bars); }
    const std::vector<Bar>& bars() const { return bars_; }
    void setLimit(std::optional<double> limit, const QString& name);
    std::optional<double> limit() const { return limit_; }

    /// The segment under a pixel.
    std::optional<Hit> hitAt(QPointF pixel) const;
    /// Where a segment is drawn, in pixels.
    QRectF rectOf(std::size_t bar, std::size_t segment) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    QRectF span(std::size_t bar, double from, double to) const;
    void drawEnd(QCPPainter* painter, std::size_t bar) const;
    void drawLabel(QCPPainter* painter, std::size_t bar) const;
    void drawLimit(QCPPainter* painter) const;

    std::vector<Bar> bars_;
    std::optional<double> limit_;
    QString limitName_;
};

} // namespace qs::gui
