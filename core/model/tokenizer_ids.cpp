#include <charconv>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/checkpoint/text.h"
#include "core/model/tokenizer.h"

namespace qs {

namespace {

class IdTokenizer : public Tokenizer {
public:
    explicit IdTokenizer(TokenizerTraits traits) : Tokenizer(std::move(traits)) {}

protected:
    void encode_text(std::string_view text, bool, std::vector<TokenId>& ids) const override {
        constexpr std::string_view space = " \t\r\n";
        for (std::size_t at = text.find_first_not_of(space); at != std::string_view::npos;
             at = text.find_first_not_of(space, at)) {
            const std::string_view word = text.substr(at, text.find_first_of(space, at) - at);
            ids.push_back(number(word));
            at += word.size();
        }
    }

    std::string decode_bytes(std::span<const TokenId> ids, bool) const override {
        std::string text;
        for (const TokenId id : ids)
            text += fmt::format("{}{}", text.empty() ? "" : " ", id);
        return text;
    }

private:
    TokenId number(std::string_view word) const {
        std::uint32_t value = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (error != std::errc{} || end != word.data() + word.size() || value >= traits().size)
            throw Error("",
                        fmt::format("the text holds '{}', which is not a token id from 0 to {}", printable(word),
                                    traits().size - 1),
                        "a model without a tokenizer takes token ids between spaces");
        return static_cast<TokenId>(value);
    }
};

} // namespace

std::unique_ptr<Tokenizer> id_tokenizer(std::size_t size) {
    TokenizerTraits traits;
    traits.kind = "token ids";
    traits.size = size;
    return std::make_unique<IdTokenizer>(std::move(traits));
}

} // namespace qs
