#include "app/gui/views/QualityText.h"

#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QSpinBox>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <array>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr int batch_ms = 34;
const char* const usual_prompt = "Once upon a time";

} // namespace

QualityText::QualityText(Session* session, const QualityData& data, QWidget* parent)
    : QualityPage(session, data, parent), prompt_(new QLineEdit), tokens_(new QSpinBox),
      temperature_(new QDoubleSpinBox), topP_(new QDoubleSpinBox), seed_(new QSpinBox), run_(new QToolButton) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    buildControls(column);
    plot()->setObjectName("qualityText");
    column->addWidget(new PlotScroll(plot()), 1);
    plot()->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });
    connect(plot(), &Plot::paneClicked, this, [this](QCPAxisRect* pane, QPointF) {
        const auto row = static_cast<std::size_t>(std::ranges::find(panes_, pane) - panes_.begin());
        if (row > 0 && row <= models_.size())
            emit formatPicked(models_[row - 1].format);
    });
    ticks_.setInterval(batch_ms);
    connect(&ticks_, &QTimer::timeout, this, &QualityText::collect);
    connect(&job_, &Background::failed, this, [this](const Failure& failure) {
        ended();
        emit failed(failure);
    });
}

void QualityText::buildControls(QBoxLayout* column) {
    prompt_->setObjectName("prompt");
    prompt_->setText(usual_prompt);
    prompt_->setToolTip(tr("Each model goes on from here"));
    tokens_->setObjectName("continuationTokens");
    tokens_->setRange(1, 999);
    tokens_->setValue(48);
    tokens_->setToolTip(tr("At most so many tokens"));
    temperature_->setObjectName("temperature");
    temperature_->setRange(0, 5);
    temperature_->setSingleStep(0.1);
    temperature_->setSpecialValueText(tr("greedy"));
    temperature_->setToolTip(
        tr("Greedy takes the most probable token; a temperature draws one: 1 as the model says, more evens out"));
    topP_->setObjectName("topP");
    topP_->setRange(0.05, 1);
    topP_->setSingleStep(0.05);
    topP_->setValue(1);
    topP_->setToolTip(tr("Draws only from the most probable tokens that together have this probability"));
    seed_->setObjectName("seed");
    seed_->setRange(0, 9999);
    seed_->setToolTip(tr("Of the numbers that tokens are drawn with, the same for all models"));
    run_->setObjectName("continue");
    run_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    QHBoxLayout* first = addControls(column);
    addControl(first, tr("Prom&pt"), prompt_);
    first->addWidget(run_);
    QHBoxLayout* second = addControls(column);
    addControl(second, tr("To&kens"), tokens_);
    addControl(second, tr("Temperat&ure"), temperature_);
    const std::array<QWidget*, 4> of_drawing{addControl(second, tr("&Top-p"), topP_), topP_,
                                             addControl(second, tr("See&d"), seed_), seed_};
    second->addStretch();
    // The most probable token is not drawn.
    const auto offer = [this, of_drawing] {
        for (QWidget* widget : of_drawing)
            widget->setVisible(temperature_->value() > 0);
    };
    offer();
    connect(temperature_, &QDoubleSpinBox::valueChanged, this, offer);
    connect(prompt_, &QLineEdit::returnPressed, this, &QualityText::start);
    connect(run_, &QToolButton::clicked, this, [this] { busy() ? stop() : start(); });
    showButtons();
    run_->setMinimumWidth(run_->sizeHint().width() + 6);
}

void QualityText::showButtons() {
    run_->setText(busy() ? tr("Stop") : tr("Continue"));
    run_->setIcon(icon(busy() ? "stop" : "analyse"));
    run_->setToolTip(busy() ? tr("Stop and keep what is there")
                            : tr("Let the original and each format continue the prompt (Return)"));
    run_->setEnabled(busy() || data().model);
}

// --- running

void QualityText::start() {
    if (!data().model)
        return;
    model_ = data().model;
    models_ = data().variants;
    texts_.clear();
    written_ = prompt_->text();
    laidOut_ = false;
    inbox_ = std::make_shared<Inbox<std::vector<Continuation>>>();
    ContinuationRequest request;
    request.tokens = static_cast<std::size_t>(tokens_->value());
    request.sampling = {temperature_->value(), topP_->value()};
    request.seed = static_cast<std::uint64_t>(seed_->value());
    request.end = model_->tokenizer->traits().eos;
    job_.start(
        [model = model_, variants = models_, choice = data().texts, device = session()->device(), inbox = inbox_,
         prompt = written_, request](JobControl& job) mutable {
            request.prompt = model->tokenizer->encode(prompt.toStdString(), model->tokenizer->defaults());
            std::vector<std::vector<int>> calibration;
            if (std::ranges::any_of(variants, &Variant::calibrates))
                calibration = readTexts(*model, choice, choice.calibration_tokens).calibration.windows;
            const VariantWeights weights(model->decoder, variants, *device, job, calibration);
            std::vector<WeightHook> models{{}};
            for (std::size_t i = 0; i < variants.size(); ++i)
                models.push_back(weights.hook(i));
            return continue_side_by_side(
                model->decoder, models, request, job,
                [&](const std::vector<Continuation>& texts) { inbox->put(texts); }, device.get());
        },
        [this](std::vector<Continuation> texts) {
            texts_ = std::move(texts);
            ended();
        });
    ticks_.start();
    showButtons();
    fill();
}

void QualityText::stop() {
    collect();
    job_.cancel();
    ended();
}

void QualityText::ended() {
    ticks_.stop();
    showButtons();
    fill();
}

void QualityText::collect() {
    if (auto texts = inbox_ ? inbox_->take() : std::nullopt)
        texts_ = std::move(*texts);
    else if (!texts_.empty())
        return;
    fill();
}

