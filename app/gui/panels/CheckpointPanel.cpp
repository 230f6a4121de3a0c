#include "app/gui/panels/CheckpointPanel.h"

#include <QAction>
#include <QActionGroup>
#include <QClipboard>
#include <QGuiApplication>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QKeyEvent>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QScrollBar>
#include <QTimer>
#include <QToolButton>
#include <QTreeView>
#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/models/CheckpointModel.h"
#include "app/gui/panels/HeatDelegate.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

/// Opens what a filter has left, unless that would be a flood.
constexpr int expand_limit = 2000;

} // namespace

CheckpointPanel::CheckpointPanel(Session* session, QWidget* parent)
    : QWidget(parent), session_(session), model_(new CheckpointModel(session, this)) {
    search_ = new QLineEdit(this);
    search_->setObjectName("search");
    search_->setPlaceholderText("Search tensors");
    search_->setToolTip("Words that a name contains, or a pattern with * and ?, such as layers.3 *_proj (Ctrl+F)");
    search_->setAccessibleName("Search tensors");
    search_->setClearButtonEnabled(true);
    search_->addAction(icon("search"), QLineEdit::LeadingPosition);
    search_->installEventFilter(this);

    flat_ = new QToolButton(this);
    flat_->setObjectName("flat");
    flat_->setIcon(icon("list"));
    flat_->setCheckable(true);
    flat_->setToolTip(
        "List tensors without their modules: sorted by error, the worst of the model come first (Ctrl+L)");
    flat_->setAccessibleName("List tensors without modules");
    flat_->setShortcut(QKeySequence("Ctrl+L"));

    tree_ = new QTreeView(this);
    tree_->setObjectName("tree");
    tree_->setAccessibleName("Modules and tensors of the checkpoint");
    tree_->setModel(model_);
    tree_->setUniformRowHeights(true);
    tree_->setSortingEnabled(true);
    tree_->sortByColumn(CheckpointModel::Name, Qt::AscendingOrder);
    tree_->setIndentation(13);
    tree_->setAllColumnsShowFocus(true);
    tree_->setContextMenuPolicy(Qt::CustomContextMenu);
    tree_->setItemDelegateForColumn(CheckpointModel::Error, new HeatDelegate(tree_));
    tree_->setTextElideMode(Qt::ElideMiddle);
    tree_->setHorizontalScrollMode(QAbstractItemView::ScrollPerPixel);
    tree_->installEventFilter(this);
    tree_->viewport()->installEventFilter(this);
    QHeaderView* header = tree_->header();
    header->setStretchLastSection(false);
    header->setSectionsMovable(true);
    header->setContextMenuPolicy(Qt::CustomContextMenu);
    const QFontMetrics metrics(font());
    const auto width = [&](const char* widest) { return metrics.horizontalAdvance(QString::fromUtf8(widest)) + 16; };
    header->resizeSection(CheckpointModel::Error, 112);
    header->resizeSection(CheckpointModel::Shape, width("00000 × 00000"));
    header->resizeSection(CheckpointModel::Type, width("F8_E4M3"));
    header->resizeSection(CheckpointModel::Parameters, width("Parameters"));
    header->resizeSection(CheckpointModel::Size, width("000.0 MB"));

    note_ = new QLabel(this);
    note_->setObjectName("searchNote");
    note_->setMargin(8);
    note_->setWordWrap(true);
    note_->hide();

    auto* top = new QHBoxLayout;
    top->setContentsMargins(6, 6, 6, 6);
    top->setSpacing(4);
    top->addWidget(search_, 1);
    top->addWidget(flat_);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addLayout(top);
    layout->addWidget(note_);
    layout->addWidget(tree_, 1);

    setMinimumWidth(224);

    auto* pause = new QTimer(this);
    pause->setSingleShot(true);
    pause->setInterval(120);
    connect(search_, &QLineEdit::textChanged, pause, qOverload<>(&QTimer::start));
    connect(pause, &QTimer::timeout, this, &CheckpointPanel::applySearch);
    connect(flat_, &QToolButton::toggled, this, [this](bool on) {
        model_->setFlat(on);
        tree_->setRootIsDecorated(!on);
        expandHelpfully();
        followSession();
    });
    connect(model_, &QAbstractItemModel::modelReset, this, [this] {
        expandHelpfully();
        followSession();
    });
    connect(model_, &CheckpointModel::heatChanged, tree_->viewport(), qOverload<>(&QWidget::update));
    connect(tree_->selectionModel(), &QItemSelectionModel::currentChanged, this, &CheckpointPanel::followTree);
    connect(tree_, &QTreeView::customContextMenuRequested, this, &CheckpointPanel::showMenu);
    connect(header, &QWidget::customContextMenuRequested, this, &CheckpointPanel::showHeaderMenu);
    connect(session, &Session::tensorSelected, this, &CheckpointPanel::followSession);

    auto* copy = new QAction("Copy name", tree_);
    copy->setShortcut(QKeySequence::Copy);
    copy->setShortcutContext(Qt::WidgetShortcut);
    connect(copy, &QAction::triggered, this, [this] { copyName(tree_->currentIndex()); });
    tree_->addAction(copy);
}

