#include "app/gui/panels/DeviceComparison.h"

#include <QClipboard>
#include <QGuiApplication>
#include <QHeaderView>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QTableWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <array>

#include "app/gui/Numbers.h"
#include "app/gui/panels/DeviceChooser.h"

namespace qs::gui {

namespace {

constexpr int steps = 1000;
constexpr int progress_ms = 100;

enum Column : int { name, tensors, counts, deviation, place, columns };

QString whole(std::uint64_t number) {
    return count(static_cast<double>(number));
}

QString countsText(const Agreement& agreement) {
    return agreement.differing == 0 ? whole(agreement.counts) + " equal"
                                    : whole(agreement.differing) + " of " + whole(agreement.counts) + " differ";
}

/// "mse of model.layers.0.mlp.up_proj.weight"; empty where nothing deviates.
QString placeText(const Deviation& largest, const Checkpoint& checkpoint) {
    if (largest.metric.empty())
        return {};
    return QString::fromStdString(largest.metric + " of " + checkpoint.tensors[largest.tensor].name);
}

QString verdictText(const Agreement& all) {
    const QString found = QStringLiteral("; the largest deviation is %1").arg(significant(all.largest.relative));
    if (all.holds())
        return QStringLiteral("The results agree: all %1 counts are equal and no number deviates by more than %2%3.")
            .arg(whole(all.counts), significant(agreement_bound, 1),
                 all.largest.metric.empty() ? ", or at all" : found);
    const QString counts = all.differing == 0
                               ? QStringLiteral("all counts are equal")
                               : QStringLiteral("%1 of %2 counts differ").arg(whole(all.differing), whole(all.counts));
    return QStringLiteral("The results do not agree: %1%2, of %3 at most.")
        .arg(counts, found, significant(agreement_bound, 1));
}

} // namespace

DeviceComparison::DeviceComparison(Session* session, const QString& other, QWidget* parent)
    : QWidget(parent), checkpoint_(session->checkpoint()), first_(shortDeviceName(session->device()->info())),
      job_(this) {
    title_ = new QLabel(this);
    title_->setObjectName("comparisonTitle");
    title_->setWordWrap(true);
    QFont bold = title_->font();
    bold.setBold(true);
    title_->setFont(bold);
    verdict_ = new QLabel(this);
    verdict_->setObjectName("comparisonVerdict");
    verdict_->setWordWrap(true);
    verdict_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    notes_ = new QLabel(this);
    notes_->setObjectName("comparisonNotes");
    notes_->setWordWrap(true);
    notes_->hide();
    progress_ = new QProgressBar(this);
    progress_->setAccessibleName("Progress of the comparison");
    progress_->setRange(0, steps);
    progress_->setTextVisible(false);
    progress_->setFixedHeight(6);

    table_ = new QTableWidget(0, columns, this);
    table_->setObjectName("comparison");
    table_->setAccessibleName("Results of both devices");
    table_->setHorizontalHeaderLabels({"", "Tensors", "Counts", "Largest\ndeviation", "Where"});
    table_->horizontalHeaderItem(counts)->setToolTip(
        "How often each code is used, weights in the sums, bits stored, where the largest error is: equal or not");
    table_->horizontalHeaderItem(deviation)->setToolTip(
        "Difference of a metric or a statistic over the larger of both values");
    table_->horizontalHeader()->setStretchLastSection(true);
    table_->horizontalHeader()->setHighlightSections(false);
    table_->verticalHeader()->hide();
    table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 6);
    table_->setShowGrid(false);
    table_->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setWordWrap(false);
    table_->setTextElideMode(Qt::ElideMiddle);
    table_->setTabKeyNavigation(false);
    copy_ = new QPushButton("Copy table", this);
    copy_->setObjectName("comparisonCopy");
    copy_->setEnabled(false);
    connect(copy_, &QPushButton::clicked, this, [this] { QGuiApplication::clipboard()->setText(text()); });

    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    for (QWidget* each : {static_cast<QWidget*>(title_), static_cast<QWidget*>(progress_),
                          static_cast<QWidget*>(verdict_), static_cast<QWidget*>(notes_)})
        layout->addWidget(each);
    layout->addWidget(table_, 1);
    layout->addWidget(copy_, 0, Qt::AlignLeft);

