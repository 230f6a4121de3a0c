#include "core/model/tokenizer_pipeline.h"

namespace qs {

namespace {

class Pipeline : public Tokenizer {
public:
    explicit Pipeline(TokenizerParts parts) : Tokenizer(parts.traits), parts_(std::move(parts)) {}

protected:
    void encode_text(std::string_view text, bool special, std::vector<TokenId>& ids) const override {
        for (const Segment& segment : parts_.raw_added.split(text, special))
            if (segment.id)
                ids.push_back(*segment.id);
            else
                encode_segment(text.substr(segment.begin, segment.end - segment.begin), segment.begin == 0, special,
                               ids);
    }

    std::vector<TokenId> front() const override { return parts_.front.empty() ? Tokenizer::front() : parts_.front; }
    std::vector<TokenId> back() const override { return parts_.back.empty() ? Tokenizer::back() : parts_.back; }

    std::string decode_bytes(std::span<const TokenId> ids, bool whole) const override {
        std::vector<std::string> tokens;
        for (const TokenId id : ids)
            tokens.push_back(parts_.texts[static_cast<std::size_t>(id)]);
        parts_.decoder(tokens, whole);
        std::string text;
        for (const std::string& token : tokens)
            text += token;
        return text;
    }

private:
    /// Text that holds no token of raw_added.
    void encode_segment(std::string_view segment, bool at_start, bool special, std::vector<TokenId>& ids) const {
        std::string text(segment);
        if (parts_.normalizer)
            parts_.normalizer(text);
        for (const Segment& part : parts_.normalized_added.split(text, special))
            if (part.id)
                ids.push_back(*part.id);
            else
                encode_words(text.substr(part.begin, part.end - part.begin), at_start && part.begin == 0, ids);
    }

    void encode_words(std::string text, bool at_start, std::vector<TokenId>& ids) const {
        std::vector<Piece> pieces;
        pieces.push_back({std::move(text), at_start});
        if (parts_.pre_tokenizer)
            parts_.pre_tokenizer(pieces);
        for (const Piece& piece : pieces)
            parts_.model->encode(piece.text, ids);
    }

    TokenizerParts parts_;
};

} // namespace

std::unique_ptr<Tokenizer> assemble(TokenizerParts parts) {
    parts.traits.size = parts.texts.size();
    return std::make_unique<Pipeline>(std::move(parts));
}

} // namespace qs
