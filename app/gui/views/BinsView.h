#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Background.h"
#include "app/gui/plot/BlockDots.h"
#include "app/gui/plot/CodebookLane.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/View.h"

class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QSpinBox;

namespace qs::gui {

/// The codebooks of the chosen formats on the real weights of a tensor: the density of the normalised weights above,
/// below it one lane a format with its levels, boundaries, how full each bin is and the error it contributes. A marker
/// crosses all lanes; each reports code, level and error of its value.
///
/// Or the same of one block, in the unit of the weights: each lane shows the block of its format that holds the
/// selected weight, its levels, its weights and which level each took.
class BinsView : public View {
    Q_OBJECT
public:
    explicit BinsView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Bins"); }
    Plot* activePlot() override { return plot_; }
    QByteArray csv() const override;

    /// Whether one block is shown instead of the whole tensor.
    bool showsBlock() const;
    /// The lanes from top to bottom.
    std::vector<const CodebookLane*> lanes() const;
    /// The weights of the selected format's block, while a block is shown that lists them; else null.
    const BlockDots* dots() const { return dots_; }
    /// The heading of a lane: levels used, entropy, bits, and of a block where it is and its scale.
    QString heading(std::size_t lane) const;
    /// What a lane says of the marker's value.
    QString reading(std::size_t lane) const;
    double marker() const { return marker_; }
    void setMarker(double value);

protected:
    void refresh() override;
    bool idle() const override { return !job_.busy() && queue_.empty(); }

private:
    /// What was measured: of a block both, of the whole tensor the report, of a format without codebook nothing.
    struct Measured {
        std::shared_ptr<const BinsReport> report;
        std::shared_ptr<const BlockBins> block;
    };
    struct Lane {
        FormatSpec spec;
        TextRow* heading;
        TextRow* facts; ///< of a block
        QCPAxisRect* pane;
        CodebookLane* plottable;
    };
    struct Key {
        const Checkpoint* checkpoint;
        std::size_t tensor;
        FormatSpec spec;
        std::optional<std::uint64_t> block; ///< its number
        auto operator<=>(const Key&) const = default;
    };
    /// What the panes are laid out for.
    struct Structure {
        std::vector<FormatSpec> specs;
        bool block = false;
        bool operator==(const Structure&) const = default;
    };

    void buildControls(QLayout* layout);
    Key keyOf(const FormatSpec& spec) const;
    const Measured* known(const FormatSpec& spec) const;
    TensorShape shape() const;
    void chooseBlock(int number);
    void measureNext();
    void rebuild();
    void layOut(const Structure& structure);
    int addLane(const FormatSpec& spec, int row);
    void addAxis(int row);
    void fillLanes();
    void fitAxis();
    void fitBlockAxis();
    void setMarkerRange(const QCPRange& range);
    void fillTop();
    void fillDensity(const CodebookLane& lane);
    void fillDots(std::shared_ptr<const BlockBins> block);
    void showKeys();
    void applyColours();
    void showHeadings();
    void showSelector();
    void placeMarker();
    void showMarker();
    void clickPane(QCPAxisRect* pane, QPointF position);
    std::size_t leadingLane() const;
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;
    std::optional<ReadoutText> readoutOfDot(double place) const;
    std::vector<ReadoutText::Row> binRows(const Lane& lane, std::size_t level) const;

    Plot* plot_;
    Caption* caption_;
    QLabel* note_;
    QComboBox* part_;
    QSpinBox* number_;
    QDoubleSpinBox* value_;
    QCPAxisRect* topPane_ = nullptr;
    QCPGraph* density_ = nullptr;
    BlockDots* dots_ = nullptr;
    ColourScale* scale_ = nullptr;
    std::vector<Lane> lanes_;
    Structure structure_;

    Background job_{this};
    std::deque<FormatSpec> queue_;
    std::map<Key, Measured> cache_;
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::optional<std::size_t> tensor_;
    std::optional<std::uint64_t> element_; ///< the weight whose blocks are shown; none for the whole tensor
    double marker_;
    double wholeMarker_;                         ///< where the marker stands on the normalised axis
    std::optional<std::uint64_t> markedElement_; ///< the weight that the marker was put on last
};

} // namespace qs::gui