    ticks_.setInterval(progress_ms);
    connect(&ticks_, &QTimer::timeout, this, &DeviceComparison::showProgress);
    connect(&job_, &Background::failed, this, [this, other](const Failure& failure) {
        ticks_.stop();
        progress_->hide();
        verdict_->setText(
            QStringLiteral("The comparison with %1 has failed: %2.")
                .arg(other, failure.where.isEmpty() ? failure.what : failure.where + ": " + failure.what));
    });
    start(session, other);
}

void DeviceComparison::start(Session* session, const QString& other) {
    const auto& devices = session->devices();
    const auto info = std::ranges::find(devices, other.toStdString(), &DeviceInfo::id);
    title_->setText(QStringLiteral("%1 beside %2: %3 tensors in %4 formats")
                        .arg(first_, info == devices.end() ? other : shortDeviceName(*info))
                        .arg(session->coverage().tensors.size())
                        .arg(session->formats().size()));
    verdict_->setText(QStringLiteral("Measuring…"));
    job_.start(
        [checkpoint = checkpoint_, tensors = session->coverage().tensors, specs = session->formats(),
         first = session->device(), known = session->currentReports(), make = session->deviceSource().make,
         id = other.toStdString()](JobControl& job) {
            // Nothing may do a device's work in its place: results that agree would tell nothing.
            const std::unique_ptr<Device> second = make(id);
            const DeviceInfo before = first->info();
            Comparison comparison = compare_devices(*checkpoint, tensors, specs, *first, *second, job,
                                                    [&](std::size_t tensor) { return known[tensor].get(); });
            if (first->info().id != before.id)
                throw Error(before.name, "failed meanwhile");
            return Outcome{std::move(comparison), second->notes()};
        },
        [this](const Outcome& outcome) { show(outcome); });
    ticks_.start();
}

void DeviceComparison::showProgress() {
    if (const auto job = job_.job(); job && job->total() > 0)
        progress_->setValue(static_cast<int>(steps * job->done() / job->total()));
}

void DeviceComparison::show(const Outcome& outcome) {
    ticks_.stop();
    progress_->hide();
    const Comparison& comparison = outcome.comparison;
    verdict_->setText(verdictText(comparison.overall()));
    addRow("Weights", comparison.statistics);
    for (std::size_t i = 0; i < comparison.specs.size(); ++i)
        addRow(QString::fromStdString(comparison.specs[i].text()), comparison.formats[i]);
    addRow("All", comparison.overall());
    for (const int column : {name, tensors, counts, deviation}) {
        table_->resizeColumnToContents(column);
        table_->setColumnWidth(column, table_->columnWidth(column) + 10);
    }
    QStringList notes;
    for (const std::string& note : outcome.notes)
        notes += QString::fromStdString(note) + '.';
    notes_->setText(notes.join(' '));
    notes_->setVisible(!notes.isEmpty());
    copy_->setEnabled(true);
}

void DeviceComparison::addRow(const QString& label, const Agreement& agreement) {
    const int row = table_->rowCount();
    table_->insertRow(row);
    const QString where = placeText(agreement.largest, *checkpoint_);
    const std::array<QString, columns> texts{label, whole(agreement.tensors), countsText(agreement),
                                             significant(agreement.largest.relative), where};
    const std::array<QString, columns> tips{
        agreement.holds() ? "Agrees" : "Does not agree", QString::number(agreement.tensors),
        QStringLiteral("%1 of %2 counts differ").arg(agreement.differing).arg(agreement.counts),
        full(agreement.largest.relative), where};
    for (int column = 0; column < columns; ++column) {
        const auto at = static_cast<std::size_t>(column);
        auto* item = new QTableWidgetItem(texts[at] + (column == name && !agreement.holds() ? " !" : ""));
        item->setToolTip(tips[at]);
        item->setTextAlignment(Qt::AlignVCenter | (column == name || column == place ? Qt::AlignLeft : Qt::AlignRight));
        table_->setItem(row, column, item);
    }
}

QString DeviceComparison::text() const {
    QString text = QStringLiteral("of\ttensors\tcounts\tlargest deviation\twhere\n");
    for (int row = 0; row < table_->rowCount(); ++row) {
        QStringList cells{table_->item(row, name)->text()};
        for (const int column : {tensors, counts, deviation, place})
            cells += table_->item(row, column)->toolTip();
        text += cells.join('\t') + '\n';
    }
    return text;
}

} // namespace qs::gui
