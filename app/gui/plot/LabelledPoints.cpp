#include "app/gui/plot/LabelledPoints.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr double point_size = 8;
constexpr double reach = 12;

double overlap(const QRectF& a, const QRectF& b) {
    const QRectF both = a.intersected(b);
    return both.width() * both.height();
}

} // namespace

bool LabelledPoints::belowAxis(double value) const {
    return valueAxis()->scaleType() == QCPAxis::stLogarithmic && value <= 0;
}

QPointF LabelledPoints::pixelOf(const Point& point) const {
    const QCPAxis* y = valueAxis();
    const bool below = belowAxis(point.value);
    return {keyAxis()->coordToPixel(point.key),
            below ? y->coordToPixel(y->range().lower) - point_size / 2 : y->coordToPixel(point.value)};
}

std::optional<std::size_t> LabelledPoints::pointAt(QPointF pixel) const {
    std::optional<std::size_t> nearest;
    double least = reach;
    for (std::size_t i = 0; i < points_.size(); ++i) {
        const QPointF away = pixelOf(points_[i]) - pixel;
        const double distance = std::hypot(away.x(), away.y());
        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    return nearest;
}

void LabelledPoints::draw(QCPPainter* painter) {
    drawFront(painter);
    for (const Point& point : points_)
        drawPoint(painter, point);
    drawNames(painter);
}

void LabelledPoints::drawFront(QCPPainter* painter) const {
    QPolygonF line;
    for (const std::size_t place : front_)
        if (place < points_.size())
            line << pixelOf(points_[place]);
    QColor colour = Theme::instance().mutedText();
    colour.setAlphaF(0.6F);
    painter->setAntialiasing(true);
    painter->setPen(QPen(colour, 1.2));
    painter->drawPolyline(line);
}

void LabelledPoints::drawPoint(QCPPainter* painter, const Point& point) const {
    const QPointF at = pixelOf(point);
    const bool hollow = belowAxis(point.value);
    painter->setAntialiasing(true);
    if (point.error > 0 && !hollow) {
        const QCPAxis* y = valueAxis();
        const double upper = y->coordToPixel(point.value + point.error);
        const double lower = belowAxis(point.value - point.error) ? at.y() : y->coordToPixel(point.value - point.error);
        painter->setPen(QPen(point.colour, 1.2));
        painter->drawLine(QPointF(at.x(), upper), QPointF(at.x(), lower));
        for (const double cap : {upper, lower})
            painter->drawLine(QPointF(at.x() - 3, cap), QPointF(at.x() + 3, cap));
    }
    QCPScatterStyle style(point.shape, QPen(point.colour, 1.5), hollow ? Qt::NoBrush : QBrush(point.colour),
                          point_size);
    style.applyTo(painter, QPen(point.colour, 1.5));
    style.drawShape(painter, at);
}

/// To the right, the left, above or below its point, wherever a name overlaps other points and names least.
void LabelledPoints::drawNames(QCPPainter* painter) const {
    std::vector<QRectF> taken;
    for (const Point& point : points_) {
        const QPointF at = pixelOf(point);
        taken.emplace_back(at.x() - 6, at.y() - 6, 12, 12);
    }
    const QRectF room = clipRect();
    for (const Point& point : points_) {
        if (point.name.isEmpty())
            continue;
        QFont font = mParentPlot->font();
        font.setBold(point.strong);
        const QFontMetricsF metrics(font);
        const QSizeF size(metrics.horizontalAdvance(point.name) + 4, metrics.height());
        const QPointF at = pixelOf(point);
        const double right = at.x() + 9, left = at.x() - 9 - size.width(), middle = at.y() - size.height() / 2;
        const double above = at.y() - 8 - size.height(), below = at.y() + 8, centre = at.x() - size.width() / 2;
        const std::array<QPointF, 8> places = {{{right, middle},
                                                {left, middle},
                                                {centre, above},
                                                {centre, below},
                                                {right, above},
                                                {right, below},
                                                {left, above},
                                                {left, below}}};
        const auto cost = [&](QPointF place) {
            const QRectF rect(place, size);
            double area = size.width() * size.height() - overlap(rect, room);
            for (const QRectF& other : taken)
                area += overlap(rect, other);
            return area;
        };
        const QRectF best(*std::ranges::min_element(places, {}, cost), size);
        taken.push_back(best);
        QColor ground = Theme::instance().background();
        ground.setAlphaF(0.75F);
        painter->fillRect(best, ground);
        painter->setFont(font);
        painter->setPen(Theme::instance().text());
        painter->drawText(best, Qt::AlignVCenter | Qt::AlignHCenter, point.name);
    }
}

} // namespace qs::gui
