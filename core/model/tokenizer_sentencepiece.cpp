#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer_added.h"
#include "core/model/tokenizer_precompiled.h"
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

/// Walks the fields of a protocol buffer whose values are length-delimited; skips the others.
class ProtoFields {
public:
    explicit ProtoFields(std::string_view message) : rest_(message) {}

    /// The values of all fields of a number, until the message ends or is damaged (which the library reports).
    std::vector<std::string_view> all(std::uint64_t number) {
        std::vector<std::string_view> values;
        while (!rest_.empty()) {
            const std::uint64_t key = varint();
            const std::string_view value = take(key & 7U);
            if ((key & 7U) == 2 && key >> 3 == number)
                values.push_back(value);
        }
        return values;
    }

    /// The value of the first field of a number that holds one number; nothing where there is none.
    std::optional<std::uint64_t> first_number(std::uint64_t number) {
        while (!rest_.empty()) {
            const std::uint64_t key = varint();
            if (key == number << 3)
                return varint();
            take(key & 7U);
        }
        return std::nullopt;
    }

private:
    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; !rest_.empty() && shift < 64; shift += 7) {
            const auto byte = static_cast<unsigned char>(rest_.front());
            rest_.remove_prefix(1);
            value |= std::uint64_t{byte & 0x7FU} << shift;
            if (byte < 0x80)
                return value;
        }
        rest_ = {};
        return 0;
    }

    std::string_view take(std::uint64_t wire_type) {
        if (wire_type == 0)
            return varint(), std::string_view{};
        const std::uint64_t length = wire_type == 2 ? varint() : wire_type == 1 ? 8 : wire_type == 5 ? 4 : rest_.size();
        const std::string_view value = rest_.substr(0, length);
        rest_.remove_prefix(value.size());
        return value;
    }

    std::string_view rest_;
};

/// The library follows the tables of character replacements without looking where they lead
/// (ModelProto.normalizer_spec and .denormalizer_spec, NormalizerSpec.precompiled_charsmap).
void check_tables(std::string_view model, const std::string& file) {
    for (const std::uint64_t normalizer : {3, 5})
        for (const std::string_view spec : ProtoFields(model).all(normalizer))
            for (const std::string_view table : ProtoFields(spec).all(2))
                if (!table.empty())
                    PrecompiledMap(table, file);
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

std::vector<GgufTokenType> sentencepiece_types(std::string_view model) {
    std::vector<GgufTokenType> types;
    for (const std::string_view piece : ProtoFields(model).all(1)) {
        const std::uint64_t type = ProtoFields(piece).first_number(3).value_or(1);
        const bool known = type <= static_cast<std::uint64_t>(GgufTokenType::byte);
        types.push_back(known ? static_cast<GgufTokenType>(type) : GgufTokenType::normal);
    }
    return types;
}

std::string sentencepiece_charsmap(std::string_view model) {
    for (const std::string_view normalizer : ProtoFields(model).all(3))
        for (const std::string_view table : ProtoFields(normalizer).all(2))
            return std::string(table);
    return {};
}

std::unique_ptr<Tokenizer> read_sentencepiece(const MappedFile& file) {
    const std::string path = file.path().string();
    auto processor = std::make_unique<SentencePieceProcessor>();
    check_tables(as_text(file.bytes()), path);
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
