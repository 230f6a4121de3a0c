#include <algorithm>
#include <fstream>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/resources.h"
#include "core/memory/config_card.h"

namespace qs {

namespace {

/// An id without regard to case and to what people put between its parts: "Qwen2.5-7B" is "qwen-2.5-7b".
std::string plain(std::string_view id) {
    std::string text;
    for (const char c : id)
        if (c != '-' && c != '_' && c != ' ')
            text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

/// One entry of the file: either a config of its own, or a round number of parameters over another entry's.
ModelCard read_card(const nlohmann::json& entry, const std::vector<ModelCard>& before, const std::string& file) {
    ModelCard card;
    if (entry.contains("config")) {
        card = card_of_config(entry.at("config"), file);
    } else {
        const auto base = entry.at("dimensions_of").get<std::string>();
        card = *std::ranges::find(before, base, &ModelCard::id);
        card.nominal = true;
        card.parameters = entry.at("parameters").get<std::uint64_t>();
    }
    card.id = entry.at("id").get<std::string>();
    card.title = entry.at("title").get<std::string>();
    card.source = entry.at("source").get<std::string>();
    return card;
}

std::vector<ModelCard> read_cards() {
    const auto path = resource_dir() / "model_cards.json";
    std::vector<ModelCard> cards;
    try {
        std::ifstream file(path);
        for (const nlohmann::json& entry : nlohmann::json::parse(file))
            cards.push_back(read_card(entry, cards, path.string()));
    } catch (const nlohmann::json::exception& error) {
        throw Error(path.string(), error.what(), "reinstall the program");
    }
    std::ranges::stable_partition(cards, &ModelCard::nominal);
    return cards;
}

} // namespace

const std::vector<ModelCard>& model_cards() {
    static const std::vector<ModelCard> cards = read_cards();
    return cards;
}

const ModelCard& model_card(const std::string& id) {
    std::vector<std::string> known;
    for (const ModelCard& card : model_cards()) {
        if (plain(card.id) == plain(id))
            return card;
        known.push_back(card.id);
    }
    throw Error("model '" + id + "'", "there is no such card", did_you_mean(id, known));
}

} // namespace qs
