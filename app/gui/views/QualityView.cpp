#include "app/gui/views/QualityView.h"

#include <QDragEnterEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QGridLayout>
#include <QLabel>
#include <QMimeData>
#include <QSpinBox>
#include <QStackedWidget>
#include <QTabBar>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <functional>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/panels/MethodPicker.h"
#include "app/gui/views/QualityLayers.h"
#include "app/gui/views/QualityScores.h"
#include "app/gui/views/QualitySkills.h"
#include "app/gui/views/QualityText.h"
#include "app/gui/views/QualityTraining.h"
#include "app/gui/views/TextChooser.h"
#include "core/analysis/throughput.h"
#include "core/model/skills.h"

namespace qs::gui {

namespace {

constexpr int batch_ms = 100;
constexpr int usual_tokens = 4096;
constexpr int most_tokens = 10'000'000;
constexpr int longest_context = 1 << 17;
constexpr int least_calibration = 128;

/// The program's own text, of many kinds; none where the program is without its resources.
QList<TextChooser::Entry> programText() {
    try {
        return {{QualityView::tr("the program's text"), QString::fromStdString(general_text().string())}};
    } catch (const Error&) {
        return {};
    }
}

bool isText(const QMimeData& data) {
    const auto urls = data.urls();
    if (urls.size() != 1 || !urls.front().isLocalFile())
        return false;
    const QString file = urls.front().toLocalFile();
    return file.endsWith(".txt", Qt::CaseInsensitive) || file.endsWith(".md", Qt::CaseInsensitive);
}

} // namespace

QualityView::QualityView(Session* session, QWidget* parent)
    : View(session, parent), texts_(new TextChooser(tr("Choose a text to evaluate"))), context_(new QSpinBox),
      tokens_(new QSpinBox), methods_(new QToolButton), methodPicker_(new MethodPicker(this)), inputs_(new QComboBox),
      calibrationLabel_(new QLabel), calibration_(new TextChooser(tr("Choose a text to calibrate on"))),
      calibrationTokens_(new QSpinBox), run_(new QToolButton), caption_(new Caption), tabs_(new QTabBar),
      stack_(new QStackedWidget), scores_(new QualityScores(session, data_)),
      layers_(new QualityLayers(session, data_)), text_(new QualityText(session, data_)),
      skills_(new QualitySkills(session, data_)), training_(new QualityTraining(session, data_)) {
    setAcceptDrops(true);
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    column->addWidget(buildControls());
    buildPages();
    column->addWidget(tabs_);
    column->addWidget(stack_, 1);

    ticks_.setInterval(batch_ms);
    connect(&ticks_, &QTimer::timeout, this, &QualityView::collect);
    connect(&opening_, &Background::failed, this, [this](const Failure& failure) {
        trouble_ = tr("The model cannot be run. %1: %2").arg(failure.where, failure.what);
        if (!failure.remedy.isEmpty())
            trouble_ += tr("; %1").arg(failure.remedy);
        refreshLater();
    });
    connect(&job_, &Background::failed, this, [this](const Failure& failure) {
        stopped_ = true;
        ended();
        emit failed(failure);
    });
    connect(text_, &QualityText::failed, this, &View::failed);
    connect(training_, &QualityTraining::failed, this, &View::failed);
    connect(training_, &QualityTraining::keptChanged, this, &QualityView::refreshLater);
    for (const auto signal : {&Session::checkpointChanged, &Session::formatsChanged, &Session::formatSelected,
                              &Session::tensorSelected, &Session::resultsChanged})
        connect(session, signal, this, &QualityView::refreshLater);
}

// --- parts

QWidget* QualityView::buildControls() {
    auto* panel = new QWidget;
    auto* grid = new QGridLayout(panel);
    grid->setContentsMargins(8, 6, 8, 2);
    grid->setHorizontalSpacing(8);
    grid->setVerticalSpacing(4);
    texts_->setObjectName("evaluationText");
    texts_->setToolTip(tr("What the model has to predict; a .txt or .md file can be dropped here"));
    context_->setObjectName("evaluationContext");
    context_->setRange(2, longest_context);
    context_->setToolTip(tr("Tokens of a window, each of which is run on its own"));
    tokens_->setObjectName("evaluationTokens");
    tokens_->setRange(16, most_tokens);
    tokens_->setValue(usual_tokens);
    tokens_->setSuffix(tr(" tokens"));
    tokens_->setAccessibleName(tr("Tokens to evaluate"));
    tokens_->setSingleStep(1024);
    tokens_->setGroupSeparatorShown(true);
    tokens_->setToolTip(tr("Tokens that are predicted, from the beginning of the text; more make the errors smaller"));
    run_->setObjectName("evaluate");
    run_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    methods_->setObjectName("methods");
    methods_->setIcon(icon("list"));
    methods_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    methods_->setToolTip(tr("How the codes are chosen: rounding to nearest, GPTQ, AWQ…, and with which parameters"));
    inputs_->setObjectName("inputs");
    inputs_->setToolTip(tr("How the inputs of the quantized layers are rounded, where the method does not say"));
    inputs_->addItem(tr("as they are"), static_cast<int>(Activations::none));
    for (const Activations rounded :
         {Activations::int8, Activations::fp8, Activations::mxfp8, Activations::int8_tensor})
        inputs_->addItem(QString::fromStdString(to_string(rounded)).replace('_', ' '), static_cast<int>(rounded));
    calibration_->setObjectName("calibrationText");
    calibration_->setEntries({{tr("rest of the text"), QStringLiteral("")}}, programText());
    calibrationTokens_->setObjectName("calibrationTokens");
    calibrationTokens_->setRange(least_calibration, most_tokens);
    calibrationTokens_->setValue(usual_calibration_tokens);
    calibrationTokens_->setSuffix(tr(" tokens"));
    calibrationTokens_->setSingleStep(1024);
    calibrationTokens_->setGroupSeparatorShown(true);
    calibrationTokens_->setToolTip(tr("Tokens that methods are calibrated on, at most"));
    calibrationTokens_->setAccessibleName(tr("Calibration tokens"));
    for (QSpinBox* box : {context_, tokens_, calibrationTokens_})
        box->setKeyboardTracking(false);
    const auto label = [](const QString& text, QWidget* buddy) {
        auto* made = new QLabel(text);
        made->setBuddy(buddy);
        return made;
    };
    calibrationLabel_->setText(tr("Cali&bration"));
    calibrationLabel_->setBuddy(calibration_);
    grid->addWidget(label(tr("Te&xt"), texts_), 0, 0, Qt::AlignRight);
    grid->addWidget(texts_, 0, 1);
    grid->addWidget(tokens_, 0, 2);
    grid->addWidget(label(tr("&Context"), context_), 0, 3, Qt::AlignRight);
    grid->addWidget(context_, 0, 4);
    grid->addWidget(methods_, 0, 5);
    grid->addWidget(calibrationLabel_, 1, 0, Qt::AlignRight);
    grid->addWidget(calibration_, 1, 1);
    grid->addWidget(calibrationTokens_, 1, 2);
    grid->addWidget(label(tr("I&nputs"), inputs_), 1, 3, Qt::AlignRight);
    grid->addWidget(inputs_, 1, 4);
    grid->addWidget(run_, 1, 5);
    grid->addWidget(caption_, 2, 0, 1, 6);
    grid->setColumnStretch(1, 1);
    for (QToolButton* button : {methods_, run_})
        button->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Preferred);
    connectControls();
    showButtons();
    run_->setMinimumWidth(run_->sizeHint().width() + 6);
    return panel;
}

