#pragma once

#include <qcustomplot.h>

#include <optional>
#include <vector>

namespace qs::gui {

/// One entry of a legend.
struct LegendEntry {
    enum class Mark { line, area, block, hatched, tick, dot, ring, shape };
    QString key; ///< what legendToggled() and legendHovered() say
    QString name;
    QColor colour;
    Mark mark = Mark::line;
    bool toggles = true; ///< a click shows or hides the series
    bool strong = false; ///< the selected format: in bold
    Qt::PenStyle style = Qt::SolidLine;
    QCPScatterStyle::ScatterShape shape = QCPScatterStyle::ssDisc; ///< of Mark::shape
};

/// The legend of a plot: one row of entries above the data, or more where one is too narrow. It covers no data.
class Legend : public QCPLayoutElement {
    Q_OBJECT
public:
    explicit Legend(QCustomPlot* plot);

    void setEntries(std::vector<LegendEntry> entries);
    const std::vector<LegendEntry>& entries() const { return entries_; }
    bool isOn(const QString& key) const { return !off_.contains(key); }
    void setOn(const QString& key, bool on);
    QString hovered() const { return hovered_; }
    void setHovered(const QString& key);

    /// The entry at a point of the plot widget, or null.
    const LegendEntry* entryAt(const QPointF& position) const;
    /// Where an entry lies in the plot widget; empty if there is no such entry.
    QRectF entryRect(const QString& key) const;

    QSize minimumOuterSizeHint() const override;
    QSize maximumOuterSizeHint() const override;

protected:
    void draw(QCPPainter* painter) override;

private:
    /// Rects of the entries for a width, relative to the top left corner.
    std::vector<QRectF> arrange(double width) const;
    QSizeF sizeOf(const LegendEntry& entry) const;
    void drawMark(QCPPainter* painter, const LegendEntry& entry, const QRectF& rect) const;

    std::vector<LegendEntry> entries_;
    QSet<QString> off_;
    QString hovered_;
};

/// What the colours of a map mean: a strip of them with the values at its ends, as high as a line of text.
class ColourScale : public QCPLayoutElement {
    Q_OBJECT
public:
    explicit ColourScale(QCustomPlot* plot);

    /// `name` says the quantity; the texts stand at the ends of the strip.
    void setRange(const QString& name, const QString& low, const QString& high);

    QSize minimumOuterSizeHint() const override;
    QSize maximumOuterSizeHint() const override;

protected:
    void draw(QCPPainter* painter) override;

private:
    QString name_, low_, high_;
};

/// A line of text in the layout: the title of a pane. Parts are drawn one after another, each in its own colour.
class TextRow : public QCPLayoutElement {
    Q_OBJECT
public:
    struct Part {
        QString text;
        std::optional<QColor> colour; ///< nullopt: the theme's text
        bool strong = false;
        bool swatch = false; ///< a square of the colour in front, the text itself in the theme's text
        bool right = false;  ///< set against the right edge
    };
    explicit TextRow(QCustomPlot* plot);

    void setParts(std::vector<Part> parts);
    QString text() const;

    QSize minimumOuterSizeHint() const override;
    QSize maximumOuterSizeHint() const override;

protected:
    void draw(QCPPainter* painter) override;

private:
    std::vector<Part> parts_;
};

} // namespace qs::gui
