#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Background.h"
#include "app/gui/plot/CodebookLane.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/View.h"

class QDoubleSpinBox;
class QLabel;

namespace qs::gui {

/// The codebooks of the chosen formats on the real weights of a tensor: the density of the normalised weights above,
/// below it one lane a format with its levels, boundaries, how full each bin is and the error it contributes. A marker
/// crosses all lanes; each reports code, level and error of its value.
class BinsView : public View {
    Q_OBJECT
public:
    explicit BinsView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Bins"); }
    Plot* activePlot() override { return plot_; }
    QByteArray csv() const override;

    /// The lanes from top to bottom.
    std::vector<const CodebookLane*> lanes() const;
    /// The heading of a lane: levels used, entropy, bits.
    QString heading(std::size_t lane) const { return lanes_[lane].heading->text(); }
    /// What a lane says of the marker's value.
    QString reading(std::size_t lane) const;
    double marker() const;
    void setMarker(double value);

protected:
    void refresh() override;
    bool idle() const override { return !job_.busy() && queue_.empty(); }

private:
    using Report = std::shared_ptr<const BinsReport>;
    struct Lane {
        FormatSpec spec;
        TextRow* heading;
        QCPAxisRect* pane;
        CodebookLane* plottable;
    };
    struct Key {
        const Checkpoint* checkpoint;
        std::size_t tensor;
        FormatSpec spec;
        auto operator<=>(const Key&) const = default;
    };

    void buildControls(QLayout* layout);
    void measureNext();
    void rebuild();
    void addLane(const FormatSpec& spec, Report report, int row);
    void addAxis(int row);
    void fillLanes();
    void fillDensity();
    void applyColours();
    void showHeadings();
    void showMarker();
    std::optional<Report> known(const FormatSpec& spec) const;
    std::optional<std::size_t> densityLane() const;
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;

    Plot* plot_;
    Caption* caption_;
    QLabel* note_;
    QDoubleSpinBox* value_;
    QCPAxisRect* densityPane_ = nullptr;
    QCPGraph* density_ = nullptr;
    ColourScale* scale_ = nullptr;
    std::vector<Lane> lanes_;

    Background job_{this};
    std::deque<FormatSpec> queue_;
    std::map<Key, Report> cache_; ///< a null report: the format has no codebook
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::optional<std::size_t> tensor_;
};

} // namespace qs::gui
