#include "app/gui/panels/InspectorPanel.h"

#include <QAction>
#include <QClipboard>
#include <QFileInfo>
#include <QGridLayout>
#include <QGuiApplication>
#include <QHeaderView>
#include <QLabel>
#include <QMenu>
#include <QScrollArea>
#include <QScrollBar>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

#include "app/gui/Numbers.h"
#include "app/gui/models/CheckpointModel.h"
#include "app/gui/models/ResultsModel.h"
#include "app/gui/panels/CheckpointPanel.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

QString roleText(Role role) {
    return QString::fromStdString(std::string(to_string(role))).replace('_', ' ');
}

/// Long names may break after a dot.
QString breakable(const QString& name) {
    return QString(name).replace('.', QStringLiteral(".\u200b"));
}

QLabel* heading(const QString& text, QWidget* parent) {
    auto* label = new QLabel(text, parent);
    QFont bold = label->font();
    bold.setBold(true);
    label->setFont(bold);
    label->setContentsMargins(0, 8, 0, 0);
    return label;
}

QString name(const FormatSpec& spec) {
    return QString::fromStdString(spec.text());
}

QString decibels(double value) {
    return significant(value) + thin_space + "dB";
}

} // namespace

QString meaning(const FormatResult& chosen, const std::vector<const FormatResult*>& others) {
    if (chosen.sums.count == 0)
        return {};
    const QString cost = QStringLiteral("%1 takes %2%3bits a weight")
                             .arg(name(chosen.spec), significant(chosen.bits_per_weight()), thin_space);
    if (chosen.sums.sum_d2 == 0)
        return cost + QStringLiteral(" and gives every weight back unchanged.");
    QString text = cost + QStringLiteral("; its error is %1 of the weights' length (%2).")
                              .arg(percent(chosen.relative_error()), decibels(chosen.sqnr_db()));
    // The one that is nearest in size tells most about the choice.
    const FormatResult* nearest = nullptr;
    const auto distance = [&](const FormatResult* other) {
        return std::abs(std::log(other->bits_per_weight() / chosen.bits_per_weight()));
    };
    for (const FormatResult* other : others)
        if (other->spec != chosen.spec && std::isfinite(other->sqnr_db()) &&
            (nearest == nullptr || distance(other) < distance(nearest)))
            nearest = other;
    if (nearest == nullptr)
        return text;
    const double gain = nearest->sqnr_db() - chosen.sqnr_db();
    const double more = nearest->bits_per_weight() - chosen.bits_per_weight();
    const QString size =
        more == 0
            ? QStringLiteral("the same")
            : QStringLiteral("%1%2bits %3").arg(significant(std::abs(more)), thin_space, more > 0 ? "more" : "less");
    return text + QStringLiteral(" %1 takes %2 and is %3 %4.")
                      .arg(name(nearest->spec), size, decibels(std::abs(gain)), gain >= 0 ? "better" : "worse");
}

