#pragma once

#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// Marks at the edges of a pane that belong to its key axis: named ticks at the top (σ), a rug of marks at the bottom
/// (outliers), and what lies outside the range said at the left and right border.
class EdgeMarks : public Drawn {
public:
    EdgeMarks(QCPAxis* keyAxis, QCPAxis* valueAxis);

    struct Tick {
        double key;
        QString name;
    };
    void setTicks(std::vector<Tick> ticks) { ticks_ = std::move(ticks); }
    const std::vector<Tick>& ticks() const { return ticks_; }
    void setRug(std::vector<double> keys) { rug_ = std::move(keys); }
    const std::vector<double>& rug() const { return rug_; }
    void setBorders(const QString& left, const QString& right);
    QString leftBorder() const { return left_; }
    QString rightBorder() const { return right_; }
    /// Named marks at the top for values that the value axis cuts off.
    void setCutOff(std::vector<Tick> peaks, const QColor& colour);
    const std::vector<Tick>& cutOff() const { return cutOff_; }

protected:
    void draw(QCPPainter* painter) override;

private:
    void drawTicks(QCPPainter* painter) const;
    void drawRug(QCPPainter* painter) const;
    void drawBorders(QCPPainter* painter) const;
    void drawCutOff(QCPPainter* painter) const;

    std::vector<Tick> ticks_, cutOff_;
    std::vector<double> rug_;
    QString left_, right_;
    QColor cutOffColour_;
};

} // namespace qs::gui
