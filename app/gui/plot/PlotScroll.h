#pragma once

#include <QScrollArea>

namespace qs::gui {

class Plot;

/// Holds a plot and lets it be as high as its rows need; scrolls where that is more than there is room for. Then the
/// wheel scrolls too, and zooms with Ctrl.
class PlotScroll : public QScrollArea {
    Q_OBJECT
public:
    explicit PlotScroll(Plot* plot, QWidget* parent = nullptr);

private:
    void fit();

    Plot* plot_;
};

} // namespace qs::gui
