#include "app/gui/views/QualityTraining.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QSpinBox>
#include <QStandardItemModel>
#include <QTableWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"
#include "app/gui/views/View.h"
#include "core/analysis/throughput.h"
#include "core/base/atomic_file.h"
#include "core/export/write_trained.h"
#include "core/methods/fake_quantizer.h"

namespace qs::gui {

namespace {

constexpr int batch_ms = 50;
constexpr int usual_steps = 100;
/// Validations of a training, of which the curve consists.
constexpr int most_validations = 20;
/// Validating is to take less time than a step does, but not at the price of telling nothing.
constexpr std::size_t least_validation_tokens = 1024;
constexpr int text_columns = 2;
constexpr int most_rows_shown = 4;
/// Tokens of a step, by which the usual number of windows is chosen.
constexpr int usual_step_tokens = 4096;

/// An axis that spans more is logarithmic.
constexpr double linear_ratio = 4;

/// The validation perplexity by step, where it was measured.
QVector<QCPGraphData> validated(const TrainingRun& run) {
    QVector<QCPGraphData> points;
    for (const QatPoint& point : run.curve)
        if (!std::isnan(point.validation_perplexity))
            points.append({static_cast<double>(point.step), point.validation_perplexity});
    return points;
}

QString lossName(QatLoss loss) {
    return loss == QatLoss::teacher ? QObject::tr("teacher") : QObject::tr("text");
}

QatRequest requestOf(const TrainingRun& run) {
    QatRequest request;
    request.format = run.format;
    request.loss = run.loss;
    request.learned_steps = run.learned_steps;
    request.steps = run.steps;
    request.batch = run.batch;
    request.learning_rate = run.learning_rate;
    request.validate_every = std::clamp(run.steps / most_validations, 1, request.validate_every);
    return request;
}

} // namespace

const QatPoint& KeptTraining::best() const {
    return *std::ranges::find(run.curve, best_step, &QatPoint::step);
}

QualityTraining::QualityTraining(Session* session, const QualityData& data, QWidget* parent)
    : QualityPage(session, data, parent), format_(new QComboBox), loss_(new QComboBox), steps_(new QSpinBox),
      batch_(new QSpinBox), rate_(new QDoubleSpinBox), learned_(new QCheckBox(tr("Learn step si&zes"))),
      run_(new QToolButton), caption_(new Caption), table_(new QTableWidget), export_(new QPushButton(tr("&Export…"))),
      remove_(new QPushButton(tr("Re&move"))) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    buildControls(column);
    buildPlot();
    column->addWidget(new PlotScroll(plot()), 1);
    column->addWidget(buildTable());

    ticks_.setInterval(batch_ms);
    connect(&ticks_, &QTimer::timeout, this, &QualityTraining::collect);
    connect(&job_, &Background::stopped, this, &QualityTraining::ended);
    connect(&job_, &Background::failed, this, [this](const Failure& failure) {
        ended();
        emit failed(failure);
    });
    connect(&writing_, &Background::stopped, this, &QualityTraining::ended);
    connect(&writing_, &Background::failed, this, [this](const Failure& failure) {
        ended();
        emit failed(failure);
    });
    showButtons();
    run_->setMinimumWidth(run_->sizeHint().width() + 6);
}

// --- parts

