#include "app/gui/views/RunnableModel.h"

#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"

namespace qs::gui {

namespace {

std::vector<std::vector<int>> windowsOf(const RunnableModel& model, const std::filesystem::path& path, Index context) {
    const auto file = MappedFile::open(path);
    const std::string_view text = as_text(file->bytes());
    auto windows = text_windows(*model.tokenizer, model.decoder.config(), text, {usual_separator(text), context, 0});
    if (windows.empty())
        throw Error(path.string(), "has no token to predict", "choose a longer text");
    return windows;
}

} // namespace

OpenedModel openRunnable(std::shared_ptr<const Checkpoint> checkpoint, const std::filesystem::path& tokenizer) {
    Decoder decoder(checkpoint);
    std::unique_ptr<const Tokenizer> opened;
    try {
        opened = tokenizer.empty() ? open_tokenizer(*checkpoint) : open_tokenizer(tokenizer);
    } catch (const Error& error) {
        return {nullptr, error.what()};
    }
    std::vector<LinearTensor> linears = decoder.weights().linears();
    auto material = material_of(*checkpoint);
    std::vector<Skill> skills;
    if (material)
        skills = read_skills(material->skills);
    return {std::make_shared<const RunnableModel>(RunnableModel{std::move(checkpoint), std::move(decoder),
                                                                std::move(opened), std::move(linears),
                                                                std::move(material), std::move(skills)}),
            {}};
}

ReadTexts readTexts(const RunnableModel& model, const TextChoice& choice, std::size_t calibration_tokens) {
    ReadTexts texts;
    std::vector<std::vector<int>> all;
    if (!choice.text.empty()) {
        all = windowsOf(model, choice.text, choice.context);
        texts.windows = all;
        keep_tokens(texts.windows, choice.tokens);
    }
    if (!choice.calibration.empty())
        texts.calibration = own_text(windowsOf(model, choice.calibration, choice.context), choice.calibration,
                                     choice.text, calibration_tokens);
    else
        texts.calibration = rest_of_text(all, texts.windows.size(), calibration_tokens);
    return texts;
}

} // namespace qs::gui