/// The errors stay in view: the names take what is left of the width.
void CheckpointPanel::fitNames() {
    QHeaderView* header = tree_->header();
    const int rest = tree_->viewport()->width() - header->sectionSize(CheckpointModel::Error);
    header->resizeSection(CheckpointModel::Name, std::clamp(rest, 110, 420));
}

void CheckpointPanel::search() {
    search_->setFocus(Qt::ShortcutFocusReason);
    search_->selectAll();
}

void CheckpointPanel::applySearch() {
    model_->setFilter(search_->text());
    const bool none = model_->matches() == 0 && !search_->text().isEmpty();
    note_->setText(none ? QStringLiteral("No tensor's name matches “%1”").arg(search_->text()) : QString());
    note_->setVisible(none);
}

/// After a reset: everything while searching; else the way to the first layer, so that tensors are seen at once.
void CheckpointPanel::expandHelpfully() {
    if (!search_->text().isEmpty()) {
        if (model_->matches() <= expand_limit)
            tree_->expandAll();
        return;
    }
    for (QModelIndex at = model_->index(0, 0); at.isValid();) {
        QModelIndex next;
        for (int row = 0; row < model_->rowCount(at.parent()); ++row) {
            const QModelIndex sibling = at.sibling(row, 0);
            if (model_->rowCount(sibling) == 0)
                continue;
            tree_->expand(sibling);
            next = model_->index(0, 0, sibling);
            break;
        }
        at = next;
    }
}

/// The session's tensor, shown here.
void CheckpointPanel::followSession() {
    const auto tensor = session_->selectedTensor();
    following_ = true;
    if (const QModelIndex index = tensor ? model_->indexOf(*tensor) : QModelIndex(); index.isValid()) {
        if (tree_->currentIndex().siblingAtColumn(0) != index || !tree_->selectionModel()->isSelected(index)) {
            tree_->setCurrentIndex(index);
            tree_->scrollTo(index);
        }
    } else if (!tensor) {
        tree_->selectionModel()->clear();
    }
    following_ = false;
}

/// What is chosen here, told to the session; a module leaves the tensor as it is.
void CheckpointPanel::followTree() {
    if (following_)
        return;
    const QVariant tensor = tree_->currentIndex().data(CheckpointModel::TensorRole);
    if (tensor.isValid())
        session_->selectTensor(static_cast<std::size_t>(tensor.toInt()));
}

/// Left goes to the module, Right into it, whatever the style thinks of it.
bool CheckpointPanel::stepByKey(int key) {
    const QModelIndex at = tree_->currentIndex().siblingAtColumn(0);
    const bool open = tree_->isExpanded(at) && model_->rowCount(at) > 0;
    const QModelIndex to = key == Qt::Key_Left && !open   ? at.parent()
                           : key == Qt::Key_Right && open ? model_->index(0, 0, at)
                                                          : QModelIndex();
    if (to.isValid())
        tree_->setCurrentIndex(to);
    return to.isValid();
}

bool CheckpointPanel::eventFilter(QObject* watched, QEvent* event) {
    if (watched == tree_->viewport() && event->type() == QEvent::Resize)
        fitNames();
    if (watched == tree_ && event->type() == QEvent::KeyPress && stepByKey(static_cast<QKeyEvent*>(event)->key()))
        return true;
    if (watched == search_ && event->type() == QEvent::KeyPress) {
        const auto* key = static_cast<QKeyEvent*>(event);
        if (key->key() == Qt::Key_Escape && !search_->text().isEmpty()) {
            search_->clear();
            return true;
        }
        if (key->key() == Qt::Key_Down || key->key() == Qt::Key_Return) {
            applySearch();
            tree_->setFocus();
            if (!tree_->currentIndex().isValid())
                tree_->setCurrentIndex(model_->index(0, 0));
            return true;
        }
    }
    return QWidget::eventFilter(watched, event);
}

