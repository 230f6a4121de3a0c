#pragma once

#include <QAbstractTableModel>

#include <vector>

#include "app/gui/Metric.h"
#include "app/gui/Session.h"

namespace qs::gui {

/// The inspector's table: a row per format of the session, a column per metric, for the selected tensor or, where none
/// is selected, for the model.
class ResultsModel : public QAbstractTableModel {
    Q_OBJECT
public:
    explicit ResultsModel(Session* session, QObject* parent = nullptr);

    /// The row's result: of the selected tensor, or summed over the model; nullptr where there is none yet.
    const FormatResult* result(int row) const;
    /// What was used in place of the format and why, in words; empty where the format itself was.
    QString fallback(int row) const;
    /// The whole table as tab-separated text, unrounded.
    QString text() const;

    int rowCount(const QModelIndex& parent = {}) const override;
    int columnCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;
    QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    void reset();
    void refresh();

    Session* session_;
    std::vector<FormatSpec> specs_;
    std::vector<const Metric*> columns_;
};

} // namespace qs::gui
