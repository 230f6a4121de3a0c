#include "app/gui/models/ResultsModel.h"

#include <QStringList>

#include <cmath>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/plot/Theme.h"
#include "core/formats/registry.h"

namespace qs::gui {

namespace {

/// Columns are as narrow as their numbers, so that more of them are in sight.
QString inTwoLines(QString title) {
    if (const qsizetype space = title.lastIndexOf(' '); space > 0)
        return title.replace(space, 1, '\n');
    return title.replace('/', QStringLiteral("/\n"));
}

} // namespace

ResultsModel::ResultsModel(Session* session, QObject* parent) : QAbstractTableModel(parent), session_(session) {
    for (const char* id : {"bits_per_weight", "sqnr_db", "relative_error", "mse", "cosine", "max_abs_error",
                           "mean_error", "code_entropy"})
        columns_.push_back(&metric(id));
    connect(session, &Session::formatsChanged, this, &ResultsModel::reset);
    connect(session, &Session::checkpointChanged, this, &ResultsModel::reset);
    connect(session, &Session::resultsChanged, this, &ResultsModel::refresh);
    connect(session, &Session::tensorSelected, this, &ResultsModel::refresh);
    connect(&Theme::instance(), &Theme::changed, this, &ResultsModel::refresh);
    reset();
}

void ResultsModel::reset() {
    beginResetModel();
    specs_ = session_->formats();
    endResetModel();
}

void ResultsModel::refresh() {
    if (!specs_.empty())
        emit dataChanged(index(0, 0), index(rowCount() - 1, columnCount() - 1));
}

const FormatResult* ResultsModel::result(int row) const {
    const auto at = static_cast<std::size_t>(row);
    if (at >= specs_.size())
        return nullptr;
    if (const auto tensor = session_->selectedTensor())
        return session_->result(*tensor, specs_[at]);
    const auto& model = session_->model().model;
    return at < model.size() && model[at].spec == specs_[at] && model[at].tensors > 0 ? &model[at].total : nullptr;
}

QString ResultsModel::fallback(int row) const {
    const FormatResult* measured = result(row);
    if (measured == nullptr)
        return {};
    if (session_->selectedTensor())
        return measured->fallback ? QStringLiteral("stored as %1: the rows are not whole blocks of %2")
                                        .arg(QString::fromStdString(measured->fallback->text()),
                                             QString::fromStdString(measured->spec.id))
                                  : QString();
    const AggregateResult& all = session_->model().model[static_cast<std::size_t>(row)];
    return all.fallbacks == 0
               ? QString()
               : QStringLiteral("%1 of %2 tensors are stored in another format: their rows are not whole blocks")
                     .arg(all.fallbacks)
                     .arg(all.tensors);
}

QString ResultsModel::text() const {
    QStringList lines;
    QStringList header{QStringLiteral("format")};
    for (const Metric* column : columns_)
        header += column->id;
    lines += header.join('\t');
    for (int row = 0; row < rowCount(); ++row) {
        QStringList cells{QString::fromStdString(specs_[static_cast<std::size_t>(row)].text())};
        for (const Metric* column : columns_)
            cells += result(row) ? full(column->value(*result(row))) : QString();
        lines += cells.join('\t');
    }
    return lines.join('\n');
}

int ResultsModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(specs_.size());
}

int ResultsModel::columnCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(columns_.size()) + 1;
}

QVariant ResultsModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid())
        return {};
    const FormatSpec& spec = specs_[static_cast<std::size_t>(index.row())];
    if (index.column() == 0) {
        const QString note = fallback(index.row());
        switch (role) {
        case Qt::DisplayRole:
            return QString::fromStdString(spec.text()) + (note.isEmpty() ? QString() : QStringLiteral(" *"));
        case Qt::DecorationRole:
            return swatch(Theme::instance().format(spec));
        case Qt::ToolTipRole:
            return QString::fromStdString(format(spec.id).title) + (note.isEmpty() ? QString() : "; " + note);
        default:
            return {};
        }
    }
    if (role == Qt::TextAlignmentRole)
        return int(Qt::AlignRight | Qt::AlignVCenter);
    if (role != Qt::DisplayRole && role != Qt::ToolTipRole)
        return {};
    const FormatResult* measured = result(index.row());
    if (measured == nullptr)
        return role == Qt::DisplayRole ? QVariant(QStringLiteral("–")) : QVariant(QStringLiteral("Not measured yet"));
    const Metric& column = *columns_[static_cast<std::size_t>(index.column() - 1)];
    const double value = column.value(*measured);
    if (role == Qt::ToolTipRole)
        return std::isnan(value) ? QStringLiteral("Has no value here")
                                 : column.name + ' ' + full(value) + (column.unit.isEmpty() ? "" : ' ' + column.unit);
    if (std::isnan(value))
        return QStringLiteral("–");
    return column.id == "cosine" ? significant(value, 5) : significant(value);
}

QVariant ResultsModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal)
        return {};
    if (section == 0)
        return role == Qt::DisplayRole ? QVariant(QStringLiteral("Format")) : QVariant();
    const Metric& column = *columns_[static_cast<std::size_t>(section - 1)];
    if (role == Qt::DisplayRole)
        return inTwoLines(column.title());
    if (role == Qt::ToolTipRole)
        return column.help;
    if (role == Qt::TextAlignmentRole)
        return int(Qt::AlignRight | Qt::AlignVCenter);
    return {};
}

} // namespace qs::gui
