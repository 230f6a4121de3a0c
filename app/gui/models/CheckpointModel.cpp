#include "app/gui/models/CheckpointModel.h"

#include <QRegularExpression>

#include <algorithm>
#include <cmath>
#include <limits>

#include "app/gui/Numbers.h"

namespace qs::gui {

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

/// One word of the search.
class Word {
public:
    explicit Word(const QString& text) : text_(text) {
        if (text.contains('*') || text.contains('?'))
            glob_ = QRegularExpression(QRegularExpression::anchoredPattern(
                                           QRegularExpression::escape(text).replace("\\*", ".*").replace("\\?", ".")),
                                       QRegularExpression::CaseInsensitiveOption);
    }
    bool matches(const QString& name) const {
        return glob_ ? glob_->match(name).hasMatch() : name.contains(text_, Qt::CaseInsensitive);
    }

private:
    QString text_;
    std::optional<QRegularExpression> glob_;
};

/// What stands before the last dot; nothing where there is none.
std::string_view moduleOf(std::string_view name) {
    const std::size_t dot = name.rfind('.');
    return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

std::vector<Word> words(const QString& filter) {
    std::vector<Word> all;
    for (const QString& word : filter.split(' ', Qt::SkipEmptyParts))
        all.emplace_back(word);
    return all;
}

} // namespace

bool naturalLess(const QString& a, const QString& b) {
    const auto digit = [](QChar c) { return c >= '0' && c <= '9'; };
    const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    // Where two numbers differ, the longer one is the larger; they begin where their common digits do.
    auto start = x - a.begin();
    while (start > 0 && digit(a[start - 1]))
        --start;
    const auto digits_from = [&](const QString& text) {
        qsizetype end = start;
        while (end < text.size() && digit(text[end]))
            ++end;
        return end - start;
    };
    if (const qsizetype m = digits_from(a), n = digits_from(b); m > 0 && n > 0 && m != n)
        return m < n;
    if (x == a.end() || y == b.end())
        return x == a.end() && y != b.end();
    return *x < *y;
}

QString shapeText(const TensorInfo& tensor) {
    if (tensor.shape.empty())
        return QStringLiteral("scalar");
    QStringList parts;
    for (const auto extent : tensor.shape)
        parts += QString::number(extent);
    return parts.join(QStringLiteral(" × "));
}

QString metricText(double value) {
    return std::isnan(value) ? QStringLiteral("–") : significant(value);
}

CheckpointModel::CheckpointModel(Session* session, QObject* parent)
    : QAbstractItemModel(parent), session_(session), metric_(&gui::metric({})) {
    connect(session, &Session::checkpointChanged, this, &CheckpointModel::rebuild);
    connect(session, &Session::resultsChanged, this, [this] { updateErrors(false); });
    connect(session, &Session::formatSelected, this, [this] { updateErrors(true); });
    connect(session, &Session::progressChanged, this, [this] {
        // While results stream in, rows keep their places; the order is put right when the run has ended.
        if (!session_->running() && sortColumn_ == Error)
            relayout();
    });
    rebuild();
}

// --- the tree ------------------------------------------------------------------------------------------------------

void CheckpointModel::rebuild() {
    beginResetModel();
    nodes_.assign(1, Node{});
    nodeOf_.clear();
    seen_.clear();
    skipReason_.clear();
    if (const auto checkpoint = session_->checkpoint()) {
        const auto& tensors = checkpoint->tensors;
        nodes_.reserve(tensors.size() * 2);
        nodeOf_.assign(tensors.size(), 0);
        seen_.assign(tensors.size(), nullptr);
        skipReason_.assign(tensors.size(), {});
        for (const SkippedTensor& skipped : session_->coverage().skipped)
            skipReason_[skipped.tensor] = QString::fromStdString(skipped.reason);
        // A module with nothing but a weight is that weight: "q_proj" rather than "q_proj" with "weight" below it.
        Prefixes siblings, modules;
        for (const TensorInfo& tensor : tensors)
            ++siblings[moduleOf(tensor.name)];
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            std::string_view name = tensors[i].name;
            if (name.ends_with(".weight") && siblings[moduleOf(name)] == 1)
                name = moduleOf(name);
            nodeOf_[i] = addNode(name, moduleNode(moduleOf(name), modules));
            Node& leaf = nodes_.back();
            leaf.tensor = static_cast<int>(i);
            leaf.path = QString::fromStdString(tensors[i].name);
            leaf.parameters = static_cast<double>(tensors[i].elements());
            leaf.bytes = static_cast<double>(tensors[i].bytes);
        }
        for (std::size_t i = nodes_.size(); i-- > 1;) {
            Node& parent = nodes_[static_cast<std::size_t>(nodes_[i].parent)];
            parent.parameters += nodes_[i].parameters;
            parent.bytes += nodes_[i].bytes;
        }
        rankByName();
    }
    applyFilter();
    endResetModel();
    updateErrors(true);
}

