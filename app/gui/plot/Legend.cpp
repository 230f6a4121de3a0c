#include "app/gui/plot/Legend.h"

#include <algorithm>
#include <cmath>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr double mark_width = 18;
constexpr double gap = 6;
constexpr double between = 16;

double lineHeight(const QCustomPlot* plot) {
    return QFontMetricsF(plot->font()).height();
}

QFont boldFont(const QCustomPlot* plot, bool bold) {
    QFont font = plot->font();
    font.setBold(bold);
    return font;
}

/// An element as wide as its cell and `lines` of text high.
QSize oneLine(const QCPLayoutElement* element, double lines = 1) {
    const double height = lines * (lineHeight(element->parentPlot()) + 4);
    const QMargins margins = element->margins();
    return {0, static_cast<int>(std::ceil(height)) + margins.top() + margins.bottom()};
}

} // namespace

// --- Legend

Legend::Legend(QCustomPlot* plot) : QCPLayoutElement(plot) {
    setMargins(QMargins(8, 6, 8, 2));
    setLayer("legend");
}

void Legend::setEntries(std::vector<LegendEntry> entries) {
    entries_ = std::move(entries);
}

void Legend::setOn(const QString& key, bool on) {
    if (on)
        off_.remove(key);
    else
        off_.insert(key);
}

void Legend::setHovered(const QString& key) {
    hovered_ = key;
}

QSizeF Legend::sizeOf(const LegendEntry& entry) const {
    const QFontMetricsF metrics(boldFont(mParentPlot, entry.strong));
    return {mark_width + gap + metrics.horizontalAdvance(entry.name), metrics.height() + 4};
}

std::vector<QRectF> Legend::arrange(double width) const {
    std::vector<QRectF> rects;
    double x = 0, y = 0;
    for (const LegendEntry& entry : entries_) {
        const QSizeF size = sizeOf(entry);
        if (x > 0 && x + size.width() > width) {
            x = 0;
            y += size.height();
        }
        rects.emplace_back(QPointF(x, y), size);
        x += size.width() + between;
    }
    return rects;
}

const LegendEntry* Legend::entryAt(const QPointF& position) const {
    const auto rects = arrange(rect().width());
    for (std::size_t i = 0; i < entries_.size(); ++i)
        if (rects[i].translated(rect().topLeft()).adjusted(-4, 0, 4, 0).contains(position))
            return &entries_[i];
    return nullptr;
}

QRectF Legend::entryRect(const QString& key) const {
    const auto rects = arrange(rect().width());
    for (std::size_t i = 0; i < entries_.size(); ++i)
        if (entries_[i].key == key)
            return rects[i].translated(rect().topLeft());
    return {};
}

QSize Legend::minimumOuterSizeHint() const {
    if (entries_.empty())
        return {0, 0};
    const auto rects = arrange(mParentPlot->viewport().width() - margins().left() - margins().right());
    const auto height = static_cast<int>(std::ceil(rects.back().bottom()));
    return {0, height + margins().top() + margins().bottom()};
}

QSize Legend::maximumOuterSizeHint() const {
    return {QWIDGETSIZE_MAX, minimumOuterSizeHint().height()};
}

void Legend::draw(QCPPainter* painter) {
    const Theme& theme = Theme::instance();
    const auto rects = arrange(rect().width());
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        const LegendEntry& entry = entries_[i];
        const QRectF place = rects[i].translated(rect().topLeft());
        const bool on = isOn(entry.key);
        QFont font = boldFont(mParentPlot, entry.strong);
        font.setUnderline(entry.toggles && entry.key == hovered_);
        painter->setFont(font);
        drawMark(painter, entry, QRectF(place.left(), place.top(), mark_width, place.height()));
        painter->setPen(on ? theme.text() : theme.mutedText());
        painter->drawText(place.adjusted(mark_width + gap, 0, 40, 0), Qt::AlignVCenter | Qt::AlignLeft, entry.name);
    }
}

void Legend::drawMark(QCPPainter* painter, const LegendEntry& entry, const QRectF& rect) const {
    const QRectF box = QRectF(rect.left(), rect.center().y() - 5, rect.width(), 10);
    QColor pale = entry.colour;
    painter->setAntialiasing(true);
    if (!isOn(entry.key)) {
        // Off: an empty ring, so that colour is not the only sign.
        painter->setPen(QPen(entry.colour, 1.2));
        painter->setBrush(Qt::NoBrush);
        painter->drawEllipse(box.center(), 4, 4);
        return;
    }
    switch (entry.mark) {
    case LegendEntry::Mark::line:
        painter->setPen(QPen(entry.colour, entry.strong ? 2.5 : 1.5, entry.style));
        painter->drawLine(QPointF(box.left(), box.center().y()), QPointF(box.right(), box.center().y()));
        break;
    case LegendEntry::Mark::area:
        pale.setAlphaF(0.35F);
        painter->fillRect(box, pale);
        painter->setPen(QPen(entry.colour, 1.5));
        painter->drawLine(box.topLeft(), box.topRight());
        break;
    case LegendEntry::Mark::block:
        painter->fillRect(box, entry.colour);
        break;
    case LegendEntry::Mark::hatched:
        painter->fillRect(box, QBrush(entry.colour, Qt::BDiagPattern));
        painter->setPen(QPen(entry.colour, 1));
        painter->setBrush(Qt::NoBrush);
        painter->drawRect(box);
        break;
    case LegendEntry::Mark::dot:
        painter->setPen(Qt::NoPen);
        painter->setBrush(entry.colour);
        painter->drawEllipse(box.center(), 3.5, 3.5);
        break;
    case LegendEntry::Mark::ring:
        painter->setPen(QPen(entry.colour, 1.8));
        painter->setBrush(Qt::NoBrush);
        painter->drawEllipse(box.center(), 5, 5);
        break;
    case LegendEntry::Mark::shape:
        QCPScatterStyle(entry.shape, QPen(entry.colour, 1.5), QBrush(entry.colour), 8).applyTo(painter, {});
        QCPScatterStyle(entry.shape, QPen(entry.colour, 1.5), QBrush(entry.colour), 8).drawShape(painter, box.center());
        break;
    case LegendEntry::Mark::tick:
        painter->setPen(QPen(entry.colour, 2));
        painter->drawLine(QPointF(box.center().x(), box.top() - 2), QPointF(box.center().x(), box.bottom() + 2));
        break;
    }
}

