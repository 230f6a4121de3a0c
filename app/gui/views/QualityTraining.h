#pragma once

#include <QElapsedTimer>
#include <QTimer>

#include "app/gui/Background.h"
#include "app/gui/Inbox.h"
#include "app/gui/views/Caption.h"
#include "app/gui/views/QualityPage.h"
#include "core/methods/qat.h"

class QBoxLayout;
class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QPushButton;
class QSpinBox;
class QTableWidget;
class QToolButton;

namespace qs::gui {

/// What a training is asked for, and how far it has come.
struct TrainingRun {
    FormatSpec format;
    QatLoss loss = QatLoss::teacher;
    bool learned_steps = false;
    int steps = 0, batch = 0;
    double learning_rate = 0;
    std::string source;    ///< of the text, in words
    bool overlaps = false; ///< the text that is trained on with the one that is evaluated
    std::size_t training_tokens = 0, validation_tokens = 0;
    double unquantized = 0; ///< perplexity of the validation windows; 0 before it is known
    std::vector<QatPoint> curve;
};

/// A training whose best weights are kept.
struct KeptTraining {
    TrainingRun run;
    int best_step = 0;
    bool stopped = false;
    std::shared_ptr<const TrainedWeights> weights;

    Variant variant() const { return {run.format, parse_method("rtn"), Activations::none, weights}; }
    const QatPoint& best() const;
};

/// Quantization-aware training of the open model for a format: live curves of its loss and of the validation
/// perplexity, which begins where rounding to nearest is and has the unquantized model's as its mark. What is trained
/// is kept, beside what was before, as a variant that the other pages compare; it can be written as a checkpoint.
class QualityTraining : public QualityPage {
    Q_OBJECT
public:
    QualityTraining(Session* session, const QualityData& data, QWidget* parent = nullptr);

    QString name() const override { return tr("Training"); }
    void fill() override;
    QByteArray csv() const override;

    void start();
    /// Ends the training and keeps its best weights so far.
    void stop();
    /// Ends all work and forgets what was trained, as when another model is opened.
    void clear();
    bool busy() const { return job_.busy() || writing_.busy(); }
    const std::vector<KeptTraining>& kept() const { return kept_; }
    void remove(std::size_t place);
    /// Writes kept weights as a checkpoint in the background; complete or not at all.
    void exportTo(std::size_t place, const QString& path);

signals:
    void keptChanged();
    void failed(const qs::gui::Failure& failure);

private:
    struct Outcome {
        TrainingRun run;
        QatResult result;
    };

    void buildControls(QBoxLayout* column);
    void buildPlot();
    QWidget* buildTable();
    void offerFormats();
    void adjustToFormat();
    void collect();
    void keep(Outcome outcome);
    void ended();
    void chooseExport();
    const TrainingRun* shown() const;
    std::optional<std::size_t> chosenRow() const;
    void fillCurves();
    void fillOwn(const TrainingRun& run);
    void fillOthers(const TrainingRun& run);
    void fillLegend(const TrainingRun& run);
    void fillReferences(const TrainingRun& run);
    void fitRanges(const TrainingRun& run);
    void fillTable();
    void tellState();
    void showButtons();
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;

    QComboBox* format_;
    QComboBox* loss_;
    QSpinBox* steps_;
    QSpinBox* batch_;
    QDoubleSpinBox* rate_;
    QCheckBox* learned_;
    QToolButton* run_;
    Caption* caption_;
    QTableWidget* table_;
    QPushButton* export_;
    QPushButton* remove_;

    QCPAxisRect* perplexityPane_ = nullptr;
    QCPAxisRect* lossPane_ = nullptr;
    QCPGraph* perplexity_ = nullptr;
    QCPGraph* best_ = nullptr;
    QCPGraph* lossLine_ = nullptr;
    std::vector<QCPGraph*> others_; ///< kept ones, to compare with
    QCPItemStraightLine* rounded_ = nullptr;
    QCPItemStraightLine* unquantized_ = nullptr;

    Background job_{this}, writing_{this};
    QTimer ticks_;
    QElapsedTimer since_;
    std::shared_ptr<Inbox<TrainingRun>> inbox_;
    std::optional<TrainingRun> running_;
    std::vector<KeptTraining> kept_;
    std::vector<FormatSpec> offered_; ///< by the choice of formats
    QString written_;                 ///< the file of the last export
    bool stopping_ = false;
};

} // namespace qs::gui