void QualityView::connectControls() {
    connect(texts_, &TextChooser::chosen, this, &QualityView::refreshLater);
    connect(calibration_, &TextChooser::chosen, this, &QualityView::refreshLater);
    connect(inputs_, &QComboBox::currentIndexChanged, this, &QualityView::refreshLater);
    for (QSpinBox* box : {context_, tokens_, calibrationTokens_})
        connect(box, &QSpinBox::valueChanged, this, &QualityView::refreshLater);
    connect(methodPicker_, &MethodPicker::changed, this, &QualityView::refreshLater);
    connect(methods_, &QToolButton::clicked, this, [this] {
        methodPicker_->show();
        methodPicker_->raise();
        methodPicker_->activateWindow();
    });
    connect(run_, &QToolButton::clicked, this, [this] {
        if (job_.busy())
            stop();
        else if (!texts_->hasText())
            texts_->openDialog();
        else
            run();
    });
}

void QualityView::buildPages() {
    tabs_->setObjectName("qualityPages");
    tabs_->setDrawBase(false);
    tabs_->setExpanding(false);
    tabs_->setAccessibleName(tr("Pages of the Quality view"));
    for (QualityPage* page : std::initializer_list<QualityPage*>{scores_, layers_, text_, skills_, training_}) {
        stack_->addWidget(page);
        tabs_->addTab(page->name());
        adopt(page->plot());
        page->plot()->setProperty("fileName", "quality-" + page->name().toLower().replace(' ', '-'));
        connect(page, &QualityPage::formatPicked, this, [this](const FormatSpec& spec) { selectFormat(spec); });
    }
    connect(tabs_, &QTabBar::currentChanged, this, [this](int index) {
        stack_->setCurrentIndex(index);
        showButtons();
        page()->fill();
    });
}

