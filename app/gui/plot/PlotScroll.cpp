#include "app/gui/plot/PlotScroll.h"

#include <algorithm>

#include "app/gui/plot/Plot.h"

namespace qs::gui {

PlotScroll::PlotScroll(Plot* plot, QWidget* parent) : QScrollArea(parent), plot_(plot) {
    setFrameShape(QFrame::NoFrame);
    setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setFocusPolicy(Qt::NoFocus);
    setWidgetResizable(true);
    setWidget(plot);
    setMinimumSize(plot->minimumSize());
    // Later, because a plot that is being laid out must not be resized.
    connect(plot, &QCustomPlot::afterLayout, this, &PlotScroll::fit, Qt::QueuedConnection);
}

void PlotScroll::fit() {
    const int needed = std::max(minimumHeight(), plot_->plotLayout()->minimumOuterSizeHint().height());
    if (plot_->minimumHeight() != needed)
        plot_->setMinimumHeight(needed);
}

} // namespace qs::gui
