#include "app/gui/plot/TokenText.h"

#include <cmath>

#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr double line_gap = 5;
constexpr double margin = 3;
/// So that the text keeps its contrast on the deepest tint.
constexpr double deepest_tint = 0.38;

/// Line breaks as a mark, so that each token is seen.
QString shownText(QString text) {
    return text.replace('\n', QStringLiteral("⏎")).replace('\t', QStringLiteral("⇥"));
}

QStringList words(const QString& text) {
    QStringList words;
    qsizetype begin = 0;
    for (qsizetype i = 1; i <= text.size(); ++i)
        if (i == text.size() || (text[i] == ' ' && text[i - 1] != ' ')) {
            words += text.mid(begin, i - begin);
            begin = i;
        }
    return words;
}

} // namespace

std::vector<TokenText::Piece> TokenText::arrange(double width, std::size_t* first_token) const {
    const QFontMetricsF metrics(mParentPlot->font());
    const double height = metrics.height() + 2;
    std::vector<Piece> pieces;
    QPointF at(margin, margin);
    const auto add = [&](const QString& text) {
        const double advance = std::max(metrics.horizontalAdvance(text), 2.0);
        if (at.x() + advance > width - margin && at.x() > margin)
            at = {margin, at.y() + height + line_gap};
        pieces.push_back({QRectF(at, QSizeF(advance, height)), text});
        at.rx() += advance;
    };
    for (const QString& word : words(shownText(prompt_)))
        add(word);
    if (first_token)
        *first_token = pieces.size();
    for (const Token& token : tokens_)
        add(shownText(token.text));
    return pieces;
}

int TokenText::heightFor(double width) const {
    const std::vector<Piece> pieces = arrange(width);
    const double bottom = pieces.empty() ? QFontMetricsF(mParentPlot->font()).height() : pieces.back().rect.bottom();
    return static_cast<int>(std::ceil(bottom + margin + line_gap));
}

QRectF TokenText::rectOf(std::size_t token) const {
    std::size_t first = 0;
    const QRect room = clipRect();
    const std::vector<Piece> pieces = arrange(room.width(), &first);
    return first + token < pieces.size() ? pieces[first + token].rect.translated(room.topLeft()) : QRectF();
}

std::optional<std::size_t> TokenText::tokenAt(QPointF pixel) const {
    std::size_t first = 0;
    const QRect room = clipRect();
    const std::vector<Piece> pieces = arrange(room.width(), &first);
    for (std::size_t i = first; i < pieces.size(); ++i)
        if (pieces[i].rect.contains(pixel - room.topLeft()))
            return i - first;
    return std::nullopt;
}

void TokenText::draw(QCPPainter* painter) {
    std::size_t first = 0;
    const QRect room = clipRect();
    const std::vector<Piece> pieces = arrange(room.width(), &first);
    painter->setFont(mParentPlot->font());
    painter->setAntialiasing(true);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const QRectF rect = pieces[i].rect.translated(room.topLeft());
        if (i >= first) {
            QColor tint = colour_;
            tint.setAlphaF(static_cast<float>(deepest_tint * tokens_[i - first].probability));
            painter->fillRect(rect.adjusted(0.5, 0, -0.5, 0), tint);
        }
        painter->setPen(i < first ? Theme::instance().mutedText() : Theme::instance().text());
        painter->drawText(rect, Qt::AlignVCenter | Qt::AlignLeft | Qt::TextSingleLine, pieces[i].text);
        if (framed_ && i == first + *framed_) {
            painter->setPen(QPen(Theme::instance().text(), 1.6));
            painter->setBrush(Qt::NoBrush);
            painter->drawRoundedRect(rect.adjusted(0, -1, 0, 1), 2, 2);
        }
    }
}

} // namespace qs::gui
