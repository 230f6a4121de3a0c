#pragma once

#include <QAbstractItemModel>
#include <QString>

#include <string_view>
#include <unordered_map>
#include <vector>

#include "app/gui/Metric.h"
#include "app/gui/Session.h"

namespace qs::gui {

/// The open checkpoint as a tree of modules and tensors (names cut at the dots), or flat, filtered and sorted. A
/// module's figures are the sums over its tensors; its error is weighted by element count, as aggregates are.
class CheckpointModel : public QAbstractItemModel {
    Q_OBJECT
public:
    enum Column { Name, Error, Shape, Type, Parameters, Size, ColumnCount };
    enum Role {
        TensorRole = Qt::UserRole, ///< index into Checkpoint::tensors; invalid for a module
        FullNameRole,              ///< "model.layers.0.self_attn.q_proj.weight"
        HeatRole,  ///< 0 (least error of the model) … 1 (most, if they differ); invalid where not measured
        ValueRole, ///< the column's number, unrounded
    };

    explicit CheckpointModel(Session* session, QObject* parent = nullptr);

    /// Words that a tensor's whole name must contain, in any case; a word with `*` or `?` is a glob over the name.
    void setFilter(const QString& filter);
    /// Tensors that pass the filter.
    int matches() const { return matches_; }
    /// Tensors only, under their whole names: sorted by error, the worst of the model come first.
    void setFlat(bool flat);
    bool flat() const { return flat_; }
    void setMetric(const Metric& metric);
    const Metric& metric() const { return *metric_; }
    /// Invalid where the filter hides the tensor.
    QModelIndex indexOf(std::size_t tensor) const;

    QModelIndex index(int row, int column, const QModelIndex& parent = {}) const override;
    QModelIndex parent(const QModelIndex& child) const override;
    int rowCount(const QModelIndex& parent = {}) const override;
    int columnCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;
    QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
    void sort(int column, Qt::SortOrder order) override;

signals:
    /// The range of the errors has changed, and with it the heat of any cell.
    void heatChanged();

private:
    /// What the metrics are computed from; there can be a hundred thousand of them.
    struct Sums {
        ErrorSums errors;
        double stored_bits = 0;
        std::uint64_t elements = 0;
        double entropy = 0;

        FormatResult result() const;
    };
    struct Node {
        QString name;
        QString path; ///< of a tensor: its whole name
        int parent = 0;
        int row = 0;  ///< among the parent's shown children
        int rank = 0; ///< in the order of names, the root first
        int tensor = -1;
        std::vector<int> children;
        std::vector<int> shown; ///< children that pass the filter, sorted
        double parameters = 0;
        double bytes = 0;
        Sums error; ///< over the tensors below
        bool measured = false;
    };

    using Prefixes = std::unordered_map<std::string_view, int>;

    void rebuild();
    int addNode(std::string_view name, int parent);
    int moduleNode(std::string_view name, Prefixes& known);
    QString pathOf(const Node& node) const;
    void rankByName();
    void applyFilter();
    void sortChildren(int node);
    void sortAll();
    void relayout();
    bool before(int a, int b) const;
    void updateErrors(bool all);
    bool updateTensors(bool all, std::vector<bool>& touched);
    void sumUp();
    void updateRange();
    double value(const Node& node, int column) const;
    double badness(const Node& node) const;
    double heat(const Node& node) const;
    QVariant display(const Node& node, int column) const;
    QVariant tip(const Node& node, int column) const;
    const Node& node(const QModelIndex& index) const;
    int parentOf(int node) const { return flat_ ? 0 : nodes_[static_cast<std::size_t>(node)].parent; }

    Session* session_;
    const Metric* metric_;
    std::vector<Node> nodes_; ///< the root first, every parent before its children
    std::vector<int> nodeOf_; ///< by tensor
    std::vector<const TensorReport*> seen_;
    std::vector<QString> skipReason_; ///< by tensor; empty where it is measured
    QString filter_;
    bool flat_ = false;
    int matches_ = 0;
    int sortColumn_ = Name;
    Qt::SortOrder sortOrder_ = Qt::AscendingOrder;
    double best_ = 0, worst_ = 0; ///< range of badness() over the tensors
};

/// Names as people order them: digits by their number, so that layer 10 comes after layer 9.
bool naturalLess(const QString& a, const QString& b);

/// "2048 × 5632"; "scalar" for no dimensions.
QString shapeText(const TensorInfo& tensor);

/// What a metric's value looks like in a table.
QString metricText(double value);

} // namespace qs::gui
