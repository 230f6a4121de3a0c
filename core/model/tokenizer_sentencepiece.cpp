#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_added.h"
#include "core/model/tokenizer_readers.h"
#include "core/model/tokenizer_unicode.h"

namespace qs {

namespace {

using sentencepiece::SentencePieceProcessor;

std::optional<TokenId> id_or_none(int id) {
    return id >= 0 ? std::optional<TokenId>(id) : std::nullopt;
}

void require(const sentencepiece::util::Status& status, const std::string& file) {
    if (!status.ok())
        throw Error(file, fmt::format("the sentencepiece library refuses it: {}", printable(status.ToString())));
}

class SentencePiece : public Tokenizer {
public:
    SentencePiece(TokenizerTraits traits, std::unique_ptr<const SentencePieceProcessor> processor)
        : Tokenizer(std::move(traits)), processor_(std::move(processor)) {
        for (int id = 0; id < processor_->GetPieceSize(); ++id)
            if (processor_->IsControl(id))
                control_.add({.id = id, .text = processor_->IdToPiece(id), .special = true});
    }

protected:
    void encode_text(std::string_view text, bool special, std::vector<TokenId>& ids) const override {
        for (const Segment& segment : control_.split(text, special)) {
            if (segment.id) {
                ids.push_back(*segment.id);
                continue;
            }
            std::vector<int> part;
            require(processor_->Encode(text.substr(segment.begin, segment.end - segment.begin), &part), traits().file);
            ids.insert(ids.end(), part.begin(), part.end());
        }
    }

    std::string decode_bytes(std::span<const TokenId> ids, bool whole) const override {
        if (!whole)
            return lone_piece(ids.front());
        std::string text;
        std::vector<int> run; // the library leaves control tokens out
        const auto flush = [&] {
            std::string part;
            require(processor_->Decode(run, &part), traits().file);
            text += part;
            run.clear();
        };
        for (const TokenId id : ids) {
            if (!processor_->IsControl(id)) {
                run.push_back(id);
                continue;
            }
            flush();
            text += processor_->IdToPiece(id);
        }
        flush();
        return text;
    }

private:
    std::string lone_piece(TokenId id) const {
        std::string text = processor_->IdToPiece(id);
        if (const auto byte = processor_->IsByte(id) ? byte_of_token(text) : std::nullopt)
            return {*byte};
        replace_all(text, metaspace, " ");
        return text;
    }

    std::unique_ptr<const SentencePieceProcessor> processor_;
    AddedTokens control_;
};

} // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(const MappedFile& file) {
    const std::string path = file.path().string();
    auto processor = std::make_unique<SentencePieceProcessor>();
    require(processor->LoadFromSerializedProto(as_text(file.bytes())), path);
    const SpecialTokens config = special_tokens_in(file.path().parent_path());
    TokenizerTraits traits{.kind = "SentencePiece",
                           .file = path,
                           .size = static_cast<std::size_t>(processor->GetPieceSize()),
                           .bos = id_or_none(processor->bos_id()),
                           .eos = id_or_none(processor->eos_id()),
                           .unk = id_or_none(processor->unk_id())};
    traits.adds_bos = traits.bos && config.adds_bos.value_or(true);
    traits.adds_eos = traits.eos && config.adds_eos.value_or(false);
    return std::make_unique<SentencePiece>(std::move(traits), std::move(processor));
}

} // namespace qs
