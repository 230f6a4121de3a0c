#pragma once

#include <memory>
#include <optional>

#include "app/gui/plot/Drawn.h"
#include "core/analysis/bins.h"

namespace qs::gui {

/// One format's codebook over the axis of normalised weights: each bin filled to its share of the weights and coloured
/// by the error it contributes, decision boundaries as thin lines, levels as ticks at the foot. Of a single block also
/// its weights, as ticks at the top. The value axis is the share of weights in per cent.
class CodebookLane : public Drawn {
public:
    CodebookLane(QCPAxis* keyAxis, QCPAxis* valueAxis);

    void setReport(std::shared_ptr<const BinsReport> report);
    /// The same of one block, in the unit of its weights; `element` is the selected weight.
    void setBlock(std::shared_ptr<const BlockBins> block, std::uint64_t element);
    const BinsReport& report() const { return *report_; }
    /// The block that is shown, or null.
    const std::shared_ptr<const BlockBins>& block() const { return block_; }
    /// Colour of the ticks.
    void setTickColour(const QColor& colour) { tick_ = colour; }
    /// The error share that has the last colour of the map, the same in all lanes.
    void setTopError(double share) { topError_ = share; }
    /// The bin that the marker is in.
    void setMarked(std::optional<std::size_t> level) { marked_ = level; }

    std::size_t size() const { return report_->codebook.levels.size(); }
    /// Where a bin begins and ends; the outer ones end at the outer level's distance to its boundary.
    QCPRange bin(std::size_t level) const;
    /// Share of the weights, and of the squared error, in a bin (0 … 1).
    double weightShare(std::size_t level) const;
    double errorShare(std::size_t level) const;
    double largestWeightShare() const;
    double largestErrorShare() const;
    /// The bin under a position, if there is one.
    std::optional<std::size_t> levelAt(double position) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    QRectF rectOf(std::size_t level) const;
    void drawBoundaries(QCPPainter* painter) const;
    void drawLevels(QCPPainter* painter) const;
    void drawWeights(QCPPainter* painter) const;

    std::shared_ptr<const BinsReport> report_;
    std::shared_ptr<const BlockBins> block_;
    std::uint64_t element_ = 0;
    std::uint64_t weights_ = 0;
    double error_ = 0;
    double topError_ = 1;
    QColor tick_;
    std::optional<std::size_t> marked_;
};

} // namespace qs::gui