void QualityTraining::buildControls(QBoxLayout* column) {
    format_->setObjectName("trainingFormat");
    format_->setToolTip(tr("What the weights are trained for, of the formats above"));
    format_->setMinimumContentsLength(6);
    loss_->setObjectName("trainingLoss");
    loss_->addItem(tr("teacher"), static_cast<int>(QatLoss::teacher));
    loss_->addItem(tr("text"), static_cast<int>(QatLoss::text));
    loss_->setToolTip(tr("Teacher: learn to predict what the unquantized model predicts. Text: learn to predict the "
                         "text"));
    steps_->setObjectName("trainingSteps");
    steps_->setRange(1, 100'000);
    steps_->setValue(usual_steps);
    steps_->setToolTip(tr("Updates of the weights"));
    batch_->setObjectName("trainingBatch");
    batch_->setRange(1, 1024);
    batch_->setValue(QatRequest().batch);
    batch_->setToolTip(tr("Windows of a step"));
    rate_->setObjectName("trainingRate");
    rate_->setDecimals(6);
    rate_->setRange(0, 1);
    rate_->setSpecialValueText(tr("automatic"));
    rate_->setStepType(QAbstractSpinBox::AdaptiveDecimalStepType);
    rate_->setToolTip(tr("The highest learning rate: it climbs there over a tenth of the steps and falls along a "
                         "cosine. Automatic: a 64th of the root mean square of what rounding does to the weights"));
    learned_->setObjectName("trainingLearned");
    run_->setObjectName("train");
    run_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    QHBoxLayout* first = addControls(column);
    addControl(first, tr("F&ormat"), format_);
    addControl(first, tr("&Loss"), loss_);
    first->addWidget(learned_);
    first->addStretch();
    first->addWidget(run_);
    QHBoxLayout* second = addControls(column);
    addControl(second, tr("&Steps"), steps_);
    addControl(second, tr("Ba&tch"), batch_);
    addControl(second, tr("Learning &rate"), rate_);
    second->addStretch();
    caption_->setContentsMargins(8, 0, 8, 0);
    auto* third = addControls(column);
    third->addWidget(caption_, 1);
    connect(format_, &QComboBox::currentIndexChanged, this, &QualityTraining::adjustToFormat);
    connect(run_, &QToolButton::clicked, this, [this] { job_.busy() ? stop() : start(); });
}

void QualityTraining::buildPlot() {
    plot()->setObjectName("qualityTraining");
    perplexityPane_ = plot()->addPane(1);
    lossPane_ = plot()->addPane(2);
    perplexityPane_->setMinimumSize(60, 130);
    lossPane_->setMinimumSize(60, 90);
    plot()->plotLayout()->setRowStretchFactor(1, 1.6);
    const auto graph = [](QCPAxisRect* pane) {
        return new QCPGraph(pane->axis(QCPAxis::atBottom), pane->axis(QCPAxis::atLeft));
    };
    perplexity_ = graph(perplexityPane_);
    best_ = graph(perplexityPane_);
    lossLine_ = graph(lossPane_);
    for (auto** line : {&rounded_, &unquantized_}) {
        *line = new QCPItemStraightLine(plot());
        for (QCPItemPosition* position : {(*line)->point1, (*line)->point2})
            position->setAxes(perplexityPane_->axis(QCPAxis::atBottom), perplexityPane_->axis(QCPAxis::atLeft));
        (*line)->setClipAxisRect(perplexityPane_);
    }
    plot()->nameAxis(perplexityPane_->axis(QCPAxis::atLeft), tr("validation perplexity"));
    plot()->nameAxis(lossPane_->axis(QCPAxis::atLeft), tr("loss"), tr("nats"));
    plot()->nameAxis(lossPane_->axis(QCPAxis::atBottom), tr("step"));
    perplexityPane_->axis(QCPAxis::atBottom)->setTickLabels(false);
    plot()->link(perplexityPane_->axis(QCPAxis::atBottom), lossPane_->axis(QCPAxis::atBottom));
    plot()->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });
}