InspectorPanel::InspectorPanel(Session* session, QWidget* parent)
    : QWidget(parent), session_(session), results_(new ResultsModel(session, this)) {
    auto* content = new QWidget;
    auto* column = new QVBoxLayout(content);
    column->setContentsMargins(10, 8, 10, 10);
    column->setSpacing(4);

    title_ = new QLabel(content);
    title_->setObjectName("inspectorTitle");
    title_->setWordWrap(true);
    title_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    QFont big = title_->font();
    big.setBold(true);
    title_->setFont(big);
    subtitle_ = new QLabel(content);
    subtitle_->setObjectName("inspectorSubtitle");
    subtitle_->setWordWrap(true);
    toModel_ = new QToolButton(content);
    toModel_->setObjectName("inspectorToModel");
    toModel_->setText("Show the whole model");
    toModel_->setProperty("framed", true);
    toModel_->setToolTip("Select no tensor and show the totals of the model");
    connect(toModel_, &QToolButton::clicked, session, [session] { session->selectTensor(std::nullopt); });

    factsBox_ = new QWidget(content);
    facts_ = new QGridLayout(factsBox_);
    facts_->setContentsMargins(0, 0, 0, 0);
    facts_->setVerticalSpacing(2);
    facts_->setColumnStretch(1, 1);

    table_ = new QTableView(content);
    table_->setObjectName("results");
    table_->setAccessibleName("Errors of the formats");
    table_->setModel(results_);
    table_->verticalHeader()->hide();
    table_->setShowGrid(false);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setSelectionMode(QAbstractItemView::SingleSelection);
    table_->setHorizontalScrollMode(QAbstractItemView::ScrollPerPixel);
    table_->setVerticalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    table_->setTabKeyNavigation(false);
    table_->setWordWrap(false);
    table_->verticalHeader()->setDefaultSectionSize(QFontMetrics(font()).height() + 6);
    table_->horizontalHeader()->setHighlightSections(false);
    table_->setIconSize({10, 10});
    table_->setContextMenuPolicy(Qt::CustomContextMenu);
    connect(table_, &QWidget::customContextMenuRequested, this, &InspectorPanel::showMenu);
    auto* copy = new QAction("Copy table", table_);
    copy->setShortcut(QKeySequence::Copy);
    copy->setShortcutContext(Qt::WidgetShortcut);
    connect(copy, &QAction::triggered, this, [this] { QGuiApplication::clipboard()->setText(results_->text()); });
    table_->addAction(copy);

    notes_ = new QLabel(content);
    notes_->setObjectName("inspectorNotes");
    notes_->setWordWrap(true);
    meaning_ = new QLabel(content);
    meaning_->setObjectName("inspectorMeaning");
    meaning_->setWordWrap(true);
    meaning_->setTextInteractionFlags(Qt::TextSelectableByMouse);

    figures_ = new QWidget(content);
    auto* figures = new QVBoxLayout(figures_);
    figures->setContentsMargins(0, 0, 0, 0);
    figures->setSpacing(4);
    figures->addWidget(heading("Formats", figures_));
    figures->addWidget(table_);
    figures->addWidget(notes_);
    figures->addWidget(heading("What it means", figures_));
    figures->addWidget(meaning_);
    figures->addWidget(heading("Weights", figures_));
    figures->addWidget(factsBox_);
    column->addWidget(title_);
    column->addWidget(subtitle_);
    column->addWidget(toModel_, 0, Qt::AlignLeft);
    column->addWidget(figures_);
    column->addStretch();

    setMinimumWidth(256);
    auto* area = new QScrollArea(this);
    area->setWidget(content);
    area->setWidgetResizable(true);
    area->setFrameShape(QFrame::NoFrame);
    area->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(area);

    for (auto signal :
         {&Session::tensorSelected, &Session::resultsChanged, &Session::checkpointChanged, &Session::formatsChanged})
        connect(session, signal, this, &InspectorPanel::refresh);
    connect(session, &Session::formatSelected, this, [this] {
        followSelectedFormat();
        showMeaning();
    });
    connect(results_, &QAbstractItemModel::modelReset, this, &InspectorPanel::followSelectedFormat);
    connect(table_->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& now) {
        if (now.isValid())
            session_->selectFormat(static_cast<std::size_t>(now.row()));
    });
    connect(&Theme::instance(), &Theme::changed, this, &InspectorPanel::refresh);
    refresh();
}

void InspectorPanel::refresh() {
    const auto tensor = session_->selectedTensor();
    toModel_->setVisible(tensor.has_value());
    figures_->setVisible(session_->checkpoint() != nullptr);
    if (!session_->checkpoint()) {
        title_->setText("No checkpoint is open");
        subtitle_->clear();
        showFacts({});
    } else if (tensor) {
        showTensor(*tensor);
    } else {
        showModel();
    }
    showNotes();
    fitTable();
    followSelectedFormat();
    showMeaning();
}