/// Appends a node that shows the last part of `name`.
int CheckpointModel::addNode(std::string_view name, int parent) {
    const int made = static_cast<int>(nodes_.size());
    const std::string_view last = name.substr(name.rfind('.') + 1);
    Node node;
    node.name = QString::fromUtf8(last.data(), static_cast<qsizetype>(last.size()));
    node.parent = parent;
    nodes_.push_back(std::move(node));
    nodes_[static_cast<std::size_t>(parent)].children.push_back(made);
    return made;
}

/// The node of a module, made with those above it where it is new; the root for no name.
int CheckpointModel::moduleNode(std::string_view name, Prefixes& known) {
    if (name.empty())
        return 0;
    if (const auto found = known.find(name); found != known.end())
        return found->second;
    const int made = addNode(name, moduleNode(moduleOf(name), known));
    known.emplace(name, made);
    return made;
}

QString CheckpointModel::pathOf(const Node& node) const {
    if (node.tensor >= 0 || &node == &nodes_.front())
        return node.path;
    const Node& parent = nodes_[static_cast<std::size_t>(node.parent)];
    return node.parent == 0 ? node.name : pathOf(parent) + '.' + node.name;
}

/// Numbers the nodes in the order of their names, so that sorting compares no text.
void CheckpointModel::rankByName() {
    for (Node& node : nodes_)
        std::ranges::sort(node.children, [this](int a, int b) {
            return naturalLess(nodes_[static_cast<std::size_t>(a)].name, nodes_[static_cast<std::size_t>(b)].name);
        });
    int rank = 0;
    std::vector<int> open{0};
    while (!open.empty()) {
        Node& node = nodes_[static_cast<std::size_t>(open.back())];
        open.pop_back();
        node.rank = rank++;
        open.insert(open.end(), node.children.rbegin(), node.children.rend());
    }
}

// --- filter and order ----------------------------------------------------------------------------------------------

void CheckpointModel::setFilter(const QString& filter) {
    if (filter == filter_)
        return;
    beginResetModel();
    filter_ = filter;
    applyFilter();
    endResetModel();
}

void CheckpointModel::setFlat(bool flat) {
    if (flat == flat_)
        return;
    beginResetModel();
    flat_ = flat;
    applyFilter();
    endResetModel();
}

void CheckpointModel::applyFilter() {
    const std::vector<Word> wanted = words(filter_);
    for (Node& node : nodes_)
        node.shown.clear();
    matches_ = 0;
    std::vector<bool> passes(nodes_.size(), false);
    for (const int index : nodeOf_) {
        const QString& name = nodes_[static_cast<std::size_t>(index)].path;
        if (!std::ranges::all_of(wanted, [&](const Word& word) { return word.matches(name); }))
            continue;
        ++matches_;
        if (flat_) {
            nodes_.front().shown.push_back(index);
            continue;
        }
        for (int up = index; up != 0 && !passes[static_cast<std::size_t>(up)];
             up = nodes_[static_cast<std::size_t>(up)].parent) {
            passes[static_cast<std::size_t>(up)] = true;
            nodes_[static_cast<std::size_t>(nodes_[static_cast<std::size_t>(up)].parent)].shown.push_back(up);
        }
    }
    sortAll();
}