QWidget* QualityTraining::buildTable() {
    table_->setObjectName("trainings");
    table_->setAccessibleName(tr("Trainings that are kept"));
    const QStringList names{tr("Trained for"), tr("Loss"),     tr("Steps"), tr("Best"),       tr("Perplexity"),
                            tr("RTN"),         tr("Original"), tr("Rate"),  tr("Bits/weight")};
    const QStringList tips{tr("Format and name, as the other pages show it"),
                           tr("What was learned: what the unquantized model predicts, or the text"),
                           tr("That were done, of those that were asked for"),
                           tr("Whose weights are kept: those with the least validation loss"),
                           tr("Of the validation windows, with the weights that are kept"),
                           tr("Of the validation windows, rounded to nearest before any training"),
                           tr("Of the validation windows, with the weights as they are stored"),
                           tr("The highest learning rate"),
                           tr("True bits per weight of the quantized matrices")};
    setUpTable(table_, names, tips, text_columns);
    export_->setObjectName("exportTraining");
    remove_->setObjectName("removeTraining");
    auto* panel = new QWidget;
    auto* column = new QVBoxLayout(panel);
    column->setContentsMargins(0, 0, 0, 4);
    column->setSpacing(4);
    column->addWidget(table_);
    auto* row = new QHBoxLayout;
    row->setContentsMargins(8, 0, 8, 0);
    row->addStretch();
    row->addWidget(remove_);
    row->addWidget(export_);
    column->addLayout(row);
    panel->setVisible(false);
    panel->setObjectName("trainingList");
    connect(table_, &QTableWidget::itemSelectionChanged, this, [this] {
        showButtons();
        tellState();
        fillCurves();
        plot()->replot(QCustomPlot::rpQueuedReplot);
    });
    connect(export_, &QPushButton::clicked, this, [this] { writing_.busy() ? writing_.finish() : chooseExport(); });
    connect(remove_, &QPushButton::clicked, this, [this] {
        if (const auto row = chosenRow())
            remove(*row);
    });
    return panel;
}

/// The formats of the comparison; those that cannot be trained for say why.
void QualityTraining::offerFormats() {
    if (offered_ == session()->formats())
        return;
    offered_ = session()->formats();
    const QString chosen = format_->currentText();
    const QSignalBlocker quiet(format_);
    format_->clear();
    auto* items = qobject_cast<QStandardItemModel*>(format_->model());
    int first = -1;
    for (int i = 0; i < static_cast<int>(offered_.size()); ++i) {
        const FormatSpec& spec = offered_[static_cast<std::size_t>(i)];
        format_->addItem(swatch(Theme::instance().format(spec)), nameOf(spec));
        const QString reason = QString::fromStdString(why_not_trained(spec));
        if (!reason.isEmpty()) {
            items->item(i)->setEnabled(false);
            format_->setItemData(i, nameOf(spec) + ' ' + reason, Qt::ToolTipRole);
        } else if (first < 0 || session()->selectedSpec() == spec) {
            first = i;
        }
    }
    const int again = format_->findText(chosen);
    format_->setCurrentIndex(again >= 0 ? again : first);
    if (again < 0)
        adjustToFormat();
}

void QualityTraining::adjustToFormat() {
    const int row = format_->currentIndex();
    if (row < 0)
        return;
    const FormatSpec& spec = offered_[static_cast<std::size_t>(row)];
    const bool can = has_learned_steps(spec);
    learned_->setEnabled(can && !job_.busy());
    if (!can)
        learned_->setChecked(false);
    learned_->setToolTip(
        can ? tr("Scales are trained too (LSQ), instead of fitted to the weights anew each step")
            : tr("%1 has no step size that could be learned: symmetric integers have").arg(nameOf(spec)));
}

// --- running