void CheckpointPanel::showMenu(const QPoint& position) {
    const QModelIndex index = tree_->indexAt(position);
    QMenu menu(this);
    if (index.isValid()) {
        menu.addAction("Copy name", this, [this, index] { copyName(index); });
        QAction* statistics = menu.addAction("Copy statistics", this, [this, index] { copyStatistics(index); });
        const QVariant tensor = index.data(CheckpointModel::TensorRole);
        statistics->setEnabled(tensor.isValid() && session_->report(static_cast<std::size_t>(tensor.toInt())));
        menu.addSeparator();
    }
    menu.addAction("Expand all", tree_, &QTreeView::expandAll)->setEnabled(model_->matches() <= expand_limit);
    menu.addAction("Collapse all", tree_, &QTreeView::collapseAll);
    menu.addAction("Select nothing", this, [this] { session_->selectTensor(std::nullopt); });
    menu.exec(tree_->viewport()->mapToGlobal(position));
}

void CheckpointPanel::showHeaderMenu(const QPoint& position) {
    QMenu menu(this);
    menu.addSection("Error shown");
    QActionGroup group(&menu);
    for (const Metric& metric : metrics()) {
        QAction* action = menu.addAction(metric.title(), this, [this, id = metric.id] { setMetric(id); });
        action->setCheckable(true);
        action->setChecked(&metric == &model_->metric());
        action->setToolTip(metric.help);
        group.addAction(action);
    }
    menu.addSection("Columns");
    for (int column = CheckpointModel::Error; column < CheckpointModel::ColumnCount; ++column) {
        QAction* action = menu.addAction(model_->headerData(column, Qt::Horizontal, Qt::DisplayRole).toString());
        action->setCheckable(true);
        action->setChecked(!tree_->isColumnHidden(column));
        connect(action, &QAction::toggled, this, [this, column](bool on) { tree_->setColumnHidden(column, !on); });
    }
    menu.exec(tree_->header()->mapToGlobal(position));
}

void CheckpointPanel::setMetric(const QString& id) {
    model_->setMetric(gui::metric(id));
    emit metricChanged(model_->metric().id);
}

QByteArray CheckpointPanel::saveState() const {
    return tree_->header()->saveState();
}
void CheckpointPanel::restoreState(const QByteArray& state) {
    tree_->header()->restoreState(state);
}

void CheckpointPanel::copyName(const QModelIndex& index) const {
    QGuiApplication::clipboard()->setText(index.data(CheckpointModel::FullNameRole).toString());
}

void CheckpointPanel::copyStatistics(const QModelIndex& index) const {
    const auto tensor = static_cast<std::size_t>(index.data(CheckpointModel::TensorRole).toInt());
    QGuiApplication::clipboard()->setText(reportText(*session_, tensor));
}

QString reportText(const Session& session, std::size_t tensor) {
    const TensorReport* report = session.report(tensor);
    if (report == nullptr)
        return {};
    const Statistics& s = report->statistics;
    QStringList lines{"name\t" + QString::fromStdString(session.checkpoint()->tensors[tensor].name)};
    const auto line = [&](const char* name, const QString& value) { lines += QString(name) + '\t' + value; };
    line("count", QString::number(s.count));
    line("min", full(s.min));
    line("max", full(s.max));
    line("mean", full(s.mean));
    line("std", full(s.std));
    line("skewness", full(s.skewness));
    line("excess_kurtosis", full(s.excess_kurtosis));
    line("zeros", QString::number(s.zeros));
    line("nan", QString::number(s.nan));
    line("inf", QString::number(s.inf));
    line("beyond_3_sigma", QString::number(s.beyond_3_sigma));
    line("beyond_6_sigma", QString::number(s.beyond_6_sigma));
    for (const FormatSpec& spec : session.formats())
        if (const FormatResult* result = session.result(tensor, spec))
            for (const Metric& metric : metrics())
                lines += QString::fromStdString(spec.text()) + ' ' + metric.id + '\t' + full(metric.value(*result));
    return lines.join('\n');
}

} // namespace qs::gui