// --- ColourScale

ColourScale::ColourScale(QCustomPlot* plot) : QCPLayoutElement(plot) {
    setMargins(QMargins(8, 2, 14, 4));
    setLayer("legend");
}

void ColourScale::setRange(const QString& name, const QString& low, const QString& high) {
    name_ = name;
    low_ = low;
    high_ = high;
}

QSize ColourScale::minimumOuterSizeHint() const {
    return name_.isEmpty() ? QSize(0, 0) : oneLine(this);
}
QSize ColourScale::maximumOuterSizeHint() const {
    return {QWIDGETSIZE_MAX, minimumOuterSizeHint().height()};
}

void ColourScale::draw(QCPPainter* painter) {
    if (name_.isEmpty())
        return;
    const Theme& theme = Theme::instance();
    const QFontMetricsF metrics(mParentPlot->font());
    constexpr double strip = 140;
    constexpr int steps = 70;
    const double right = rect().right();
    const double highWidth = metrics.horizontalAdvance(high_), lowWidth = metrics.horizontalAdvance(low_);
    const QRectF bar(right - highWidth - gap - strip, rect().center().y() - 4.5, strip, 10);
    painter->setAntialiasing(false);
    for (int i = 0; i < steps; ++i)
        painter->fillRect(QRectF(bar.left() + i * strip / steps, bar.top(), strip / steps + 0.5, bar.height()),
                          Theme::sequential((i + 0.5) / steps));
    painter->setFont(mParentPlot->font());
    painter->setPen(theme.mutedText());
    const auto text = [&](double left, double width, const QString& value) {
        painter->drawText(QRectF(left, rect().top(), width + 2, rect().height()), Qt::AlignVCenter | Qt::AlignLeft,
                          value);
    };
    text(right - highWidth, highWidth, high_);
    text(bar.left() - gap - lowWidth, lowWidth, low_);
    const double nameEnd = bar.left() - 3 * gap - lowWidth;
    const QString name = metrics.elidedText(name_, Qt::ElideRight, std::max(0.0, nameEnd - rect().left()));
    text(nameEnd - metrics.horizontalAdvance(name), metrics.horizontalAdvance(name), name);
}

// --- TextRow

TextRow::TextRow(QCustomPlot* plot) : QCPLayoutElement(plot) {
    setMargins(QMargins(8, 2, 14, 0));
    setLayer("legend");
}

void TextRow::setParts(std::vector<Part> parts) {
    parts_ = std::move(parts);
}

QString TextRow::text() const {
    QStringList texts;
    for (const Part& part : parts_)
        texts << part.text;
    return texts.join(QStringLiteral("  "));
}

QSize TextRow::minimumOuterSizeHint() const {
    return parts_.empty() ? QSize(0, 0) : oneLine(this);
}
QSize TextRow::maximumOuterSizeHint() const {
    return {QWIDGETSIZE_MAX, minimumOuterSizeHint().height()};
}

void TextRow::draw(QCPPainter* painter) {
    const Theme& theme = Theme::instance();
    double left = rect().left(), right = rect().right();
    painter->setAntialiasing(false);
    // What stands at the right has its room first.
    auto ordered = parts_;
    std::ranges::stable_partition(ordered, [](const Part& part) { return part.right; });
    for (const Part& part : ordered) {
        if (part.text.isEmpty())
            continue;
        const QFont font = boldFont(mParentPlot, part.strong);
        const QFontMetricsF metrics(font);
        const double swatch = part.swatch ? 16 : 0;
        const double room = std::max(0.0, right - left - swatch);
        const QString text = metrics.elidedText(part.text, Qt::ElideRight, room);
        const double width = metrics.horizontalAdvance(text) + swatch + 2;
        const double at = part.right ? right - width : left;
        if (part.swatch)
            painter->fillRect(QRectF(at, rect().center().y() - 4.5, 11, 11), part.colour.value_or(theme.text()));
        painter->setFont(font);
        painter->setPen(part.swatch ? theme.text() : part.colour.value_or(theme.text()));
        painter->drawText(QRectF(at + swatch, rect().top(), width - swatch, rect().height()),
                          Qt::AlignVCenter | Qt::AlignLeft, text);
        if (part.right)
            right -= width + between;
        else
            left += width + between - 4;
    }
}

} // namespace qs::gui
