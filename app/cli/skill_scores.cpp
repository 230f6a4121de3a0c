#include "app/cli/skill_scores.h"

#include "app/cli/table.h"

namespace qs::cli {

void add_skills_option(CLI::App& command, std::string& file) {
    command.add_option("--skills", file, "Prompts with their answers to score, as the demo model's skills.json")
        ->type_name("FILE");
}

Json skills_json(const std::vector<SkillScore>& scores) {
    Json skills = Json::object();
    for (const SkillScore& score : scores)
        skills[score.name] = {{"right", score.right}, {"asked", score.asked}};
    return skills;
}

std::string share_text(const SkillScore& score) {
    return fixed(100 * score.share(), 1) + " %";
}

} // namespace qs::cli
