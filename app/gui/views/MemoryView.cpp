#include "app/gui/views/MemoryView.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QGridLayout>
#include <QHeaderView>
#include <QLabel>
#include <QSlider>
#include <QSpinBox>
#include <QTableWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"
#include "app/gui/views/ElidedCombo.h"

namespace qs::gui {

namespace {

/// Of a bar, so that names and labels do not run into each other.
constexpr int row_height = 18;
constexpr double gib = 1024.0 * 1024 * 1024;
constexpr int steps_per_octave = 8;
constexpr std::uint64_t first_context = 4096;
const QString from_checkpoint = QStringLiteral("checkpoint");
const QString choose_file = QStringLiteral("choose");
const QString file_prefix = QStringLiteral("file:");

QString inGib(double value) {
    return significant(value / gib) + thin_space + QStringLiteral("GiB");
}
QString bothUnits(double value) {
    return bytes(value) + QStringLiteral(" · ") + inGib(value);
}

/// Families of parts: the weights in one hue, from what is most of them to what is least; then what a run adds.
struct Part {
    const char* name;
    QRgb light, dark;
};
constexpr std::array<Part, 7> parts = {{{"linear weights", 0x1b6f8a, 0x3a9dbc},
                                        {"embedding weights", 0x5aa3b8, 0x74bfd4},
                                        {"head weights", 0x8fc3d1, 0xa9d8e4},
                                        {"norm weights", 0xbfdfe7, 0xd5eef4},
                                        {"kv cache", 0xd29a2e, 0xe3b04b},
                                        {"activations", 0xa5638f, 0xc98ab5},
                                        {"runtime overhead", 0x8a929c, 0x7b8490}}};

QColor partColour(const std::string& name) {
    const auto found = std::ranges::find_if(parts, [&](const Part& part) { return name == part.name; });
    if (found == parts.end())
        return Theme::instance().mutedText();
    return QColor(Theme::instance().dark() ? found->dark : found->light);
}

void narrow(QComboBox* box, int characters) {
    box->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    box->setMinimumContentsLength(characters);
}

} // namespace

// --- LogSlider

LogSlider::LogSlider(int leastPower, int greatestPower, QWidget* parent)
    : QWidget(parent), slider_(new QSlider(Qt::Horizontal)), field_(new QSpinBox) {
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(0, 0, 0, 0);
    slider_->setRange(leastPower * steps_per_octave, greatestPower * steps_per_octave);
    slider_->setPageStep(steps_per_octave);
    slider_->setMinimumWidth(60);
    field_->setRange(1, 1 << 24);
    field_->setGroupSeparatorShown(true);
    field_->setKeyboardTracking(false);
    row->addWidget(slider_, 1);
    row->addWidget(field_);
    connect(slider_, &QSlider::valueChanged, this, [this](int position) {
        const QSignalBlocker quiet(field_);
        field_->setValue(static_cast<int>(valueAt(position)));
        emit changed(value());
    });
    connect(field_, &QSpinBox::valueChanged, this, [this] {
        const QSignalBlocker quiet(slider_);
        slider_->setValue(positionOf(value()));
        emit changed(value());
    });
}

std::uint64_t LogSlider::value() const {
    return static_cast<std::uint64_t>(field_->value());
}

void LogSlider::setValue(std::uint64_t value) {
    field_->setValue(static_cast<int>(value));
}

/// Between the powers of two in steps of an eighth of the lower one: 4096, 4608, 5120, …
std::uint64_t LogSlider::valueAt(int position) const {
    const int octave = position / steps_per_octave, part = position % steps_per_octave;
    const double value = std::exp2(octave) * (1 + static_cast<double>(part) / steps_per_octave);
    return static_cast<std::uint64_t>(std::llround(value));
}

int LogSlider::positionOf(std::uint64_t value) const {
    const double octave = std::floor(std::log2(static_cast<double>(value)));
    const double part = static_cast<double>(value) / std::exp2(octave) - 1;
    return static_cast<int>(std::lround((octave + part) * steps_per_octave));
}

// --- MemoryView

MemoryView::MemoryView(Session* session, QWidget* parent)
    : View(session, parent), plot_(new Plot), model_(new ElidedCombo), gpu_(new ElidedCombo), cache_(new QComboBox),
      flash_(new QCheckBox(tr("&Flash attention"))), context_(new LogSlider(7, 20)), batch_(new LogSlider(0, 10)),
      caption_(new QLabel), table_(new QTableWidget) {
    auto* column = new QVBoxLayout(content());
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(0);
    column->addWidget(buildControls());
    caption_->setContentsMargins(8, 2, 8, 0);
    caption_->setWordWrap(true);
    column->addWidget(caption_);
    buildPlot();
    column->addWidget(new PlotScroll(plot_), 1);
    buildTable();
    column->addWidget(table_);

    connect(&cardJob_, &Background::failed, this, [this](const Failure& failure) {
        card_.reset();
        rows_.clear();
        fillBars();
        fillTable();
        caption_->clear();
        plot_->setNote(tr("%1: %2. Choose a model card or a config.json above.").arg(failure.where, failure.what));
        plot_->replot(QCustomPlot::rpQueuedReplot);
        if (source_ != from_checkpoint)
            emit failed(failure);
    });
    connect(&job_, &Background::failed, this, &MemoryView::failed);
    for (const auto signal : {&Session::checkpointChanged, &Session::formatsChanged, &Session::formatSelected})
        connect(session, signal, this, &MemoryView::refreshLater);
}

QWidget* MemoryView::buildControls() {
    auto* panel = new QWidget;
    auto* grid = new QGridLayout(panel);
    grid->setContentsMargins(8, 6, 8, 2);
    grid->setHorizontalSpacing(8);
    grid->setVerticalSpacing(4);
    model_->setObjectName("model");
    model_->setToolTip(tr("Whose weights, layers and heads are counted"));
    gpu_->setObjectName("gpu");
    gpu_->setToolTip(tr("Whose memory the bars are measured against"));
    cache_->setObjectName("kvCache");
    cache_->setToolTip(tr("How the keys and values of past tokens are stored"));
    context_->field()->setObjectName("context");
    context_->slider()->setObjectName("contextSlider");
    context_->setToolTip(tr("Tokens of one sequence"));
    context_->field()->setAccessibleName(tr("Context in tokens"));
    batch_->field()->setObjectName("batch");
    batch_->slider()->setObjectName("batchSlider");
    batch_->setToolTip(tr("Sequences at once"));
    batch_->field()->setAccessibleName(tr("Batch in sequences"));
    flash_->setObjectName("flash");
    flash_->setToolTip(tr("Attention computed in tiles: no matrix of context × context is stored"));
    narrow(model_, 14);
    narrow(gpu_, 14);
    narrow(cache_, 8);
    const auto add = [grid](int row, int column, const QString& text, QWidget* widget) {
        auto* label = new QLabel(text);
        label->setBuddy(widget);
        grid->addWidget(label, row, column, Qt::AlignRight);
        grid->addWidget(widget, row, column + 1);
    };
    add(0, 0, tr("Mo&del"), model_);
    add(0, 2, tr("&GPU"), gpu_);
    add(0, 4, tr("&KV cache"), cache_);
    add(1, 0, tr("&Context"), context_);
    add(1, 2, tr("&Batch"), batch_);
    grid->addWidget(flash_, 1, 4, 1, 2);
    grid->setColumnStretch(1, 2);
    grid->setColumnStretch(3, 3);

    const auto& cards = gpu_catalogue();
    for (const Gpu& gpu : cards)
        gpu_->addItem(QString::fromStdString(gpu.name) + QStringLiteral(" · ") + QString::number(gpu.bytes / gib) +
                      thin_space + QStringLiteral("GiB"));
    const auto usual =
        std::ranges::find_if(cards, [](const Gpu& gpu) { return gpu.kind == "desktop" && gpu.bytes >= 24 * gib; });
    gpu_->setCurrentIndex(usual == cards.end() ? 0 : static_cast<int>(usual - cards.begin()));
    for (const char* type : {"fp16", "bf16", "fp32", "fp8_e4m3", "q8_0", "q4_0"})
        cache_->addItem(type);
    flash_->setChecked(true);
    context_->setValue(first_context);
    batch_->setValue(1);
    fillModels();

    connect(model_, &QComboBox::activated, this, &MemoryView::takeModel);
    connect(gpu_, &QComboBox::currentIndexChanged, this, &MemoryView::compute);
    connect(cache_, &QComboBox::currentIndexChanged, this, &MemoryView::compute);
    connect(flash_, &QCheckBox::toggled, this, &MemoryView::compute);
    connect(batch_, &LogSlider::changed, this, &MemoryView::compute);
    connect(context_, &LogSlider::changed, this, [this] {
        contextTyped_ = true;
        compute();
    });
    return panel;
}

void MemoryView::fillModels() {
    model_->addItem(tr("Open checkpoint"), from_checkpoint);
    model_->insertSeparator(model_->count());
    for (const ModelCard& card : model_cards()) {
        model_->addItem(QString::fromStdString(card.title), QString::fromStdString(card.id));
        model_->setItemData(model_->count() - 1, QString::fromStdString(card.source), Qt::ToolTipRole);
    }
    model_->insertSeparator(model_->count());
    model_->addItem(tr("A config.json…"), choose_file);
}

void MemoryView::buildPlot() {
    plot_->setObjectName("memory");
    adopt(plot_);
    QCPAxisRect* pane = plot_->addPane(1);
    QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
    bars_ = new StackedBars(x, y);
    y->grid()->setVisible(false);
    y->setTickLength(0);
    plot_->setReadout([this](QCPAxisRect*, QPointF position) { return readoutAt(position); });
    connect(plot_, &Plot::themed, this, [this] { fillBars(); });
    connect(plot_, &Plot::paneClicked, this, [this](QCPAxisRect*, QPointF position) {
        const auto row = std::lround(position.y());
        if (row >= 0 && row < static_cast<long>(rows_.size()))
            selectFormat(rows_[static_cast<std::size_t>(row)].spec);
    });
}

void MemoryView::buildTable() {
    struct Column {
        QString name, help;
    };
    const std::array<Column, 6> columns = {{
        {tr("Format"), tr("Formats chosen above")},
        {tr("Naive"), tr("Weights alone: parameters × the bits in the format's name ÷ 8, as textbooks count")},
        {tr("True"), tr("Weights as they are stored: codes, scales, zero points, padding, and what stays in 16 bits")},
        {tr("Total"), tr("Weights, KV cache, activations and the runtime's overhead")},
        {tr("Fits"), tr("Whether the total is at most the memory of the GPU")},
        {tr("Max context"), tr("The longest context that fits the GPU with this batch")},
    }};
    table_->setObjectName("ledgerTable");
    table_->setAccessibleName(tr("Memory of each format"));
    table_->setColumnCount(static_cast<int>(columns.size()));
    for (int i = 0; i < table_->columnCount(); ++i) {
        auto* item = new QTableWidgetItem(columns[static_cast<std::size_t>(i)].name);
        item->setToolTip(columns[static_cast<std::size_t>(i)].help);
        item->setTextAlignment((i == 0 ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
        table_->setHorizontalHeaderItem(i, item);
    }
    table_->horizontalHeader()->setSectionResizeMode(QHeaderView::Stretch);
    for (const int column : {0, 3, 5})
        table_->horizontalHeader()->setSectionResizeMode(column, QHeaderView::ResizeToContents);
    table_->verticalHeader()->hide();
    table_->verticalHeader()->setDefaultSectionSize(table_->fontMetrics().height() + 8);
    table_->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setSelectionMode(QAbstractItemView::SingleSelection);
    table_->setShowGrid(false);
    table_->setFrameShape(QFrame::NoFrame);
    table_->setWordWrap(false);
    table_->setStyleSheet(QStringLiteral("QTableWidget::item { padding: 0 4px; }"));
    connect(table_, &QTableWidget::cellClicked, this,
            [this](int row, int) { selectFormat(rows_[static_cast<std::size_t>(row)].spec); });
}

// --- following the session

void MemoryView::refresh() {
    if (session()->formats().empty()) {
        showEmpty(tr("Choose formats above to compare the memory that a model takes in them."));
        return;
    }
    showContent();
    if (session()->checkpoint() != checkpoint_ || source_.isEmpty()) {
        checkpoint_ = session()->checkpoint();
        const QString name = checkpoint_ ? QString::fromStdString(checkpoint_->path.filename().string()) : QString();
        model_->setItemText(0, name.isEmpty() ? tr("Open checkpoint") : tr("Open: %1").arg(name));
        if (source_.isEmpty())
            model_->setCurrentIndex(checkpoint_ ? 0 : 2);
        if (source_.isEmpty() || source_ == from_checkpoint) {
            takeModel();
            return;
        }
    }
    compute();
}

const Gpu* MemoryView::gpu() const {
    const int index = gpu_->currentIndex();
    return index < 0 ? nullptr : &gpu_catalogue()[static_cast<std::size_t>(index)];
}

MemoryOptions MemoryView::options() const {
    MemoryOptions options;
    options.context = context_->value();
    options.batch = batch_->value();
    options.kv_cache = cache_->currentText().toStdString();
    options.flash_attention = flash_->isChecked();
    return options;
}

void MemoryView::chooseConfig() {
    const QString path = QFileDialog::getOpenFileName(this, tr("Count a model from its config.json"), {},
                                                      tr("Hugging Face configuration (*.json);;All files (*)"));
    if (path.isEmpty()) {
        model_->setCurrentIndex(std::max(0, model_->findData(source_)));
        return;
    }
    const QString data = file_prefix + path;
    if (model_->findData(data) < 0) {
        const QFileInfo info(path);
        model_->insertItem(1, info.dir().dirName() + '/' + info.fileName(), data);
    }
    model_->setCurrentIndex(model_->findData(data));
}

void MemoryView::takeModel() {
    if (model_->currentData().toString() == choose_file)
        chooseConfig();
    source_ = model_->currentData().toString();
    plot_->setNote({});
    if (source_ == from_checkpoint) {
        if (!checkpoint_) {
            cardJob_.cancel();
            card_.reset();
            rows_.clear();
            fillBars();
            fillTable();
            plot_->setNote(tr("No checkpoint is open; choose a model card above."));
            plot_->replot(QCustomPlot::rpQueuedReplot);
            return;
        }
        cardJob_.start(
            [checkpoint = checkpoint_](JobControl&) {
                return std::make_shared<const ModelCard>(card_from_checkpoint(*checkpoint));
            },
            [this](std::shared_ptr<const ModelCard> card) { useCard(std::move(card)); });
    } else {
        cardJob_.start(
            [source = source_](JobControl&) {
                return std::make_shared<const ModelCard>(
                    source.startsWith(file_prefix) ? card_from_config(source.mid(file_prefix.size()).toStdString())
                                                   : model_card(source.toStdString()));
            },
            [this](std::shared_ptr<const ModelCard> card) { useCard(std::move(card)); });
    }
}

void MemoryView::useCard(std::shared_ptr<const ModelCard> card) {
    card_ = std::move(card);
    if (!contextTyped_ && card_->max_context > 0) {
        const QSignalBlocker quiet(context_);
        context_->setValue(std::min<std::uint64_t>(first_context, static_cast<std::uint64_t>(card_->max_context)));
    }
    plot_->goHome(true);
    compute();
}

void MemoryView::compute() {
    if (!card_ || !gpu())
        return;
    job_.start(
        [card = card_, specs = session()->formats(), options = options(), gpu = gpu()](JobControl& job) {
            Answer answer;
            for (const FormatSpec& spec : specs) {
                job.check();
                answer.rows.push_back({spec, inference_ledger(*card, spec, options), fit(*gpu, *card, spec, options)});
            }
            answer.best = best_fitting(*gpu, *card, specs, options);
            return answer;
        },
        [this](Answer answer) { showAnswer(std::move(answer)); });
}

// --- drawing

void MemoryView::showAnswer(Answer answer) {
    rows_ = std::move(answer.rows);
    best_ = std::move(answer.best);
    QString text = tr("%1 · %2 parameters · %3 layers")
                       .arg(QString::fromStdString(card_->title), count(static_cast<double>(card_->parameters)))
                       .arg(card_->layers);
    if (card_->max_context > 0 && context_->value() > static_cast<std::uint64_t>(card_->max_context))
        text += tr(" · made for at most %1 tokens").arg(QString::number(card_->max_context));
    text += best_ ? tr(" · best that fits: %1").arg(nameOf(*best_)) : tr(" · none of these formats fits");
    caption_->setText(text);
    fillBars();
    fillTable();
    fitRange();
    plot_->replot(QCustomPlot::rpQueuedReplot);
}

void MemoryView::fillBars() {
    std::vector<StackedBars::Bar> bars;
    std::vector<std::string> names;
    for (const Row& row : rows_) {
        StackedBars::Bar bar;
        for (const LedgerLine& line : row.ledger.lines) {
            bar.segments.push_back({line.bytes, partColour(line.name)});
            if (line.bytes > 0 && std::ranges::find(names, line.name) == names.end())
                names.push_back(line.name);
        }
        bar.mark = row.ledger.naive_bytes;
        bar.label = bothUnits(row.ledger.total_bytes);
        bar.strong = row.spec == session()->selectedSpec();
        bars.push_back(std::move(bar));
    }
    std::vector<LegendEntry> entries;
    for (const Part& part : parts)
        if (std::ranges::find(names, part.name) != names.end())
            entries.push_back({part.name, part.name, partColour(part.name), LegendEntry::Mark::block, false});
    if (!entries.empty())
        entries.push_back({"naive", tr("naive weights"), Theme::instance().text(), LegendEntry::Mark::tick, false});
    plot_->keys()->setEntries(std::move(entries));
    bars_->setBars(std::move(bars));
    const Gpu* card = gpu();
    bars_->setLimit(card && !rows_.empty() ? std::optional(card->bytes) : std::nullopt,
                    card ? QString::fromStdString(card->name) + QStringLiteral(" · ") + bothUnits(card->bytes)
                         : QString());
    QCPAxisRect* pane = plot_->axisRects().front();
    pane->setMinimumSize(60, row_height * (static_cast<int>(rows_.size()) + 2));
    QCPAxis* y = pane->axis(QCPAxis::atLeft);
    const int last = static_cast<int>(rows_.size()) - 1;
    plot_->setFixedTicker(y, QSharedPointer<QCPAxisTicker>(new IndexTicker(
                                 0, last,
                                 [this](double at, double) {
                                     const auto index = static_cast<std::size_t>(at);
                                     return index < rows_.size() ? nameOf(rows_[index].spec) : QString();
                                 },
                                 64)));
    y->setRangeReversed(true);
    // Room above the first bar for the name of the limit.
    const double rowPixels = 0.75 * plot_->height() / (last + 2.0);
    y->setRange(-0.45 - std::min(1.0, 26 / rowPixels), last + 0.6);
}

void MemoryView::setUnit(double largest) {
    QCPAxis* x = plot_->axisRects().front()->axis(QCPAxis::atBottom);
    const bool giga = largest >= 2e8;
    const double unit = giga ? 1e9 : 1e6;
    plot_->nameAxis(x, tr("memory"), giga ? QStringLiteral("GB") : QStringLiteral("MB"));
    plot_->setTickText(x, [unit](double value, double step) { return plainTick(value / unit, step / unit); });
}

/// The bars with room for their labels; the GPU's limit too where that leaves the bars readable.
void MemoryView::fitRange() {
    double largest = 0;
    for (const Row& row : rows_)
        largest = std::max({largest, row.ledger.total_bytes, row.ledger.naive_bytes});
    if (largest <= 0)
        return;
    const double limit = bars_->limit().value_or(0);
    constexpr double label_room = 1.6;
    const double bars = largest * label_room;
    const double all = std::max(bars, limit * 1.1);
    plot_->setHome(plot_->axisRects().front()->axis(QCPAxis::atBottom), QCPRange(0, limit < 3 * largest ? all : bars),
                   QCPRange(0, all));
    plot_->goHome();
    setUnit(largest);
}

void MemoryView::fillTable() {
    table_->setRowCount(static_cast<int>(rows_.size()));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        const Row& row = rows_[i];
        const Ledger& ledger = row.ledger;
        QString fits = row.fit.fits ? tr("✓ fits") : tr("✗ too large");
        if (row.spec == best_)
            fits = tr("✓ best");
        const std::array<QString, 6> texts = {nameOf(row.spec),
                                              bytes(ledger.naive_bytes),
                                              bytes(ledger.weight_bytes),
                                              bothUnits(ledger.total_bytes),
                                              fits,
                                              row.fit.max_context > 0
                                                  ? tr("%1 tokens").arg(count(static_cast<double>(row.fit.max_context)))
                                                  : tr("none")};
        const std::array<QString, 6> tips = {nameOf(row.spec),
                                             tr("%1 bytes").arg(full(ledger.naive_bytes)),
                                             QString::fromStdString(ledger.difference),
                                             tr("%1 bytes").arg(full(ledger.total_bytes)),
                                             fits,
                                             tr("%1 tokens").arg(row.fit.max_context)};
        for (int column = 0; column < table_->columnCount(); ++column) {
            const auto at = static_cast<std::size_t>(column);
            auto* item = new QTableWidgetItem(texts[at]);
            item->setToolTip(tips[at]);
            item->setTextAlignment((column == 0 ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
            table_->setItem(static_cast<int>(i), column, item);
        }
        if (row.spec == session()->selectedSpec())
            table_->selectRow(static_cast<int>(i));
    }
    // As high as its rows, and at most two fifths of the view; the bars have the rest.
    const int wanted = table_->horizontalHeader()->sizeHint().height() +
                       static_cast<int>(rows_.size()) * table_->verticalHeader()->defaultSectionSize() + 4;
    table_->setFixedHeight(std::min(wanted, std::max(80, 2 * height() / 5)));
}

std::optional<ReadoutText> MemoryView::readoutAt(QPointF position) const {
    const auto hit = bars_->hitAt(position);
    if (!hit)
        return std::nullopt;
    const Row& row = rows_[hit->bar];
    const LedgerLine& line = row.ledger.lines[hit->segment];
    ReadoutText text;
    text.hairLine = false;
    text.title = nameOf(row.spec) + QStringLiteral(" · ") + QString::fromStdString(line.name);
    text.rows.push_back({partColour(line.name), tr("takes"), bothUnits(line.bytes)});
    text.rows.push_back({std::nullopt, tr("of the total"), percent(line.bytes / row.ledger.total_bytes)});
    text.note = QString::fromStdString(line.formula);
    return text;
}

QByteArray MemoryView::csv() const {
    QByteArray text = "format,line,bytes,formula\n";
    for (const Row& row : rows_) {
        const QByteArray format = csvText(nameOf(row.spec)) + ',';
        for (const LedgerLine& line : row.ledger.lines)
            text += format + csvText(QString::fromStdString(line.name)) + ',' + csvNumber(line.bytes) + ',' +
                    csvText(QString::fromStdString(line.formula)) + '\n';
        text += format + "total," + csvNumber(row.ledger.total_bytes) + ",\n";
        text += format + "naive weights," + csvNumber(row.ledger.naive_bytes) + ",\n";
        text += format + "max context," + QByteArray::number(row.fit.max_context) + ",\n";
    }
    return text;
}

} // namespace qs::gui
