#pragma once

#include <QElapsedTimer>
#include <QTimer>

#include "app/gui/Background.h"
#include "app/gui/Inbox.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/QualityPage.h"
#include "app/gui/views/View.h"

class QComboBox;
class QLabel;
class QSpinBox;
class QStackedWidget;
class QTabBar;
class QToolButton;

namespace qs::gui {

class MethodPicker;
class QualityLayers;
class QualityScores;
class QualitySkills;
class QualityText;
class QualityTraining;
class TextChooser;

/// What the loss of precision does to the model itself: its predictions of a text in each format and by each method,
/// the output error of its layers, texts that it writes, what it still knows, and what training for a format wins back.
/// Runs the model in the background; results come in as the text is worked through.
class QualityView : public View {
    Q_OBJECT
public:
    explicit QualityView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Quality"); }
    Plot* activePlot() override { return page()->plot(); }
    QByteArray csv() const override { return page()->csv(); }

    const QualityData& data() const { return data_; }
    QualityPage* page() const;
    /// Shows the page of this name.
    void showPage(const QString& name);
    /// Takes a text file and chooses it.
    void addText(const QString& path);
    /// Takes a tokenizer in place of the checkpoint's own, which cannot be opened.
    void useTokenizer(const QString& path);
    /// Evaluates the chosen formats that there are no results of.
    void run();
    void stop();

    QualityScores* scores() const { return scores_; }
    QualityLayers* layers() const { return layers_; }
    QualityText* text() const { return text_; }
    QualitySkills* skills() const { return skills_; }
    QualityTraining* training() const { return training_; }
    MethodPicker* methods() const { return methodPicker_; }

protected:
    void refresh() override;
    bool idle() const override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;

private:
    /// What results are of: with another one they are dropped.
    struct Question {
        std::shared_ptr<const RunnableModel> model;
        TextChoice texts;
        std::shared_ptr<Device> device;

        bool operator==(const Question&) const = default;
        /// The same but for what methods are calibrated on.
        bool sameButCalibration(const Question& other) const;
    };
    /// What a run has found so far.
    struct Findings {
        VariantResults results;
        CalibrationText calibration; ///< without its windows
        std::vector<SkillScore> reference_skills;
        std::vector<std::vector<SkillScore>> skills; ///< by variant, as far as they were asked
    };
    using FindingsBox = Inbox<Findings>;

    static Findings work(const Question& question, const std::vector<Variant>& variants, bool ask_reference,
                         FindingsBox& box, JobControl& job);
    QWidget* buildControls();
    void connectControls();
    void buildPages();
    void openModel();
    void adoptModel(OpenedModel opened);
    void chooseTokenizer();
    void fillTexts();
    void fillVariants();
    std::vector<Variant> missing() const;
    Question question() const;
    void collect();
    void take(Findings findings);
    bool answersHold() const;
    void forgetAnswers();
    void ended();
    void fillPages();
    void tellState();
    QString progressText() const;
    QString calibrationText() const;
    void showButtons();

    QualityData data_; ///< before the pages, which refer to it
    TextChooser* texts_;
    QSpinBox* context_;
    QSpinBox* tokens_;
    QToolButton* methods_;
    MethodPicker* methodPicker_;
    QComboBox* inputs_;
    QLabel* calibrationLabel_;
    TextChooser* calibration_;
    QSpinBox* calibrationTokens_;
    QToolButton* run_;
    Caption* caption_;
    QTabBar* tabs_;
    QStackedWidget* stack_;
    QualityScores* scores_;
    QualityLayers* layers_;
    QualityText* text_;
    QualitySkills* skills_;
    QualityTraining* training_;

    Background opening_{this}, job_{this};
    QTimer ticks_;
    std::shared_ptr<FindingsBox> box_;
    std::vector<Variant> asked_; ///< by the run in progress
    Question answered_;          ///< what data_ holds results of
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::filesystem::path tokenizer_; ///< in place of the checkpoint's own
    QString trouble_;                 ///< why the checkpoint cannot be run
    bool tokenizerTrouble_ = false;   ///< for which another one can be chosen
    CalibrationText calibrated_;      ///< what the results were calibrated on, without its windows
    QElapsedTimer since_;             ///< the run in progress began
    bool stopped_ = false;            ///< by the user
    bool partial_ = false;            ///< the results are of a part of the text
};

} // namespace qs::gui