void CheckpointModel::sort(int column, Qt::SortOrder order) {
    sortColumn_ = column < 0 ? Name : column;
    sortOrder_ = order;
    relayout();
}

void CheckpointModel::relayout() {
    emit layoutAboutToBeChanged({}, QAbstractItemModel::VerticalSortHint);
    const QModelIndexList before = persistentIndexList();
    sortAll();
    QModelIndexList after;
    after.reserve(before.size());
    for (const QModelIndex& index : before)
        after += createIndex(node(index).row, index.column(), index.internalId());
    changePersistentIndexList(before, after);
    emit layoutChanged({}, QAbstractItemModel::VerticalSortHint);
}

void CheckpointModel::sortAll() {
    for (std::size_t i = 0; i < nodes_.size(); ++i)
        sortChildren(static_cast<int>(i));
}

void CheckpointModel::sortChildren(int index) {
    std::vector<int>& shown = nodes_[static_cast<std::size_t>(index)].shown;
    if (shown.empty())
        return;
    std::ranges::stable_sort(shown, [this](int a, int b) { return before(a, b); });
    for (std::size_t row = 0; row < shown.size(); ++row)
        nodes_[static_cast<std::size_t>(shown[row])].row = static_cast<int>(row);
}

/// Strictly ordered; what has no value comes last in either direction, names break ties.
bool CheckpointModel::before(int first, int second) const {
    const Node& a = nodes_[static_cast<std::size_t>(first)];
    const Node& b = nodes_[static_cast<std::size_t>(second)];
    const bool ascending = sortOrder_ == Qt::AscendingOrder;
    if (sortColumn_ == Name)
        return ascending ? a.rank < b.rank : b.rank < a.rank;
    if (sortColumn_ == Shape || sortColumn_ == Type) {
        const QString x = display(a, sortColumn_).toString(), y = display(b, sortColumn_).toString();
        if (x.isEmpty() != y.isEmpty())
            return y.isEmpty();
        if (x != y)
            return ascending ? naturalLess(x, y) : naturalLess(y, x);
        return a.rank < b.rank;
    }
    const double x = value(a, sortColumn_), y = value(b, sortColumn_);
    if (std::isnan(x) != std::isnan(y))
        return std::isnan(y);
    if (x != y && !std::isnan(x))
        return ascending ? x < y : x > y;
    return a.rank < b.rank;
}

// --- errors --------------------------------------------------------------------------------------------------------

void CheckpointModel::setMetric(const Metric& metric) {
    metric_ = &metric;
    updateErrors(true);
    emit headerDataChanged(Qt::Horizontal, Error, Error);
    if (sortColumn_ == Error)
        relayout();
}

void CheckpointModel::updateErrors(bool all) {
    std::vector<bool> touched(nodes_.size(), false);
    if (!updateTensors(all, touched))
        return;
    sumUp();
    updateRange();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Node& parent = nodes_[i];
        if (!touched[i] || parent.shown.empty())
            continue;
        const auto cell = [&](int child) {
            return createIndex(nodes_[static_cast<std::size_t>(child)].row, Error, static_cast<quintptr>(child));
        };
        emit dataChanged(cell(parent.shown.front()), cell(parent.shown.back()));
    }
    emit heatChanged();
}

/// Fetches the results that have changed, or all; false where there are none. Marks the parents of what changed, up to
/// the root, as touched.
bool CheckpointModel::updateTensors(bool all, std::vector<bool>& touched) {
    const auto spec = session_->selectedSpec();
    bool changed = all;
    for (std::size_t tensor = 0; tensor < nodeOf_.size(); ++tensor) {
        const TensorReport* report = session_->report(tensor);
        if (!all && report == seen_[tensor])
            continue;
        seen_[tensor] = report;
        changed = true;
        Node& leaf = nodes_[static_cast<std::size_t>(nodeOf_[tensor])];
        const FormatResult* result = spec ? session_->result(tensor, *spec) : nullptr;
        leaf.measured = result != nullptr;
        leaf.error = {};
        if (result != nullptr)
            leaf.error = {result->sums, result->stored_bits, result->elements, result->code_entropy()};
        for (int up = parentOf(nodeOf_[tensor]); !touched[static_cast<std::size_t>(up)]; up = parentOf(up))
            touched[static_cast<std::size_t>(up)] = true;
    }
    return changed;
}