void InspectorPanel::showTensor(std::size_t index) {
    const TensorInfo& tensor = session_->checkpoint()->tensors[index];
    title_->setText(breakable(QString::fromStdString(tensor.name)));
    QStringList parts{shapeText(tensor), QString::fromStdString(tensor.dtype_name), roleText(tensor.role)};
    if (tensor.layer)
        parts += QStringLiteral("layer %1").arg(*tensor.layer);
    if (tensor.expert)
        parts += QStringLiteral("expert %1").arg(*tensor.expert);
    parts += count(static_cast<double>(tensor.elements())) + " weights";
    parts += bytes(static_cast<double>(tensor.bytes));
    subtitle_->setText(parts.join(QStringLiteral(" · ")));
    subtitle_->setToolTip(QStringLiteral("%1 weights, %2 bytes").arg(tensor.elements()).arg(tensor.bytes));

    const TensorReport* report = session_->report(index);
    if (report == nullptr) {
        QString reason = QStringLiteral("not measured yet");
        for (const SkippedTensor& skipped : session_->coverage().skipped)
            if (skipped.tensor == index)
                reason = QStringLiteral("left out: ") + QString::fromStdString(skipped.reason);
        return showFacts({{"Statistics", reason, {}, {}}});
    }
    const Statistics& s = report->statistics;
    const auto number = [](const QString& name, double value, const QString& help) {
        return Fact{name, significant(value), full(value), help};
    };
    const auto share = [&s](const QString& name, std::uint64_t n, const QString& help) {
        const double part = s.count > 0 ? static_cast<double>(n) / static_cast<double>(s.count) : 0;
        const QString value = n == 0 ? QStringLiteral("0") : count(static_cast<double>(n)) + " (" + percent(part) + ')';
        return Fact{name, value, QStringLiteral("%1 of %2").arg(n).arg(s.count), help};
    };
    showFacts({
        number("Minimum", s.min, "The smallest weight."),
        number("Maximum", s.max, "The largest weight."),
        number("Mean", s.mean, "The average weight."),
        number("σ", s.std, "Standard deviation: how far a typical weight is from the mean."),
        number("Skewness", s.skewness, "Asymmetry: 0 for a symmetric distribution."),
        number("Excess kurtosis", s.excess_kurtosis,
               "Weight of the tails: 0 for a normal distribution, large where there are outliers."),
        number("max |w| / σ", s.std > 0 ? s.absmax() / s.std : 0,
               "How many standard deviations the largest weight is out; absmax scales follow it."),
        share("Beyond 3σ", s.beyond_3_sigma, "Weights farther than 3σ from the mean; 0.27 % of a normal distribution."),
        share("Beyond 6σ", s.beyond_6_sigma, "Outliers farther than 6σ from the mean."),
        share("Zeros", s.zeros, "Weights that are exactly zero."),
        share("NaN", s.nan, "Not a number: left out of all figures."),
        share("Infinite", s.inf, "Infinite values: left out of all figures."),
    });
}

void InspectorPanel::showModel() {
    const Checkpoint& checkpoint = *session_->checkpoint();
    const QString file = QFileInfo(QString::fromStdString(checkpoint.path.string())).fileName();
    title_->setText("Whole model");
    QStringList parts{file, QString::fromStdString(checkpoint.container)};
    if (!checkpoint.architecture.empty())
        parts += QString::fromStdString(checkpoint.architecture);
    subtitle_->setText(parts.join(QStringLiteral(" · ")));
    subtitle_->setToolTip(QString::fromStdString(checkpoint.path.string()));

    const auto exact = [](const QString& name, std::uint64_t value, const QString& text, const QString& help) {
        return Fact{name, text, QString::number(value), help};
    };
    std::vector<Fact> facts{
        exact("Parameters", checkpoint.parameters(), count(static_cast<double>(checkpoint.parameters())),
              "Elements of all tensors."),
        exact("Stored", checkpoint.bytes(), bytes(static_cast<double>(checkpoint.bytes())),
              "Bytes of all tensors in the file, 1 GB = 10⁹ bytes."),
        exact("Tensors", checkpoint.tensors.size(), QString::number(checkpoint.tensors.size()), "Tensors in the file."),
        exact("Measured", session_->coverage().tensors.size(), QString::number(session_->coverage().tensors.size()),
              "Floating-point tensors of two or more dimensions; the figures above are sums over their weights."),
    };
    for (const std::string& note : checkpoint.notes)
        facts.push_back({"Note", QString::fromStdString(note), QString::fromStdString(note), {}});
    showFacts(facts);
}

