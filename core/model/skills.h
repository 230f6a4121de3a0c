#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "core/model/generation.h"
#include "core/model/tokenizer.h"

namespace qs {

/// Something that a model can do or not: prompts and their only right answers.
struct Skill {
    struct Item {
        std::string prompt, answer;
    };
    std::string name;
    std::vector<Item> items;
};

/// Reads a skills.json: lists of {"prompt", "answer"} by name, in the order of the file. Throws Error naming the file.
std::vector<Skill> read_skills(const std::filesystem::path& file);

/// A text and skills that lie beside a model's weights, as they do beside the demo model's.
struct ModelMaterial {
    std::filesystem::path text, skills;
};
std::optional<ModelMaterial> material_of(const Checkpoint& checkpoint);
/// The program's own text of many kinds, some 2,800 words, for models that nothing lies beside. Throws Error where the
/// program's resources are missing.
std::filesystem::path general_text();
/// The text that lies beside a model, or else general_text().
std::filesystem::path usual_text(const Checkpoint& checkpoint);

/// How often a model gave exactly the right answer.
struct SkillScore {
    std::string name;
    std::size_t right = 0, asked = 0;

    double share() const; ///< 0 before anything was asked
    /// Standard error of the share, the questions taken as independent.
    double share_stderr() const;
};

/// Asks a model with these weights: an answer is its greedy continuation of a prompt up to the first full stop, of at
/// most twelve tokens. The model runs on `device`, on the CPU where that is null. Throws Cancelled.
std::vector<SkillScore> score_skills(const Decoder& decoder, const Tokenizer& tokenizer,
                                     const std::vector<Skill>& skills, const WeightHook& hook, JobControl& job,
                                     Device* device = nullptr);

} // namespace qs
