#pragma once

#include <optional>
#include <vector>

#include "app/gui/plot/Drawn.h"

namespace qs::gui {

/// A text of tokens, broken into lines over the width of its pane and drawn in pixels: each token on a tint as deep as
/// it is probable, one of them framed.
class TokenText : public Drawn {
public:
    TokenText(QCPAxis* keyAxis, QCPAxis* valueAxis) : Drawn(keyAxis, valueAxis) {}

    struct Token {
        QString text;
        double probability = 0;
    };
    /// What stands before the tokens, in muted colour.
    void setPrompt(const QString& prompt) { prompt_ = prompt; }
    void setTokens(std::vector<Token> tokens) { tokens_ = std::move(tokens); }
    const std::vector<Token>& tokens() const { return tokens_; }
    void setColour(const QColor& colour) { colour_ = colour; }
    void setFramed(std::optional<std::size_t> token) { framed_ = token; }
    std::optional<std::size_t> framed() const { return framed_; }

    /// The token under a position, and where it is drawn.
    std::optional<std::size_t> tokenAt(QPointF pixel) const;
    QRectF rectOf(std::size_t token) const;
    /// Of all lines in a pane of this width.
    int heightFor(double width) const;

protected:
    void draw(QCPPainter* painter) override;

private:
    struct Piece {
        QRectF rect; ///< relative to the top left corner
        QString text;
    };
    /// The prompt's words, then the tokens.
    std::vector<Piece> arrange(double width, std::size_t* first_token = nullptr) const;

    QString prompt_;
    std::vector<Token> tokens_;
    std::optional<std::size_t> framed_;
    QColor colour_;
};

} // namespace qs::gui