/// What the stars in the table mean, formats with the same note together.
void InspectorPanel::showNotes() {
    std::vector<std::pair<QString, QStringList>> notes;
    for (int row = 0; row < results_->rowCount(); ++row) {
        const QString note = results_->fallback(row);
        if (note.isEmpty())
            continue;
        auto known = std::ranges::find(notes, note, &std::pair<QString, QStringList>::first);
        if (known == notes.end())
            known = notes.insert(notes.end(), {note, {}});
        known->second += name(session_->formats()[static_cast<std::size_t>(row)]);
    }
    QStringList lines;
    for (const auto& [note, formats] : notes)
        lines += "* " + formats.join(", ") + ": " + note;
    notes_->setText(lines.join('\n'));
    notes_->setVisible(!lines.isEmpty());
}

void InspectorPanel::showFacts(const std::vector<Fact>& facts) {
    while (factLabels_.size() < facts.size()) {
        const int row = static_cast<int>(factLabels_.size());
        auto* label = new QLabel(factsBox_);
        auto* value = new QLabel(factsBox_);
        value->setAlignment(Qt::AlignRight | Qt::AlignTop);
        value->setTextInteractionFlags(Qt::TextSelectableByMouse);
        value->setWordWrap(true);
        facts_->addWidget(label, row, 0, Qt::AlignTop);
        facts_->addWidget(value, row, 1);
        factLabels_.emplace_back(label, value);
    }
    QPalette muted = palette();
    muted.setColor(QPalette::WindowText, Theme::instance().mutedText());
    for (std::size_t i = 0; i < factLabels_.size(); ++i) {
        const auto [label, value] = factLabels_[i];
        label->setVisible(i < facts.size());
        value->setVisible(i < facts.size());
        if (i >= facts.size())
            continue;
        label->setPalette(muted);
        label->setText(facts[i].name);
        label->setToolTip(facts[i].help);
        value->setText(facts[i].value);
        value->setToolTip(facts[i].tip);
        value->setAccessibleName(facts[i].name + ' ' + facts[i].value);
    }
}

void InspectorPanel::showMeaning() {
    const FormatResult* chosen = results_->result(static_cast<int>(session_->selectedFormat()));
    std::vector<const FormatResult*> others;
    for (int row = 0; row < results_->rowCount(); ++row)
        if (const FormatResult* other = results_->result(row))
            others.push_back(other);
    QString text = chosen != nullptr ? meaning(*chosen, others) : QString();
    if (text.isEmpty())
        text = session_->running() ? QStringLiteral("Being measured.") : QStringLiteral("Analyse to see figures here.");
    meaning_->setText(text);
}

/// As high as its rows; the whole inspector scrolls, not the table.
void InspectorPanel::fitTable() {
    table_->resizeColumnsToContents();
    table_->setFixedHeight(table_->horizontalHeader()->sizeHint().height() +
                           table_->verticalHeader()->defaultSectionSize() * std::max(1, results_->rowCount()) +
                           table_->horizontalScrollBar()->sizeHint().height() + 2);
}

void InspectorPanel::followSelectedFormat() {
    const int row = static_cast<int>(session_->selectedFormat());
    if (row < results_->rowCount() && table_->currentIndex().row() != row)
        table_->selectRow(row);
}

void InspectorPanel::showMenu(const QPoint& position) {
    QMenu menu(this);
    menu.addAction("Copy table", this, [this] { QGuiApplication::clipboard()->setText(results_->text()); });
    menu.addAction("Copy everything", this, &InspectorPanel::copyAll);
    menu.exec(table_->viewport()->mapToGlobal(position));
}

void InspectorPanel::copyAll() const {
    const auto tensor = session_->selectedTensor();
    QGuiApplication::clipboard()->setText(tensor ? reportText(*session_, *tensor) : results_->text());
}

} // namespace qs::gui
