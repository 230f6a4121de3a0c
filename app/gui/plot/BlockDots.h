#pragma once

#include <memory>
#include <optional>

#include "app/gui/plot/Drawn.h"
#include "core/analysis/bins.h"

namespace qs::gui {

/// The weights of a block one below the other, in their order: a grey dot at each weight and a line from it to the
/// level that it took. The value axis is the place in the block.
class BlockDots : public Drawn {
public:
    BlockDots(QCPAxis* keyAxis, QCPAxis* valueAxis);

    /// A block whose weights are listed; `marked` is the place of the selected one.
    void setBlock(std::shared_ptr<const BlockBins> block, std::uint64_t marked);
    const BlockBins* block() const { return block_.get(); }
    /// Of the levels.
    void setColour(const QColor& colour) { colour_ = colour; }
    /// The place under a value of the axis, if the block has it.
    std::optional<std::size_t> placeAt(double value) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    std::shared_ptr<const BlockBins> block_;
    std::uint64_t marked_ = 0;
    QColor colour_;
};

} // namespace qs::gui
