#include "core/model/skills.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"
#include "core/checkpoint/text.h"
#include "core/device/with_layer_math.h"

namespace qs {

namespace {

constexpr std::size_t longest_answer = 12;

std::string answer_of(Session& session, const Tokenizer& tokenizer, const std::vector<int>& prompt, JobControl& job) {
    session.rewind(0);
    RowVector logits = session.feed(prompt, job);
    Sampler greedy({});
    std::vector<int> ids;
    while (true) {
        ids.push_back(greedy.choose(logits));
        const std::string text = tokenizer.decode(ids);
        if (const std::size_t stop = text.find('.'); stop != std::string::npos)
            return text.substr(0, stop + 1);
        if (ids.size() == longest_answer)
            return {};
        logits = session.feed(std::span(&ids.back(), 1), job);
    }
}

std::size_t longest_prompt(const std::vector<std::vector<std::vector<int>>>& prompts) {
    std::size_t longest = 0;
    for (const auto& skill : prompts)
        for (const auto& prompt : skill)
            longest = std::max(longest, prompt.size());
    return longest;
}

} // namespace

std::vector<Skill> read_skills(const std::filesystem::path& file) {
    const auto mapped = MappedFile::open(file);
    const std::string_view text = as_text(mapped->bytes());
    const auto json = nlohmann::ordered_json::parse(text.begin(), text.end(), nullptr, false);
    std::vector<Skill> skills;
    try {
        for (const auto& [name, items] : json.items()) {
            Skill& skill = skills.emplace_back(Skill{name, {}});
            for (const auto& item : items)
                skill.items.push_back({item.at("prompt"), item.at("answer")});
        }
    } catch (const nlohmann::json::exception&) {
        skills.clear();
    }
    if (skills.empty())
        throw Error(file.string(), "is not a list of prompts and answers by skill");
    return skills;
}

std::optional<ModelMaterial> material_of(const Checkpoint& checkpoint) {
    namespace fs = std::filesystem;
    const fs::path folder = fs::is_directory(checkpoint.path) ? checkpoint.path : checkpoint.path.parent_path();
    ModelMaterial material{folder / "eval.txt", folder / "skills.json"};
    const bool there = fs::is_regular_file(material.text) && fs::is_regular_file(material.skills);
    return there ? std::optional(std::move(material)) : std::nullopt;
}

std::filesystem::path general_text() {
    return resource_dir() / "text" / "general.txt";
}

std::filesystem::path usual_text(const Checkpoint& checkpoint) {
    const auto material = material_of(checkpoint);
    return material ? material->text : general_text();
}

double SkillScore::share() const {
    return asked > 0 ? static_cast<double>(right) / static_cast<double>(asked) : 0;
}

double SkillScore::share_stderr() const {
    return asked > 0 ? std::sqrt(share() * (1 - share()) / static_cast<double>(asked)) : 0;
}

namespace {

using Prompts = std::vector<std::vector<std::vector<int>>>; ///< of each item of each skill

std::vector<SkillScore> scores_of(Session session, const Tokenizer& tokenizer, const std::vector<Skill>& skills,
                                  const Prompts& prompts, JobControl& job) {
    std::vector<SkillScore> scores;
    for (std::size_t i = 0; i < skills.size(); ++i) {
        SkillScore& score = scores.emplace_back(SkillScore{skills[i].name, 0, 0});
        for (std::size_t j = 0; j < skills[i].items.size(); ++j) {
            score.right += answer_of(session, tokenizer, prompts[i][j], job) == skills[i].items[j].answer;
            ++score.asked;
        }
    }
    return scores;
}

} // namespace

std::vector<SkillScore> score_skills(const Decoder& decoder, const Tokenizer& tokenizer,
                                     const std::vector<Skill>& skills, const WeightHook& hook, JobControl& job,
                                     Device* device) {
    Prompts prompts;
    for (const Skill& skill : skills) {
        auto& own = prompts.emplace_back();
        for (const Skill::Item& item : skill.items)
            own.push_back(tokenizer.encode(item.prompt, tokenizer.defaults()));
    }
    const auto capacity = static_cast<Index>(longest_prompt(prompts) + longest_answer);
    const auto scores = [&](LayerMath* math) {
        return scores_of(Session(decoder, capacity, hook, usual_resident_bytes, math), tokenizer, skills, prompts, job);
    };
    return device != nullptr ? with_layer_math(*device, scores) : scores(nullptr);
}

} // namespace qs