QualityPage* QualityView::page() const {
    return static_cast<QualityPage*>(stack_->currentWidget());
}

void QualityView::showPage(const QString& name) {
    for (int i = 0; i < tabs_->count(); ++i)
        if (tabs_->tabText(i) == name)
            tabs_->setCurrentIndex(i);
}

bool QualityView::idle() const {
    return !opening_.busy() && !job_.busy() && !text_->busy() && !training_->busy();
}

// --- following the session

void QualityView::refresh() {
    if (!session()->checkpoint()) {
        showEmpty(tr("Open a checkpoint to see what quantization does to what it predicts."), tr("Open…"),
                  [this] { emit openRequested(); });
        return;
    }
    if (session()->checkpoint() != checkpoint_) {
        tokenizer_.clear();
        openModel();
    }
    if (!trouble_.isEmpty()) {
        showEmpty(trouble_, tokenizerTrouble_ ? tr("Choose tokenizer…") : QString(), [this] { chooseTokenizer(); });
        return;
    }
    if (session()->formats().empty()) {
        showEmpty(tr("Choose formats above to compare what they do to the model's predictions."));
        return;
    }
    showContent();
    fillVariants();
    fillPages();
    tellState();
    showButtons();
    // A format that is added to evaluated ones is to be compared with them, unless the user has stopped the run.
    const bool again = data_.reference.tokens > 0 && answersHold();
    if (data_.model && !job_.busy() && !stopped_ && again && !missing().empty())
        run();
}

void QualityView::openModel() {
    checkpoint_ = session()->checkpoint();
    job_.cancel();
    text_->stop();
    trouble_.clear();
    tokenizerTrouble_ = false;
    data_ = {};
    answered_ = {};
    stopped_ = partial_ = false;
    training_->clear();
    ended();
    caption_->setText(tr("Opening the model's tokenizer…"));
    opening_.start(
        [checkpoint = checkpoint_, tokenizer = tokenizer_](JobControl&) { return openRunnable(checkpoint, tokenizer); },
        [this](OpenedModel opened) { adoptModel(std::move(opened)); });
}

void QualityView::adoptModel(OpenedModel opened) {
    if (!opened.model) {
        trouble_ =
            tr("The model needs a tokenizer to be run. %1").arg(QString::fromStdString(opened.tokenizer_trouble));
        tokenizerTrouble_ = true;
        refreshLater();
        return;
    }
    data_.model = std::move(opened.model);
    const DecoderConfig& config = data_.model->decoder.config();
    const bool own = data_.model->material.has_value();
    context_->setMaximum(config.max_context > 0 ? config.max_context : longest_context);
    context_->setValue(static_cast<int>(usual_context(config, own)));
    tabs_->setTabVisible(stack_->indexOf(skills_), !data_.model->skills.empty());
    fillTexts();
    fillVariants();
    training_->clear();
    fillPages();
    tellState();
    showButtons();
    // The model that comes with the program has its text with it, and is small.
    if (own && texts_->currentIndex() == 0)
        run();
    refreshLater();
}

