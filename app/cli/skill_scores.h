#pragma once

#include <string>
#include <vector>

#include "app/cli/command.h"
#include "core/model/skills.h"

// Skills of a model, as the commands that measure them show them.

namespace qs::cli {

void add_skills_option(CLI::App& command, std::string& file);

/// {name: {right, asked}}.
Json skills_json(const std::vector<SkillScore>& scores);
/// A share of right answers, "98.3 %".
std::string share_text(const SkillScore& score);

} // namespace qs::cli