/// How far the models are that are to write: methods take them long.
QString QualityText::makingText() const {
    const auto job = job_.job();
    if (!job || job->total() == 0)
        return tr("Making the models…");
    return tr("Making the models: %1")
        .arg(percent(static_cast<double>(job->done()) / static_cast<double>(job->total())));
}

// --- drawing

QString QualityText::nameOfModel(std::size_t model) const {
    return model == 0 ? tr("unquantized") : nameOf(models_[model - 1]);
}

QColor QualityText::colourOf(std::size_t model) const {
    return model == 0 ? Theme::instance().original() : Theme::instance().format(models_[model - 1].format);
}

QString QualityText::piece(int token) const {
    return QString::fromStdString(model_->tokenizer->piece(token));
}

/// How a format's text compares to the original's.
QString QualityText::verdict(std::size_t model) const {
    if (texts_.empty() || texts_.front().tokens.empty())
        return {};
    if (model == 0)
        return tr("deeper tint: more probable");
    const auto differs = first_difference(texts_[model], texts_.front());
    return differs  ? tr("differs from token %1 on").arg(*differs + 1)
           : busy() ? tr("the same so far")
                    : tr("the same text");
}

void QualityText::layOut() {
    laidOut_ = true;
    plot()->clearPanes();
    panes_.clear();
    headings_.clear();
    rows_.clear();
    if (!model_)
        return;
    for (std::size_t model = 0; model <= models_.size(); ++model) {
        const int row = 1 + 2 * static_cast<int>(model);
        headings_.push_back(new TextRow(plot()));
        plot()->plotLayout()->addElement(row, 0, headings_.back());
        QCPAxisRect* pane = plot()->addPane(row + 1);
        for (const auto side : {QCPAxis::atBottom, QCPAxis::atLeft}) {
            pane->axis(side)->setVisible(false);
            pane->axis(side)->grid()->setVisible(false);
        }
        pane->setRangeDrag({});
        pane->setRangeZoom({});
        panes_.push_back(pane);
        rows_.push_back(new TokenText(pane->axis(QCPAxis::atBottom), pane->axis(QCPAxis::atLeft)));
    }
}

void QualityText::fill() {
    if (data().model != model_ && !busy()) {
        model_.reset();
        models_.clear();
        texts_.clear();
        laidOut_ = false;
    }
    if (!laidOut_)
        layOut();
    for (std::size_t model = 0; model < rows_.size(); ++model)
        fillRow(model);
    fitHeights();
    showButtons();
    plot()->setNote(!model_                    ? tr("Continue the prompt to see where the formats leave the original.")
                    : busy() && texts_.empty() ? makingText()
                                               : QString());
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

void QualityText::fillRow(std::size_t model) {
    std::vector<TokenText::Token> tokens;
    if (model < texts_.size())
        for (const ContinuedToken& token : texts_[model].tokens)
            tokens.push_back({piece(token.token), token.probabilities[model]});
    rows_[model]->setPrompt(written_);
    rows_[model]->setTokens(std::move(tokens));
    rows_[model]->setColour(colourOf(model));
    rows_[model]->setFramed(model > 0 && model < texts_.size() ? first_difference(texts_[model], texts_.front())
                                                               : std::nullopt);
    const bool strong = model > 0 && selected(models_[model - 1]);
    headings_[model]->setParts({{nameOfModel(model), colourOf(model), strong, true},
                                {verdict(model), Theme::instance().mutedText(), false, false, true}});
}

void QualityText::fitHeights() {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        const QMargins margins = panes_[i]->minimumMargins();
        const double width = plot()->width() - margins.left() - margins.right();
        panes_[i]->setMinimumSize(60, rows_[i]->heightFor(width));
        plot()->plotLayout()->setRowStretchFactor(2 + 2 * static_cast<int>(i), 1);
    }
}

void QualityText::resizeEvent(QResizeEvent* event) {
    QualityPage::resizeEvent(event);
    QTimer::singleShot(0, this, [this] {
        fitHeights();
        plot()->replot(QCustomPlot::rpQueuedReplot);
    });
}

// --- reading off

std::optional<ReadoutText> QualityText::readoutAt(QCPAxisRect* pane, QPointF position) const {
    const auto row = static_cast<std::size_t>(std::ranges::find(panes_, pane) - panes_.begin());
    if (row >= texts_.size())
        return std::nullopt;
    const auto place = rows_[row]->tokenAt(position);
    if (!place || *place >= texts_[row].tokens.size())
        return std::nullopt;
    const ContinuedToken& token = texts_[row].tokens[*place];
    ReadoutText text;
    text.hairLine = false;
    text.title = tr("“%1” by %2").arg(piece(token.token), nameOfModel(row));
    for (std::size_t model = 0; model < token.probabilities.size(); ++model)
        text.rows.push_back({colourOf(model), nameOfModel(model), percent(token.probabilities[model])});
    text.note = tr("What each model thinks of this token after the text before it");
    return text;
}

QByteArray QualityText::csv() const {
    QByteArray csv = "text,position,token,piece";
    for (std::size_t model = 0; model < texts_.size(); ++model)
        csv += ',' + csvText(tr("probability by %1").arg(nameOfModel(model)));
    for (std::size_t text = 0; text < texts_.size(); ++text)
        for (std::size_t i = 0; i < texts_[text].tokens.size(); ++i) {
            const ContinuedToken& token = texts_[text].tokens[i];
            csv += '\n' + csvText(nameOfModel(text)) + ',' + QByteArray::number(i + 1) + ',' +
                   QByteArray::number(token.token) + ',' + csvText(piece(token.token));
            for (const double probability : token.probabilities)
                csv += ',' + csvNumber(probability);
        }
    return csv + '\n';
}

} // namespace qs::gui
