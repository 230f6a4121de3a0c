#pragma once

#include <limits>

#include "app/gui/ScoreMetric.h"
#include "app/gui/plot/DeviationBars.h"
#include "app/gui/plot/LabelledPoints.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/QualityPage.h"

class QComboBox;
class QTableWidget;

namespace qs::gui {

/// What the formats do to the predictions: bars beside the unquantized model, points over true bits per weight, and
/// the numbers below.
class QualityScores : public QualityPage {
    Q_OBJECT
public:
    QualityScores(Session* session, const QualityData& data, QWidget* parent = nullptr);

    QString name() const override { return tr("Predictions"); }
    void fill() override;
    QByteArray csv() const override;

    const DeviationBars* bars() const { return bars_; }
    const LabelledPoints* points() const { return points_; }
    const ScoreMetric& metric() const;

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void buildPlot();
    void buildTable();
    void fillBars();
    void fillPoints();
    void fillTable();
    void fitRanges();
    void fitTable();
    struct Cell {
        QString text, tip;
        double value = std::numeric_limits<double>::quiet_NaN(); ///< that the column is sorted by; NaN: the text
    };
    /// `variant` is a place in the data's, or −1.
    void setRow(int row, const std::vector<Cell>& cells, int variant);
    std::vector<Cell> cellsOf(const ScoreSummary& scores, bool reference) const;
    std::vector<Cell> cellsOf(const Variant& variant) const;
    void addMethods(std::vector<LegendEntry>& entries) const;
    void pickRow(int row);
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;
    ReadoutText readoutOf(const Variant& variant) const;
    QString text(double value) const;

    QComboBox* metric_;
    QTableWidget* table_;
    Caption* leftOut_;
    DeviationBars* bars_ = nullptr;
    LabelledPoints* points_ = nullptr;
    QCPItemStraightLine* level_ = nullptr; ///< of the unquantized model, among the points
    QCPAxisRect* barPane_ = nullptr;
    QCPAxisRect* pointPane_ = nullptr;
    std::vector<Variant> shown_;        ///< those that the points stand for
    std::map<QString, bool> logChosen_; ///< by metric id, once the user has switched
};

} // namespace qs::gui
