#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Background.h"
#include "app/gui/plot/EdgeMarks.h"
#include "app/gui/plot/HeatMap.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/View.h"
#include "core/analysis/bins.h"

class QComboBox;
class QStackedWidget;
class QToolButton;

namespace qs::gui {

/// The distribution of one tensor's weights with what formats make of it on the same bins, a fitted normal, σ marks and
/// outliers; absmax per block as a heat line below; a quantile–quantile plot in its place on demand.
class HistogramView : public View {
    Q_OBJECT
public:
    explicit HistogramView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Histogram"); }
    Plot* activePlot() override;
    QByteArray csv() const override;

    /// What is plotted now.
    const HistogramSet& histogram() const { return set_; }
    const std::vector<FormatSpec>& specs() const { return setSpecs_; }
    const std::vector<float>& absmax() const { return strip_.absmax; }

protected:
    void refresh() override;
    bool idle() const override;

private:
    /// What does not depend on formats or zoom.
    struct Shape {
        Statistics statistics;
        std::vector<QuantilePoint> quantiles;
        std::vector<double> outliers; ///< positions of occupied bins beyond 6σ
    };
    struct Strip {
        const std::byte* of = nullptr; ///< the tensor's data
        std::size_t block = 0;         ///< weights a block; 0: a row
        std::uint64_t blocks = 0;      ///< of the tensor; may be more than values
        std::vector<float> absmax;
    };
    struct Series {
        FormatSpec spec;
        QCPGraph* graph;
    };

    void buildControls(QLayout* layout);
    void buildHistogram();
    void buildQuantiles();
    void measureShape();
    void measureBins();
    void measureStrip();
    void takeShape(Shape shape);
    void showBins(HistogramSet set, std::vector<FormatSpec> specs);
    void showNormal();
    void showEdges();
    void showStrip(Strip strip);
    void showQuantiles();
    void makeSeries();
    void applyColours();
    void applyVisibility();
    void fitCounts();
    void updateStripChoices();
    std::size_t stripBlock() const;
    std::uint64_t mergedBlocks() const;
    bool seriesOn(const FormatSpec& spec) const;
    double normalCount(double x) const;
    ReadoutText binReadout(QPointF position) const;
    ReadoutText stripReadout(QPointF position) const;
    ReadoutText quantileReadout(QPointF position) const;

    QStackedWidget* stack_;
    Plot* plot_;
    Plot* quantilePlot_;
    QToolButton* quantileButton_;
    QToolButton* logButton_;
    QComboBox* stripChoice_;
    Caption* caption_;
    QCPAxisRect* pane_ = nullptr;
    QCPAxisRect* stripPane_ = nullptr;
    QCPGraph* weights_ = nullptr;
    QCPGraph* normal_ = nullptr;
    EdgeMarks* edges_ = nullptr;
    HeatMap* stripMap_ = nullptr;
    ColourScale* stripScale_ = nullptr;
    QCPGraph* quantiles_ = nullptr;
    QCPGraph* quantileLine_ = nullptr;
    std::vector<Series> series_;
    std::map<QString, bool> chosen_; ///< by the user in the legend, by spec text

    Background shapeJob_{this}, binsJob_{this}, stripJob_{this};
    QTimer refine_;
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::optional<std::size_t> tensor_;
    std::vector<FormatSpec> shownFormats_;
    std::shared_ptr<Device> shownDevice_; ///< that has made the bins
    std::optional<Shape> shape_;
    HistogramSet set_;
    std::vector<FormatSpec> setSpecs_;
    Statistics setStatistics_; ///< of the tensor in set_
    Strip strip_;
    std::optional<FormatSpec> stripSpec_;
};

} // namespace qs::gui
