#pragma once

#include <optional>
#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// Points with the whiskers of their standard errors and their names beside them, each name where it covers least. On a
/// logarithmic axis a point without a positive value stands hollow at its lower end. A point without a name has none
/// beside it.
class LabelledPoints : public Drawn {
public:
    LabelledPoints(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

    struct Point {
        double key, value;
        double error = 0;
        QString name;
        QColor colour;
        QCPScatterStyle::ScatterShape shape = QCPScatterStyle::ssCircle;
        bool strong = false;
    };
    /// Joins these points, in their order: the best there is at each key.
    void setFront(std::vector<std::size_t> front) { front_ = std::move(front); }
    const std::vector<std::size_t>& front() const { return front_; }
    void setPoints(std::vector<Point> points) { points_ = std::move(points); }
    const std::vector<Point>& points() const { return points_; }
    /// The point within a few pixels of a position.
    std::optional<std::size_t> pointAt(QPointF pixel) const;
    QPointF pixelOf(const Point& point) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    bool belowAxis(double value) const;
    void drawFront(QCPPainter* painter) const;
    void drawPoint(QCPPainter* painter, const Point& point) const;
    void drawNames(QCPPainter* painter) const;

    std::vector<Point> points_;
    std::vector<std::size_t> front_;
};

} // namespace qs::gui
