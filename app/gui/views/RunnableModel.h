#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/model/skills.h"
#include "core/model/text_windows.h"
#include "core/model/tokenizer.h"

namespace qs::gui {

/// A checkpoint that can be run: with its tokenizer, and what belongs to it.
struct RunnableModel {
    std::shared_ptr<const Checkpoint> checkpoint;
    Decoder decoder;
    std::unique_ptr<const Tokenizer> tokenizer;
    std::vector<LinearTensor> linears; ///< in the order in which they are used
    std::optional<ModelMaterial> material;
    std::vector<Skill> skills;
};

/// What opening a model comes to: the model, or the trouble with its tokenizer, for which another can be chosen.
struct OpenedModel {
    std::shared_ptr<const RunnableModel> model;
    std::string tokenizer_trouble;
};

/// `tokenizer` is a file or folder in place of the checkpoint's own; or empty. Throws Error where the checkpoint itself
/// cannot be run.
OpenedModel openRunnable(std::shared_ptr<const Checkpoint> checkpoint, const std::filesystem::path& tokenizer);

/// The texts of a run and how they are cut.
struct TextChoice {
    std::filesystem::path text, calibration; ///< empty: none chosen; what follows the evaluated part
    Index context = 0;                       ///< tokens of a window
    std::size_t tokens = 0;                  ///< that are evaluated
    std::size_t calibration_tokens = 0;
    bool operator==(const TextChoice&) const = default;
};

/// The windows that are evaluated, none where no text is chosen, and those to calibrate or train on, of at most
/// `calibration_tokens` (0: all). Throws Error.
struct ReadTexts {
    std::vector<std::vector<int>> windows;
    CalibrationText calibration;
};
ReadTexts readTexts(const RunnableModel& model, const TextChoice& choice, std::size_t calibration_tokens);

} // namespace qs::gui