void QualityTraining::start() {
    const int row = format_->currentIndex();
    if (!data().model || job_.busy() || row < 0)
        return;
    TrainingRun run;
    run.format = offered_[static_cast<std::size_t>(row)];
    run.loss = static_cast<QatLoss>(loss_->currentData().toInt());
    run.learned_steps = learned_->isChecked();
    run.steps = steps_->value();
    run.batch = batch_->value();
    run.learning_rate = rate_->value();
    running_ = run;
    stopping_ = false;
    written_.clear();
    inbox_ = std::make_shared<Inbox<TrainingRun>>();
    job_.start(
        [model = data().model, choice = data().texts, device = session()->device(), inbox = inbox_,
         run = std::move(run)](JobControl& job) mutable {
            ReadTexts texts = readTexts(*model, choice, 0);
            QatRequest request = requestOf(run);
            const std::size_t a_step = static_cast<std::size_t>(run.batch) * static_cast<std::size_t>(choice.context);
            split_windows(std::move(texts.calibration.windows), validate_every_window,
                          std::clamp(a_step, least_validation_tokens, most_validation_tokens), request);
            run.source = texts.calibration.source;
            run.overlaps = texts.calibration.overlaps;
            run.training_tokens = scored_tokens(request.training);
            run.validation_tokens = scored_tokens(request.validation);
            inbox->put(run);
            run.unquantized = score_weights(model->decoder, {}, request.validation, *device, job).perplexity;
            inbox->put(run);
            QatResult result = train_qat(model->decoder, request, *device, job, [&](const QatPoint& point) {
                run.curve.push_back(point);
                inbox->put(run);
            });
            return Outcome{std::move(run), std::move(result)};
        },
        [this](Outcome outcome) { keep(std::move(outcome)); });
    since_.start();
    ticks_.start();
    table_->clearSelection();
    showButtons();
    fill();
}

void QualityTraining::stop() {
    stopping_ = true;
    job_.finish();
    showButtons();
    tellState();
}

void QualityTraining::clear() {
    job_.cancel();
    writing_.cancel();
    running_.reset();
    kept_.clear();
    written_.clear();
    const Index context = data().model ? data().texts.context : 0;
    if (context > 0)
        batch_->setValue(std::clamp(static_cast<int>(usual_step_tokens / context), 1, QatRequest().batch));
    ended();
}

/// Names of one format's trainings differ.
void QualityTraining::keep(Outcome outcome) {
    KeptTraining kept;
    kept.run = std::move(outcome.run);
    kept.run.curve = std::move(outcome.result.curve);
    kept.run.learning_rate = outcome.result.learning_rate;
    kept.best_step = outcome.result.best_step;
    kept.stopped = outcome.result.stopped;
    auto weights = std::make_shared<TrainedWeights>();
    weights->bits_per_weight = outcome.result.bits_per_weight;
    weights->weights = std::move(outcome.result.quantized);
    weights->name = "qat";
    const auto taken = [&](const KeptTraining& other) {
        return other.run.format == kept.run.format && other.weights->name == weights->name;
    };
    for (int number = 2; std::ranges::any_of(kept_, taken); ++number)
        weights->name = "qat " + std::to_string(number);
    kept.weights = std::move(weights);
    kept_.push_back(std::move(kept));
    running_.reset();
    fillTable();
    table_->selectRow(static_cast<int>(kept_.size()) - 1);
    ended();
    emit keptChanged();
}

void QualityTraining::ended() {
    stopping_ = false;
    if (!job_.busy()) {
        running_.reset();
        inbox_.reset();
    }
    if (!busy())
        ticks_.stop();
    showButtons();
    fill();
}

void QualityTraining::collect() {
    if (auto run = inbox_ ? inbox_->take() : std::nullopt) {
        running_ = std::move(*run);
        fill();
    }
    tellState();
}

void QualityTraining::remove(std::size_t place) {
    kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(place));
    fillTable();
    if (!kept_.empty())
        table_->selectRow(static_cast<int>(std::min(place, kept_.size() - 1)));
    fill();
    emit keptChanged();
}