/// Sums of modules. Children come after their parents, so that one walk from the back is enough.
void CheckpointModel::sumUp() {
    for (Node& node : nodes_)
        if (node.tensor < 0) {
            node.error = {};
            node.measured = false;
        }
    for (std::size_t i = nodes_.size(); i-- > 1;) {
        const Node& child = nodes_[i];
        Node& parent = nodes_[static_cast<std::size_t>(child.parent)];
        if (!child.measured || parent.tensor >= 0)
            continue;
        parent.measured = true;
        parent.error.errors.merge(child.error.errors);
        parent.error.stored_bits += child.error.stored_bits;
        parent.error.elements += child.error.elements;
        parent.error.entropy = undefined; // codes of several tensors do not add up here
    }
}

/// Where a node's error stands on an even scale, the larger the worse; NaN where it has none.
double CheckpointModel::badness(const Node& node) const {
    const double v = value(node, Error);
    if (metric_->higher_is_better)
        return metric_->logarithmic ? -std::log(v) : -v;
    return metric_->logarithmic ? std::log(std::abs(v)) : std::abs(v);
}

void CheckpointModel::updateRange() {
    best_ = std::numeric_limits<double>::infinity();
    worst_ = -best_;
    for (const int index : nodeOf_)
        if (const double bad = badness(nodes_[static_cast<std::size_t>(index)]); std::isfinite(bad)) {
            best_ = std::min(best_, bad);
            worst_ = std::max(worst_, bad);
        }
}

double CheckpointModel::heat(const Node& node) const {
    const double bad = badness(node);
    if (std::isnan(bad))
        return undefined;
    const double spread = std::max(worst_ - best_, metric_->small_spread);
    // A reconstruction without error is infinitely good.
    return bad <= best_ || !(spread > 0) ? 0 : std::min((bad - best_) / spread, 1.0);
}

FormatResult CheckpointModel::Sums::result() const {
    FormatResult result;
    result.sums = errors;
    result.stored_bits = stored_bits;
    result.elements = elements;
    result.entropy = entropy;
    return result;
}

// --- cells ---------------------------------------------------------------------------------------------------------

const CheckpointModel::Node& CheckpointModel::node(const QModelIndex& index) const {
    return nodes_[index.isValid() ? index.internalId() : 0];
}

QModelIndex CheckpointModel::indexOf(std::size_t tensor) const {
    if (tensor >= nodeOf_.size())
        return {};
    const int index = nodeOf_[tensor];
    const Node& leaf = nodes_[static_cast<std::size_t>(index)];
    const Node& parent = nodes_[static_cast<std::size_t>(parentOf(index))];
    const auto row = static_cast<std::size_t>(leaf.row);
    if (row >= parent.shown.size() || parent.shown[row] != index)
        return {};
    return createIndex(leaf.row, Name, static_cast<quintptr>(index));
}

QModelIndex CheckpointModel::index(int row, int column, const QModelIndex& parent) const {
    if (!hasIndex(row, column, parent))
        return {};
    return createIndex(row, column, static_cast<quintptr>(node(parent).shown[static_cast<std::size_t>(row)]));
}

QModelIndex CheckpointModel::parent(const QModelIndex& child) const {
    if (!child.isValid())
        return {};
    const int parent = parentOf(static_cast<int>(child.internalId()));
    return parent == 0 ? QModelIndex()
                       : createIndex(nodes_[static_cast<std::size_t>(parent)].row, Name, static_cast<quintptr>(parent));
}

int CheckpointModel::rowCount(const QModelIndex& parent) const {
    if (parent.column() > 0 || (flat_ && parent.isValid()))
        return 0;
    return static_cast<int>(node(parent).shown.size());
}

