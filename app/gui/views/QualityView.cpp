#include "app/gui/views/QualityView.h"

#include <QDragEnterEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QGridLayout>
#include <QLabel>
#include <QMenu>
#include <QMimeData>
#include <QSpinBox>
#include <QStackedWidget>
#include <QTabBar>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/views/ElidedCombo.h"
#include "app/gui/views/QualityLayers.h"
#include "app/gui/views/QualityScores.h"
#include "app/gui/views/QualitySkills.h"
#include "app/gui/views/QualityText.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/model/text_windows.h"

namespace qs::gui {

namespace {

constexpr int batch_ms = 100;
constexpr int usual_tokens = 4096;
constexpr int most_tokens = 10'000'000;
constexpr int longest_context = 1 << 17;
const QString choose_text = QStringLiteral("choose");

std::shared_ptr<const RunnableModel> openRunnable(std::shared_ptr<const Checkpoint> checkpoint) {
    Decoder decoder(checkpoint);
    std::vector<LinearTensor> linears = decoder.weights().linears();
    auto tokenizer = open_tokenizer(*checkpoint);
    auto material = material_of(*checkpoint);
    std::vector<Skill> skills;
    if (material)
        skills = read_skills(material->skills);
    return std::make_shared<const RunnableModel>(RunnableModel{std::move(checkpoint), std::move(decoder),
                                                               std::move(tokenizer), std::move(linears),
                                                               std::move(material), std::move(skills)});
}

bool isText(const QMimeData& data) {
    const auto urls = data.urls();
    return urls.size() == 1 && urls.front().isLocalFile() &&
           urls.front().toLocalFile().endsWith(".txt", Qt::CaseInsensitive);
}

} // namespace

QualityView::QualityView(Session* session, QWidget* parent)
    : View(session, parent), texts_(new ElidedCombo), context_(new QSpinBox), tokens_(new QSpinBox),
      methods_(new QToolButton), methodMenu_(new QMenu(this)), run_(new QToolButton), caption_(new Caption),
      tabs_(new QTabBar), stack_(new QStackedWidget), scores_(new QualityScores(session, data_)),
      layers_(new QualityLayers(session, data_)), text_(new QualityText(session, data_)),
      skills_(new QualitySkills(session, data_)) {
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
    texts_->setToolTip(tr("What the model has to predict; a .txt file can be dropped here"));
    texts_->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    texts_->setMinimumContentsLength(12);
    context_->setObjectName("evaluationContext");
    context_->setRange(2, longest_context);
    context_->setToolTip(tr("Tokens of a window, each of which is run on its own"));
    tokens_->setObjectName("evaluationTokens");
    tokens_->setRange(16, most_tokens);
    tokens_->setValue(usual_tokens);
    tokens_->setSingleStep(1024);
    tokens_->setGroupSeparatorShown(true);
    tokens_->setToolTip(tr("Tokens that are predicted, from the beginning of the text; more make the errors smaller"));
    run_->setObjectName("evaluate");
    run_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    methods_->setObjectName("methods");
    methods_->setText(tr("Methods"));
    methods_->setToolTip(tr("How the codes are chosen"));
    methods_->setPopupMode(QToolButton::InstantPopup);
    methods_->setMenu(methodMenu_);
    for (const MethodSpec& spec : runnable_methods()) {
        QAction* choice = methodMenu_->addAction(QString::fromStdString(method(spec.id).title));
        choice->setCheckable(true);
        choice->setChecked(spec.id == "rtn");
        choice->setData(QString::fromStdString(spec.text()));
        connect(choice, &QAction::toggled, this, &QualityView::refreshLater);
    }
    methods_->setVisible(methodMenu_->actions().size() > 1);
    const auto label = [](const QString& text, QWidget* buddy) {
        auto* made = new QLabel(text);
        made->setBuddy(buddy);
        return made;
    };
    grid->addWidget(label(tr("Te&xt"), texts_), 0, 0, Qt::AlignRight);
    grid->addWidget(texts_, 0, 1);
    grid->addWidget(label(tr("&Context"), context_), 0, 2);
    grid->addWidget(context_, 0, 3);
    grid->addWidget(label(tr("&Tokens"), tokens_), 0, 4);
    grid->addWidget(tokens_, 0, 5);
    grid->addWidget(methods_, 0, 6);
    grid->addWidget(run_, 0, 7);
    grid->addWidget(caption_, 1, 0, 1, 8);
    grid->setColumnStretch(1, 1);
    connect(texts_, &QComboBox::activated, this, [this] {
        if (texts_->currentData().toString() == choose_text)
            chooseText();
        showButtons();
    });
    connect(run_, &QToolButton::clicked, this, [this] {
        if (job_.busy())
            stop();
        else if (texts_->currentData().toString() == choose_text)
            chooseText();
        else
            run();
    });
    showButtons();
    run_->setMinimumWidth(run_->sizeHint().width() + 6);
    return panel;
}

void QualityView::buildPages() {
    tabs_->setObjectName("qualityPages");
    tabs_->setDrawBase(false);
    tabs_->setExpanding(false);
    tabs_->setAccessibleName(tr("Pages of the Quality view"));
    for (QualityPage* page : std::initializer_list<QualityPage*>{scores_, layers_, text_, skills_}) {
        stack_->addWidget(page);
        tabs_->addTab(page->name());
        adopt(page->plot());
        page->plot()->setProperty("fileName", "quality-" + page->name().toLower().replace(' ', '-'));
        connect(page, &QualityPage::formatPicked, this, [this](const FormatSpec& spec) { selectFormat(spec); });
    }
    connect(tabs_, &QTabBar::currentChanged, this, [this](int index) {
        stack_->setCurrentIndex(index);
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
    return !opening_.busy() && !job_.busy() && !text_->busy();
}

// --- following the session

void QualityView::refresh() {
    if (!session()->checkpoint()) {
        showEmpty(tr("Open a checkpoint to see what quantization does to what it predicts."), tr("Open…"),
                  [this] { emit openRequested(); });
        return;
    }
    if (session()->checkpoint() != checkpoint_)
        openModel();
    if (!trouble_.isEmpty()) {
        showEmpty(trouble_);
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
    // A format that is added to evaluated ones is to be compared with them, unless the user has stopped the run.
    const bool again = data_.reference.tokens > 0 && answered_ == question();
    if (data_.model && !job_.busy() && !stopped_ && again && !missing().empty())
        run();
}

void QualityView::openModel() {
    checkpoint_ = session()->checkpoint();
    job_.cancel();
    text_->stop();
    trouble_.clear();
    data_ = {};
    answered_ = {};
    stopped_ = partial_ = false;
    ended();
    caption_->setText(tr("Opening the model's tokenizer…"));
    opening_.start([checkpoint = checkpoint_](JobControl&) { return openRunnable(checkpoint); },
                   [this](std::shared_ptr<const RunnableModel> model) { adoptModel(std::move(model)); });
}

void QualityView::adoptModel(std::shared_ptr<const RunnableModel> model) {
    data_.model = std::move(model);
    const DecoderConfig& config = data_.model->decoder.config();
    const bool own = data_.model->material.has_value();
    context_->setMaximum(config.max_context > 0 ? config.max_context : longest_context);
    context_->setValue(static_cast<int>(usual_context(config, own)));
    tabs_->setTabVisible(tabs_->count() - 1, !data_.model->skills.empty());
    fillTexts();
    fillVariants();
    fillPages();
    tellState();
    showButtons();
    // The model that comes with the program has its text with it, and is small.
    if (own && texts_->currentIndex() == 0)
        run();
    refreshLater();
}

void QualityView::fillTexts() {
    const QString chosen = texts_->currentData().toString();
    texts_->clear();
    if (data_.model && data_.model->material)
        texts_->addItem(tr("held-out text"), QString::fromStdString(data_.model->material->text.string()));
    for (const QString& path : chosenTexts_)
        texts_->addItem(QFileInfo(path).fileName(), path);
    texts_->addItem(tr("Choose a text…"), choose_text);
    texts_->setCurrentIndex(std::max(0, chosen == choose_text ? 0 : texts_->findData(chosen)));
}

void QualityView::addText(const QString& path) {
    chosenTexts_.removeAll(path);
    chosenTexts_.prepend(path);
    fillTexts();
    texts_->setCurrentIndex(texts_->findData(path));
    tellState();
    showButtons();
}

void QualityView::chooseText() {
    auto* dialog = new QFileDialog(this, tr("Choose a text to evaluate"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::ExistingFile);
    dialog->setNameFilters({tr("Texts (*.txt *.md)"), tr("All files (*)")});
    connect(dialog, &QFileDialog::fileSelected, this, &QualityView::addText);
    connect(dialog, &QFileDialog::rejected, this, [this] { texts_->setCurrentIndex(0); });
    dialog->open();
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

std::vector<MethodSpec> QualityView::chosenMethods() const {
    std::vector<MethodSpec> chosen;
    for (const QAction* choice : methodMenu_->actions())
        if (choice->isChecked())
            chosen.push_back(parse_method(choice->data().toString().toStdString()));
    return chosen;
}

void QualityView::fillVariants() {
    data_.variants.clear();
    data_.left_out.clear();
    for (Variant& variant : combine(session()->formats(), chosenMethods()))
        (why_not(variant).empty() ? data_.variants : data_.left_out).push_back(std::move(variant));
}

std::vector<Variant> QualityView::missing() const {
    std::vector<Variant> missing;
    std::ranges::copy_if(data_.variants, std::back_inserter(missing),
                         [this](const Variant& variant) { return data_.result(variant) == nullptr; });
    return missing;
}

QualityView::Question QualityView::question() const {
    return {data_.model, texts_->currentData().toString().toStdString(), context_->value(),
            static_cast<std::size_t>(tokens_->value()), session()->device()};
}

QualityView::Findings QualityView::work(const Question& question, const std::vector<Variant>& variants,
                                        bool ask_reference, FindingsBox& box, JobControl& job) {
    const RunnableModel& model = *question.model;
    const auto file = MappedFile::open(question.text);
    const std::string_view text = as_text(file->bytes());
    const auto windows = text_windows(*model.tokenizer, model.decoder.config(), text,
                                      {usual_separator(text), question.context, question.tokens});
    if (windows.empty())
        throw Error(question.text, "has no token to predict", "choose a longer text");
    Findings findings;
    findings.results =
        evaluate_variants(model.decoder, variants, windows, *question.device, job, [&](const VariantResults& results) {
            findings.results = results;
            box.put(findings);
        });
    if (model.skills.empty())
        return findings;
    if (ask_reference)
        findings.reference_skills = score_skills(model.decoder, *model.tokenizer, model.skills, {}, job);
    const VariantWeights weights(model.decoder, variants, *question.device, job);
    for (std::size_t i = 0; i < variants.size(); ++i) {
        box.put(findings);
        findings.skills.push_back(score_skills(model.decoder, *model.tokenizer, model.skills, weights.hook(i), job));
    }
    return findings;
}

void QualityView::run() {
    if (!data_.model || texts_->currentData().toString() == choose_text)
        return;
    if (Question asked = question(); asked != answered_ || partial_) {
        answered_ = std::move(asked);
        partial_ = false;
        data_.reference = {};
        data_.results.clear();
        data_.reference_skills.clear();
        data_.skills.clear();
    }
    asked_ = missing();
    if (asked_.empty())
        return;
    stopped_ = false;
    data_.running = true;
    box_ = std::make_shared<FindingsBox>();
    job_.start([question = answered_, variants = asked_, ask = data_.reference_skills.empty(),
                box = box_](JobControl& job) { return work(question, variants, ask, *box, job); },
               [this](Findings findings) {
                   take(std::move(findings));
                   ended();
                   refreshLater();
               });
    ticks_.start();
    showButtons();
    fillPages();
    tellState();
}

/// Keeps what has been found of a part of the text, unless there are results of all of it: those are not mixed.
void QualityView::stop() {
    collect();
    stopped_ = true;
    const bool all_are_new = data_.results.size() <= asked_.size();
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

void QualityView::tellState() {
    if (!data_.model)
        return;
    const auto job = job_.job();
    if (job) {
        const auto total = static_cast<double>(job->total()), done = static_cast<double>(job->done());
        const bool reading = total > 0 && done < total;
        caption_->setText(
            reading ? tr("Running the text through %n format(s): %1", nullptr, static_cast<int>(asked_.size()))
                          .arg(percent(done / total))
            : total > 0 ? tr("Asking each format the model's questions…")
                        : tr("Reading the text…"));
    } else if (data_.reference.tokens > 0) {
        const QString name = QFileInfo(QString::fromStdString(answered_.text)).fileName();
        caption_->setText(tr("Over %1 tokens of %2 in windows of %3; embedding, norms and head stay as they are")
                              .arg(QString::number(data_.reference.tokens), name)
                              .arg(answered_.context));
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
}

} // namespace qs::gui