void QualityTraining::chooseExport() {
    const auto row = chosenRow();
    if (!row)
        return;
    const KeptTraining& kept = kept_[*row];
    QString proposal = QString::fromStdString(kept.run.format.text() + '-' + kept.weights->name);
    proposal.replace(QRegularExpression("[^A-Za-z0-9_.-]+"), "-");
    auto* dialog = new QFileDialog(this, tr("Export the trained weights"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setAcceptMode(QFileDialog::AcceptSave);
    const QString gguf = tr("GGUF (*.gguf)"), safetensors = tr("Safetensors (*.safetensors)");
    const bool from_gguf = data().model->decoder.config().gguf;
    dialog->setNameFilters(from_gguf ? QStringList{gguf} : QStringList{safetensors, gguf});
    const auto followFilter = [dialog, gguf](const QString& filter) {
        dialog->setDefaultSuffix(filter == gguf ? "gguf" : "safetensors");
    };
    connect(dialog, &QFileDialog::filterSelected, dialog, followFilter);
    followFilter(dialog->nameFilters().first());
    dialog->selectFile(proposal + '.' + dialog->defaultSuffix());
    connect(dialog, &QFileDialog::fileSelected, this, [this, weights = kept.weights](const QString& path) {
        const auto found = std::ranges::find(kept_, weights, &KeptTraining::weights);
        if (found != kept_.end())
            exportTo(static_cast<std::size_t>(found - kept_.begin()), path);
    });
    dialog->open();
}

void QualityTraining::exportTo(std::size_t place, const QString& path) {
    written_.clear();
    writing_.start(
        [model = data().model, variant = kept_[place].variant(), device = session()->device(), path](JobControl& job) {
            const std::filesystem::path target = std::filesystem::absolute(path.toStdString());
            std::error_code absent;
            for (const auto& file : model->checkpoint->files)
                if (std::filesystem::equivalent(file->path(), target, absent))
                    throw Error(target.string(), "is the open checkpoint itself", "choose another name");
            AtomicFile file(target);
            const WeightHook hook([&](const LinearTensor& tensor, Matrix& weight) {
                weight = variant.trained->weights.at(tensor.tensor);
            });
            write_trained(model->decoder, hook, file, target, *device, job);
            return path;
        },
        [this](const QString& written) {
            written_ = written;
            ended();
        });
    ticks_.start();
    showButtons();
    tellState();
}

// --- drawing

std::optional<std::size_t> QualityTraining::chosenRow() const {
    const auto rows = table_->selectionModel()->selectedRows();
    if (rows.isEmpty() || rows.front().row() >= static_cast<int>(kept_.size()))
        return std::nullopt;
    return static_cast<std::size_t>(rows.front().row());
}

/// The training that runs, else the one that is chosen in the list, else the last one.
const TrainingRun* QualityTraining::shown() const {
    if (running_)
        return &*running_;
    if (const auto row = chosenRow())
        return &kept_[*row].run;
    return kept_.empty() ? nullptr : &kept_.back().run;
}

void QualityTraining::fill() {
    if (!data().model)
        return;
    offerFormats();
    fillCurves();
    tellState();
    showButtons();
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

void QualityTraining::fillCurves() {
    const TrainingRun* run = shown();
    const bool empty = run == nullptr || run->curve.empty();
    plot()->setEmpty(!empty        ? QString()
                     : job_.busy() ? tr("Measuring the model before it is trained…")
                                   : tr("Start a training: the weights learn to lose less in the format."));
    rounded_->setVisible(!empty);
    unquantized_->setVisible(!empty);
    if (empty) {
        plot()->keys()->setEntries({});
        return;
    }
    fillOwn(*run);
    fillOthers(*run);
    fillReferences(*run);
    fillLegend(*run);
    fitRanges(*run);
}

/// The perplexity strong, the loss pale, with its noise; a ring where the weights are that are kept.
void QualityTraining::fillOwn(const TrainingRun& run) {
    const QColor colour = Theme::instance().format(run.format);
    QColor pale = colour;
    pale.setAlphaF(0.65F);
    perplexity_->data()->set(validated(run), true);
    perplexity_->setPen(QPen(colour, 2));
    perplexity_->setScatterStyle(QCPScatterStyle(QCPScatterStyle::ssDisc, colour, 5));
    QVector<QCPGraphData> losses, best;
    for (const QatPoint& point : run.curve)
        if (!std::isnan(point.loss))
            losses.append({static_cast<double>(point.step), point.loss});
    lossLine_->data()->set(losses, true);
    lossLine_->setPen(QPen(pale, 1.2));
    if (!running_) {
        const QatPoint& point = kept_[chosenRow().value_or(kept_.size() - 1)].best();
        best.append({static_cast<double>(point.step), point.validation_perplexity});
    }
    best_->data()->set(best, true);
    best_->setLineStyle(QCPGraph::lsNone);
    best_->setScatterStyle(
        QCPScatterStyle(QCPScatterStyle::ssCircle, QPen(Theme::instance().text(), 1.8), Qt::NoBrush, 11));
}

/// What is kept beside it, as thin lines.
void QualityTraining::fillOthers(const TrainingRun& run) {
    for (QCPGraph* graph : others_)
        plot()->removeGraph(graph);
    others_.clear();
    for (const KeptTraining& kept : kept_) {
        if (&kept.run == &run)
            continue;
        QColor thin = Theme::instance().format(kept.run.format);
        thin.setAlphaF(0.45F);
        others_.push_back(new QCPGraph(perplexity_->keyAxis(), perplexity_->valueAxis()));
        others_.back()->data()->set(validated(kept.run), true);
        others_.back()->setPen(QPen(thin, 1.2));
    }
}

void QualityTraining::fillLegend(const TrainingRun& run) {
    const QColor colour = Theme::instance().format(run.format);
    std::vector<LegendEntry> entries;
    entries.push_back({"perplexity", nameOf(run.format), colour, LegendEntry::Mark::line, false, true});
    if (!running_)
        entries.push_back({"best", tr("kept"), Theme::instance().text(), LegendEntry::Mark::ring, false});
    entries.push_back({"rounded",
                       tr("rounded to nearest: %1").arg(significant(run.curve.front().validation_perplexity, 4)),
                       colour, LegendEntry::Mark::line, false, false, Qt::DotLine});
    entries.push_back({"unquantized", tr("unquantized: %1").arg(significant(run.unquantized, 4)),
                       Theme::instance().original(), LegendEntry::Mark::line, false, false, Qt::DashLine});
    plot()->keys()->setEntries(std::move(entries));
}

void QualityTraining::fillReferences(const TrainingRun& run) {
    const auto across = [](QCPItemStraightLine* line, double value, const QPen& pen) {
        line->point1->setCoords(0, value);
        line->point2->setCoords(1, value);
        line->setPen(pen);
    };
    across(rounded_, run.curve.front().validation_perplexity,
           QPen(Theme::instance().format(run.format), 1.4, Qt::DotLine));
    across(unquantized_, run.unquantized, QPen(Theme::instance().original(), 1.5, Qt::DashLine));
}

void QualityTraining::fitRanges(const TrainingRun& run) {
    const auto fit = [this](QCPAxis* axis, QCPRange range) {
        const bool log = range.lower > 0 && range.upper / range.lower > linear_ratio;
        plot()->setLog(axis, log);
        const double margin = 0.08 * std::max(range.size(), 1e-3 * range.upper);
        const double factor = std::pow(range.upper / std::max(range.lower, 1e-12), 0.08);
        axis->setRange(log ? QCPRange(range.lower / factor, range.upper * factor)
                           : QCPRange(std::max(0.0, range.lower - margin), range.upper + margin));
    };
    QCPRange perplexities(run.unquantized, run.unquantized);
    for (const QatPoint& point : run.curve)
        if (!std::isnan(point.validation_perplexity))
            perplexities.expand(QCPRange(point.validation_perplexity, point.validation_perplexity));
    fit(perplexityPane_->axis(QCPAxis::atLeft), perplexities);
    bool found = false;
    QCPRange losses(0, 1);
    for (const QatPoint& point : run.curve)
        if (!std::isnan(point.loss)) {
            losses = found ? losses.expanded(QCPRange(point.loss, point.loss)) : QCPRange(point.loss, point.loss);
            found = true;
        }
    fit(lossPane_->axis(QCPAxis::atLeft), losses);
    plot()->setHome(perplexityPane_->axis(QCPAxis::atBottom), QCPRange(-0.02 * run.steps, 1.02 * run.steps));
    plot()->goHome();
}

void QualityTraining::fillTable() {
    const QSignalBlocker quiet(table_);
    table_->clearSelection();
    table_->setRowCount(static_cast<int>(kept_.size()));
    for (std::size_t i = 0; i < kept_.size(); ++i) {
        const KeptTraining& kept = kept_[i];
        const TrainingRun& run = kept.run;
        const int done = run.curve.back().step;
        const double values[] = {kept.best().validation_perplexity, run.curve.front().validation_perplexity,
                                 run.unquantized, run.learning_rate, kept.weights->bits_per_weight};
        QStringList texts{QString::fromStdString(kept.variant().text()),
                          lossName(run.loss) + (run.learned_steps ? tr(", steps learned") : QString()),
                          done == run.steps ? QString::number(done) : tr("%1 of %2").arg(done).arg(run.steps),
                          QString::number(kept.best_step)};
        QStringList tips = texts;
        for (const double value : values) {
            texts += significant(value, 4);
            tips += full(value);
        }
        tips[0] = tr("Trained on %1 tokens of %2, validated with %3")
                      .arg(run.training_tokens)
                      .arg(QString::fromStdString(run.source))
                      .arg(run.validation_tokens);
        for (int column = 0; column < texts.size(); ++column) {
            auto* item = new QTableWidgetItem(texts[column]);
            item->setToolTip(tips[column]);
            item->setTextAlignment((column < text_columns ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
            if (column == 0)
                item->setIcon(swatch(Theme::instance().format(run.format)));
            table_->setItem(static_cast<int>(i), column, item);
        }
    }
    const int rows = std::clamp(table_->rowCount(), 1, most_rows_shown);
    table_->setFixedHeight(table_->horizontalHeader()->sizeHint().height() +
                           rows * table_->verticalHeader()->defaultSectionSize() + 18);
    table_->parentWidget()->setVisible(!kept_.empty());
}

void QualityTraining::tellState() {
    if (const auto job = writing_.job()) {
        const double share =
            job->total() > 0 ? static_cast<double>(job->done()) / static_cast<double>(job->total()) : 0;
        caption_->setText(tr("Writing the trained weights: %1").arg(percent(share)));
        return;
    }
    if (!written_.isEmpty()) {
        caption_->setText(tr("Written to %1").arg(written_));
        return;
    }
    if (!running_ && chosenRow()) {
        const KeptTraining& kept = kept_[*chosenRow()];
        caption_->setText(tr("%1: trained on %2 tokens of %3 in %4, validated with %5%6")
                              .arg(QString::fromStdString(kept.variant().text()))
                              .arg(kept.run.training_tokens)
                              .arg(QString::fromStdString(kept.run.source), duration(kept.run.curve.back().seconds))
                              .arg(kept.run.validation_tokens)
                              .arg(kept.run.overlaps ? tr("; what is measured was trained on") : QString()));
        return;
    }
    if (!running_) {
        caption_->setText(tr("Trains on the calibration text above; every tenth window is held back to choose by."));
        return;
    }
    const TrainingRun& run = *running_;
    if (stopping_) {
        caption_->setText(tr("Stopping…"));
    } else if (run.curve.empty()) {
        caption_->setText(run.training_tokens == 0 ? tr("Reading the text…")
                                                   : tr("Measuring the model before it is trained on %1 tokens of %2…")
                                                         .arg(run.training_tokens)
                                                         .arg(QString::fromStdString(run.source)));
    } else {
        Throughput rate;
        rate.total = run.steps;
        rate.done = run.curve.back().step;
        rate.bytes_per_second = mean_rate(rate.done, run.curve.back().seconds);
        QString text = tr("Step %1 of %2").arg(run.curve.back().step).arg(run.steps);
        if (rate.bytes_per_second > 0)
            text += tr(", %1 left").arg(duration(rate.seconds_left()));
        text += tr(" · perplexity %1").arg(significant(validated(run).back().value, 4));
        text += tr(" · on %1 tokens of %2").arg(run.training_tokens).arg(QString::fromStdString(run.source));
        if (run.overlaps)
            text += tr(": what is measured is what is trained on");
        caption_->setText(text);
    }
}

void QualityTraining::showButtons() {
    const bool training = job_.busy();
    run_->setText(training ? tr("Stop") : tr("Train"));
    run_->setIcon(icon(training ? "stop" : "analyse"));
    run_->setToolTip(training ? tr("Stop the training and keep its best weights")
                              : tr("Train the model's weights for the format; with their gradients and moments they "
                                   "take six times their float32 of memory"));
    const bool text = !data().texts.text.empty() || !data().texts.calibration.empty();
    run_->setEnabled(training ? !stopping_ : data().model && format_->currentIndex() >= 0 && text);
    if (!training && data().model && !text)
        run_->setToolTip(tr("Choose a text above to train on"));
    for (QWidget* widget : std::initializer_list<QWidget*>{format_, loss_, steps_, batch_, rate_})
        widget->setEnabled(!training);
    const int row = format_->currentIndex();
    learned_->setEnabled(!training && row >= 0 && has_learned_steps(offered_[static_cast<std::size_t>(row)]));
    export_->setText(writing_.busy() ? tr("Cancel &export") : tr("&Export…"));
    export_->setEnabled(writing_.busy() || chosenRow().has_value());
    export_->setToolTip(
        tr("Write the trained weights, as the format made them, as a checkpoint that opens as a model: safetensors, or "
           "GGUF"));
    remove_->setEnabled(chosenRow().has_value() && !writing_.busy());
    remove_->setToolTip(tr("Forget the trained weights that are chosen in the list"));
}

// --- reading off

std::optional<ReadoutText> QualityTraining::readoutAt(QCPAxisRect* pane, QPointF position) const {
    const TrainingRun* run = shown();
    if (run == nullptr || run->curve.empty())
        return std::nullopt;
    const QCPAxis* x = pane->axis(QCPAxis::atBottom);
    const double at = x->pixelToCoord(position.x());
    const QatPoint& point = *std::ranges::min_element(
        run->curve, {}, [at](const QatPoint& point) { return std::abs(static_cast<double>(point.step) - at); });
    const QColor colour = Theme::instance().format(run->format);
    ReadoutText text;
    text.title = tr("step %1").arg(point.step);
    text.hairPixel = x->coordToPixel(point.step);
    if (!std::isnan(point.validation_perplexity))
        text.rows.push_back({colour, tr("validation perplexity"), significant(point.validation_perplexity, 5)});
    if (!std::isnan(point.loss))
        text.rows.push_back({colour, tr("training loss"), significant(point.loss, 4)});
    text.rows.push_back({Theme::instance().original(), tr("unquantized"), significant(run->unquantized, 5)});
    text.rows.push_back({std::nullopt, tr("learning rate"), significant(point.learning_rate)});
    return text;
}

QByteArray QualityTraining::csv() const {
    QByteArray csv = "training,step,loss,validation_loss,validation_perplexity,learning_rate,seconds\n";
    const auto lines = [&csv](const QString& name, const TrainingRun& run) {
        for (const QatPoint& point : run.curve)
            csv += csvText(name) + ',' + QByteArray::number(point.step) + ',' + csvNumber(point.loss) + ',' +
                   csvNumber(point.validation_loss) + ',' + csvNumber(point.validation_perplexity) + ',' +
                   csvNumber(point.learning_rate) + ',' + csvNumber(point.seconds) + '\n';
    };
    for (const KeptTraining& kept : kept_)
        lines(QString::fromStdString(kept.variant().text()), kept.run);
    if (running_)
        lines(nameOf(running_->format) + QStringLiteral(" · qat"), *running_);
    return csv;
}

} // namespace qs::gui