int CheckpointModel::columnCount(const QModelIndex&) const {
    return ColumnCount;
}

double CheckpointModel::value(const Node& node, int column) const {
    switch (column) {
    case Parameters:
        return node.parameters;
    case Size:
        return node.bytes;
    case Error:
        return node.measured ? metric_->value(node.error.result()) : undefined;
    default:
        return undefined;
    }
}

QVariant CheckpointModel::display(const Node& node, int column) const {
    const TensorInfo* tensor =
        node.tensor < 0 ? nullptr : &session_->checkpoint()->tensors[static_cast<std::size_t>(node.tensor)];
    switch (column) {
    case Name:
        return flat_ ? node.path : node.name;
    case Shape:
        return tensor ? shapeText(*tensor) : QString();
    case Type:
        return tensor ? QString::fromStdString(tensor->dtype_name) : QString();
    case Parameters:
        return count(node.parameters);
    case Size:
        return bytes(node.bytes);
    case Error:
        return metricText(value(node, Error));
    default:
        return {};
    }
}

QVariant CheckpointModel::tip(const Node& node, int column) const {
    switch (column) {
    case Name:
        return pathOf(node);
    case Parameters:
        return QStringLiteral("%1 weights").arg(static_cast<qulonglong>(node.parameters));
    case Size:
        return QStringLiteral("%1 bytes").arg(static_cast<qulonglong>(node.bytes));
    case Error: {
        if (node.measured) {
            const auto spec = session_->selectedSpec();
            return QStringLiteral("%1 in %2: %3")
                .arg(metric_->title(), spec ? QString::fromStdString(spec->text()) : QString(),
                     full(value(node, Error)));
        }
        const QString reason = node.tensor < 0 ? QString() : skipReason_[static_cast<std::size_t>(node.tensor)];
        return reason.isEmpty() ? QStringLiteral("Not measured yet") : QStringLiteral("Not measured: ") + reason;
    }
    default:
        return display(node, column);
    }
}

QVariant CheckpointModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid())
        return {};
    const Node& at = node(index);
    switch (role) {
    case Qt::DisplayRole:
        return display(at, index.column());
    case Qt::ToolTipRole:
        return tip(at, index.column());
    case Qt::TextAlignmentRole:
        return index.column() == Name || index.column() == Type ? QVariant(int(Qt::AlignLeft | Qt::AlignVCenter))
                                                                : QVariant(int(Qt::AlignRight | Qt::AlignVCenter));
    case Qt::AccessibleTextRole:
        return index.column() == Error ? metric_->title() + ' ' + display(at, Error).toString()
                                       : display(at, index.column());
    case TensorRole:
        return at.tensor < 0 ? QVariant() : QVariant(at.tensor);
    case FullNameRole:
        return pathOf(at);
    case HeatRole: {
        const double t = heat(at);
        return std::isnan(t) ? QVariant() : QVariant(t);
    }
    case ValueRole:
        return value(at, index.column());
    default:
        return {};
    }
}

QVariant CheckpointModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal)
        return {};
    if (role == Qt::TextAlignmentRole)
        return int(Qt::AlignVCenter | (section == Name || section == Type ? Qt::AlignLeft : Qt::AlignRight));
    if (role == Qt::ToolTipRole && section == Error)
        return metric_->help + QStringLiteral(" In the selected format; right click for other metrics.");
    if (role == Qt::ToolTipRole && section == Size)
        return QStringLiteral("Bytes in the file, 1 GB = 10⁹ bytes.");
    if (role != Qt::DisplayRole)
        return {};
    switch (section) {
    case Name:
        return QStringLiteral("Name");
    case Error:
        return metric_->title();
    case Shape:
        return QStringLiteral("Shape");
    case Type:
        return QStringLiteral("Type");
    case Parameters:
        return QStringLiteral("Parameters");
    case Size:
        return QStringLiteral("Size");
    default:
        return {};
    }
}

} // namespace qs::gui
