#include "app/gui/plot/PlotScroll.h"

#include <QScrollBar>

#include <algorithm>

#include "app/gui/plot/Plot.h"

namespace qs::gui {

PlotScroll::PlotScroll(Plot* plot, QWidget* parent) : QScrollArea(parent), plot_(plot) {
    setFrameShape(QFrame::NoFrame);
    setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setFocusPolicy(Qt::NoFocus);
    setWidgetResizable(true);
    setWidget(plot);
    plot->setAttribute(Qt::WA_NoMousePropagation, false); // the wheel that it leaves comes here
    setMinimumSize(plot->minimumSize());
    // Later, because a plot that is being laid out must not be resized.
    connect(verticalScrollBar(), &QScrollBar::rangeChanged, plot,
            [plot](int, int most) { plot->setWheelScrolls(most > 0); });
    connect(plot, &QCustomPlot::afterLayout, this, &PlotScroll::fit, Qt::QueuedConnection);
}

void PlotScroll::fit() {
    const int needed = std::max(minimumHeight(), plot_->plotLayout()->minimumOuterSizeHint().height());
    if (plot_->minimumHeight() != needed)
        plot_->setMinimumHeight(needed);
}

} // namespace qs::gui
