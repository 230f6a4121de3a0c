#pragma once

#include <qcustomplot.h>

#include <optional>
#include <vector>

namespace qs::gui {

/// What the readout under the cursor says.
struct ReadoutText {
    struct Row {
        std::optional<QColor> colour;
        QString name, value;
    };
    QString title;
    std::vector<Row> rows;
    bool hairLine = true;            ///< a vertical line through the pane at the cursor
    std::optional<double> hairPixel; ///< or here, where values stand at places of their own
    QString note;                    ///< a sentence below the rows; may be empty

    QString plainText() const;
};

/// Hair line, readout, marker and note of a plot: drawn in a paint buffer of their own, so that following the mouse
/// does not draw the data again.
class Overlay : public QCPLayerable {
    Q_OBJECT
public:
    explicit Overlay(QCustomPlot* plot);

    void showReadout(const ReadoutText& text, QCPAxisRect* pane, const QPointF& cursor);
    void hideReadout();
    const ReadoutText& readout() const { return readout_; }

    void setMarker(std::optional<double> x) { marker_ = x; }
    std::optional<double> marker() const { return marker_; }
    /// Pixel of the marker along x, if it is inside the panes.
    std::optional<double> markerPixel() const;

    void setNote(const QString& text) { note_ = text; }
    const QString& note() const { return note_; }

    /// An export shows the marker but not what follows the mouse.
    void setExporting(bool exporting) { exporting_ = exporting; }

protected:
    void applyDefaultAntialiasingHint(QCPPainter* painter) const override;
    void draw(QCPPainter* painter) override;
    QRect clipRect() const override;

private:
    void drawMarker(QCPPainter* painter) const;
    void drawHairLine(QCPPainter* painter) const;
    void drawCard(QCPPainter* painter) const;
    void drawNote(QCPPainter* painter) const;

    ReadoutText readout_;
    QPointer<QCPAxisRect> pane_;
    QPointF cursor_;
    std::optional<double> marker_;
    QString note_;
    bool exporting_ = false;
};

} // namespace qs::gui
