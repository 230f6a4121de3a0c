#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Metric.h"
#include "app/gui/plot/HeatMap.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/View.h"

class QComboBox;

namespace qs::gui {

/// The error over the layers: a line per format, all tensors of a layer together or a small plot per role; below it a
/// heat map of formats over layers, or of roles over layers for the selected format. A click selects.
class LayersView : public View {
    Q_OBJECT
public:
    explicit LayersView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Layers"); }
    Plot* activePlot() override { return plot_; }
    QByteArray csv() const override;

    /// A place on the axis: a layer, or the tensors outside the layers that share a role, or one tensor where a model
    /// has no layers.
    struct Place {
        QString name; ///< "layer 3", "token_embedding", …
        QString tick; ///< on the axis
        std::optional<int> layer;
        std::optional<Role> role;
        std::vector<std::size_t> tensors;
    };
    const std::vector<Place>& places() const { return places_; }
    /// Value of a metric for a format at a place; NaN where nothing has been measured.
    double value(const FormatSpec& spec, const Place& place, const Metric& metric) const;
    const HeatMap* heatMap() const { return heat_; }
    const Metric& metric() const;

protected:
    void refresh() override;
    bool idle() const override { return !session()->running(); }

private:
    enum class Lines { together, by_role };
    enum class Heat { formats, roles };
    /// What a change of which lays the panes out anew.
    struct Structure {
        const Checkpoint* checkpoint = nullptr;
        std::vector<FormatSpec> formats;
        Lines lines = Lines::together;
        Heat heat = Heat::formats;
        std::size_t places = 0, roles = 0;
        bool operator==(const Structure&) const = default;
    };
    struct Line {
        FormatSpec spec;
        std::optional<Role> role;
        QCPAxisRect* pane;
        QCPGraph* graph;
    };

    void buildControls(QLayout* layout);
    void findPlaces();
    void layOut();
    QCPAxisRect* addLinePane(QCPAxisRect* pane, std::optional<Role> role, bool named);
    void addRolePanes();
    void addHeatPane(int row);
    void fill();
    void fillLines();
    void fillHeat();
    void fitValues();
    void showSelection();
    void applyColours();
    bool lineOn(const FormatSpec& spec) const;
    const FormatResult* resultAt(const FormatSpec& spec, const Place& place) const;
    /// Tensors of a role in a layer, in one result.
    double roleValue(const FormatSpec& spec, Role role, int layer, const Metric& metric) const;
    std::vector<std::size_t> tensorsOf(Role role, int layer) const;
    std::optional<std::size_t> placeOf(std::size_t tensor) const;
    QString valueText(double value) const;
    void select(const std::vector<std::size_t>& tensors, std::optional<FormatSpec> spec);
    void click(QCPAxisRect* pane, QPointF position);
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;
    std::optional<Role> roleOf(const QCPAxisRect* pane) const;
    int firstLayer() const;

    Plot* plot_;
    QComboBox* metric_;
    QComboBox* linesChoice_;
    QComboBox* heatChoice_;
    Caption* caption_;
    QCPAxisRect* heatPane_ = nullptr;
    HeatMap* heat_ = nullptr;
    ColourScale* scale_ = nullptr;
    std::vector<QCPAxisRect*> linePanes_;
    std::vector<QCPItemRect*> bands_;
    std::vector<Line> lines_;

    std::shared_ptr<const Checkpoint> checkpoint_;
    Structure structure_;
    std::vector<Place> places_;
    std::vector<Role> roles_; ///< inside layers, in the order of the file
    int layers_ = 0;
    std::map<QString, bool> logChosen_; ///< by metric id, once the user has switched
};

} // namespace qs::gui