void QualityView::chooseTokenizer() {
    auto* dialog = new QFileDialog(this, tr("Choose the model's tokenizer"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::ExistingFile);
    dialog->setDirectory(QString::fromStdString(checkpoint_->path.parent_path().string()));
    dialog->setNameFilters({tr("Tokenizers (*.json *.model *.bin *.gguf)"), tr("All files (*)")});
    connect(dialog, &QFileDialog::fileSelected, this, &QualityView::useTokenizer);
    dialog->open();
}

void QualityView::useTokenizer(const QString& path) {
    tokenizer_ = path.toStdString();
    openModel();
    refreshLater();
}

/// The model's own text where it has one; else those of the user, and last the program's.
void QualityView::fillTexts() {
    if (data_.model && data_.model->material)
        return texts_->setEntries({{tr("held-out text"), QString::fromStdString(data_.model->material->text.string())}},
                                  {});
    texts_->setEntries({}, programText());
}

void QualityView::addText(const QString& path) {
    texts_->addText(path);
}

void QualityView::dragEnterEvent(QDragEnterEvent* event) {
    if (isText(*event->mimeData()))
        event->acceptProposedAction();
    else
        event->ignore(); // the window opens checkpoints
}

void QualityView::dropEvent(QDropEvent* event) {
    if (!isText(*event->mimeData()))
        return event->ignore();
    event->acceptProposedAction();
    addText(event->mimeData()->urls().front().toLocalFile());
}

// --- running

bool QualityView::Question::sameButCalibration(const Question& other) const {
    Question same = other;
    same.texts.calibration = texts.calibration;
    same.texts.calibration_tokens = texts.calibration_tokens;
    return *this == same;
}

/// Every format with every method, and behind it what was trained for it.
void QualityView::fillVariants() {
    data_.variants.clear();
    data_.left_out.clear();
    data_.texts = question().texts;
    data_.wants_text = !texts_->hasText();
    methodPicker_->setFormats(session()->formats());
    const auto activations = static_cast<Activations>(inputs_->currentData().toInt());
    for (Variant& variant : combine(session()->formats(), methodPicker_->chosen(), activations))
        (why_not(variant, true).empty() ? data_.variants : data_.left_out).push_back(std::move(variant));
    // What is no longer kept is not held by its results either.
    const auto forgotten = [this](const auto& of) {
        return of.first.trained && std::ranges::find(training_->kept(), of.first.trained, &KeptTraining::weights) ==
                                       training_->kept().end();
    };
    std::erase_if(data_.results, forgotten);
    std::erase_if(data_.skills, forgotten);
    for (const KeptTraining& kept : training_->kept()) {
        Variant variant = kept.variant();
        variant.activations = activations;
        const auto same = [&](const Variant& other) { return other.format == variant.format; };
        const auto last = std::ranges::find_if(data_.variants.rbegin(), data_.variants.rend(), same);
        data_.variants.insert(last == data_.variants.rend() ? data_.variants.end() : last.base(), std::move(variant));
    }
}

std::vector<Variant> QualityView::missing() const {
    std::vector<Variant> missing;
    std::ranges::copy_if(data_.variants, std::back_inserter(missing),
                         [this](const Variant& variant) { return data_.result(variant) == nullptr; });
    return missing;
}

QualityView::Question QualityView::question() const {
    const TextChoice texts{texts_->text().toStdString(), calibration_->text().toStdString(), context_->value(),
                           static_cast<std::size_t>(tokens_->value()),
                           static_cast<std::size_t>(calibrationTokens_->value())};
    return {data_.model, texts, session()->device()};
}

QualityView::Findings QualityView::work(const Question& question, const std::vector<Variant>& variants,
                                        bool ask_reference, FindingsBox& box, JobControl& job) {
    const RunnableModel& model = *question.model;
    ReadTexts texts = readTexts(model, question.texts, question.texts.calibration_tokens);
    const auto windows = std::move(texts.windows);
    std::vector<std::vector<int>> calibration;
    if (std::ranges::any_of(variants, &Variant::calibrates))
        calibration = std::move(texts.calibration.windows);
    Findings findings;
    findings.calibration = {{}, texts.calibration.source, texts.calibration.overlaps};
    findings.results = evaluate_variants(
        model.decoder, variants, windows, *question.device, job,
        [&](const VariantResults& results) {
            findings.results = results;
            box.put(findings);
        },
        calibration);
    if (model.skills.empty())
        return findings;
    if (ask_reference)
        findings.reference_skills =
            score_skills(model.decoder, *model.tokenizer, model.skills, {}, job, question.device.get());
    JobControl asking(&job); // with progress of its own
    const VariantWeights weights(model.decoder, variants, *question.device, asking, calibration);
    for (std::size_t i = 0; i < variants.size(); ++i) {
        box.put(findings);
        findings.skills.push_back(
            score_skills(model.decoder, *model.tokenizer, model.skills, weights.hook(i), job, question.device.get()));
    }
    return findings;
}

void QualityView::run() {
    if (!data_.model || !texts_->hasText())
        return;
    fillVariants();
    forgetAnswers();
    asked_ = missing();
    if (asked_.empty())
        return;
    // What is only rounded is there long before what methods make; the rest is asked for when it has come.
    const auto rounded = [](const Variant& variant) { return variant.rounds_to_nearest(); };
    if (std::ranges::any_of(asked_, rounded))
        std::erase_if(asked_, std::not_fn(rounded));
    stopped_ = false;
    data_.running = true;
    box_ = std::make_shared<FindingsBox>();
    job_.start([question = answered_, variants = asked_, ask = data_.reference_skills.empty(),
                box = box_](JobControl& job) { return work(question, variants, ask, *box, job); },
               [this](Findings findings) {
                   take(std::move(findings));
                   ended();
                   if (answersHold() && !missing().empty())
                       run();
                   refreshLater();
               });
    since_.start();
    ticks_.start();
    showButtons();
    fillPages();
    tellState();
}

/// Whether all results are of the present question.
bool QualityView::answersHold() const {
    const Question asked = question();
    const auto calibrated = [](const auto& of) { return of.first.calibrates(); };
    return asked == answered_ ||
           (asked.sameButCalibration(answered_) && std::ranges::none_of(data_.results, calibrated));
}

/// Results of another question are dropped; of another calibration text, those that depend on it.
void QualityView::forgetAnswers() {
    Question asked = question();
    if (!partial_ && asked == answered_)
        return;
    if (!partial_ && asked.sameButCalibration(answered_)) {
        const auto calibrated = [](const auto& of) { return of.first.calibrates(); };
        std::erase_if(data_.results, calibrated);
        std::erase_if(data_.skills, calibrated);
    } else {
        data_.reference = {};
        data_.results.clear();
        data_.reference_skills.clear();
        data_.skills.clear();
    }
    partial_ = false;
    answered_ = std::move(asked);
}

/// Keeps what has been found of a part of the text, unless there are results of all of it: those are not mixed.
void QualityView::stop() {
    collect();
    stopped_ = true;
    const bool all_are_new = std::ranges::all_of(
        data_.results, [this](const auto& of) { return std::ranges::find(asked_, of.first) != asked_.end(); });
    for (const Variant& variant : asked_) {
        const VariantResult* result = data_.result(variant);
        if (result && result->scores.tokens < data_.reference.tokens)
            data_.results.erase(variant);
    }
    partial_ = all_are_new;
    job_.cancel();
    ended();
}

void QualityView::ended() {
    ticks_.stop();
    box_.reset();
    data_.running = false;
    showButtons();
    fillPages();
    tellState();
}

void QualityView::collect() {
    if (auto findings = box_ ? box_->take() : std::nullopt)
        take(std::move(*findings));
    tellState();
}

void QualityView::take(Findings findings) {
    if (findings.results.reference.tokens > data_.reference.tokens)
        data_.reference = findings.results.reference;
    if (std::ranges::any_of(asked_, &Variant::calibrates))
        calibrated_ = std::move(findings.calibration);
    for (VariantResult& result : findings.results.variants)
        data_.results[result.variant] = result;
    if (!findings.reference_skills.empty())
        data_.reference_skills = std::move(findings.reference_skills);
    for (std::size_t i = 0; i < findings.skills.size(); ++i)
        data_.skills[asked_[i]] = std::move(findings.skills[i]);
    fillPages();
}

// --- showing

void QualityView::fillPages() {
    page()->fill();
    // What runs by itself keeps its rows up to date while another page is shown.
    if (page() != text_ && !text_->busy() && data_.model == nullptr)
        text_->fill();
}

QString QualityView::progressText() const {
    const auto job = job_.job();
    const auto total = static_cast<double>(job->total()), done = static_cast<double>(job->done());
    if (total <= 0)
        return tr("Reading the text…");
    if (done >= total)
        return tr("Asking each format the model's questions…");
    Throughput run{done, total};
    run.bytes_per_second = mean_rate(done, static_cast<double>(since_.elapsed()) / 1000);
    const QString left = run.bytes_per_second > 0 ? tr(", %1 left").arg(duration(run.seconds_left())) : QString();
    return tr("Running the text through %n model(s): %1%2", nullptr, static_cast<int>(asked_.size()))
        .arg(percent(done / total), left);
}

/// What methods were calibrated on, where one was; empty else.
QString QualityView::calibrationText() const {
    const auto calibrated = [this](const Variant& variant) { return variant.calibrates() && data_.result(variant); };
    if (!std::ranges::any_of(data_.variants, calibrated) || calibrated_.source.empty())
        return {};
    const QString source = QString::fromStdString(
        answered_.texts.calibration.empty() ? calibrated_.source : answered_.texts.calibration.filename().string());
    return tr("; calibrated on %1").arg(source) +
           (calibrated_.overlaps ? tr(": what is measured is what was calibrated on") : QString());
}

void QualityView::tellState() {
    if (!data_.model)
        return;
    if (job_.busy()) {
        caption_->setText(progressText());
    } else if (data_.reference.tokens > 0) {
        const QString name = QString::fromStdString(answered_.texts.text.filename().string());
        const QString calibration = calibrationText();
        const auto activations = static_cast<Activations>(inputs_->currentData().toInt());
        const QString inputs =
            activations == Activations::none ? QString() : tr("; inputs rounded to %1").arg(inputs_->currentText());
        caption_->setText(
            tr("Over %1 tokens of %2 in windows of %3%4%5")
                .arg(QString::number(data_.reference.tokens), name)
                .arg(answered_.texts.context)
                .arg(inputs)
                .arg(calibration.isEmpty() ? tr("; embedding, norms and head stay as they are") : calibration));
    } else {
        caption_->setText(tr("Every format's model predicts each token of the text from those before it."));
    }
}

void QualityView::showButtons() {
    const bool busy = job_.busy();
    run_->setText(busy ? tr("Stop") : tr("Evaluate"));
    run_->setIcon(icon(busy ? "stop" : "analyse"));
    run_->setToolTip(busy ? tr("Stop the evaluation and keep what it has found")
                          : tr("Run the text through the model in every format"));
    run_->setEnabled(busy || data_.model);
    const std::vector<MethodSpec> chosen = methodPicker_->chosen();
    methods_->setText(chosen.size() == 1 ? tr("Method: %1…").arg(QString::fromStdString(chosen.front().id))
                                         : tr("%n methods…", nullptr, static_cast<int>(chosen.size())));
    const bool calibrates =
        std::ranges::any_of(chosen, [](const MethodSpec& spec) { return method(spec.id).calibrates; });
    const bool trains = page() == training_;
    for (QWidget* widget : std::initializer_list<QWidget*>{calibrationLabel_, calibration_})
        widget->setEnabled(calibrates || trains);
    calibrationTokens_->setEnabled(calibrates && !trains);
    calibration_->setToolTip(calibrates || trains
                                 ? tr("What methods that look at the inputs of layers are calibrated on, and what is "
                                      "trained on")
                                 : tr("None of the chosen methods is calibrated on a text"));
}

} // namespace qs::gui
