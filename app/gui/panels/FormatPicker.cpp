#include "app/gui/panels/FormatPicker.h"

#include <QCoreApplication>
#include <QDialogButtonBox>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QKeyEvent>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QTreeWidget>
#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/Icons.h"
#include "app/gui/Numbers.h"
#include "app/gui/panels/ParameterEditor.h"
#include "app/gui/plot/Theme.h"
#include "core/base/error.h"

namespace qs::gui {

namespace {

constexpr int id_role = Qt::UserRole;

FormatSpec default_spec(const Format& entry) {
    FormatSpec spec{entry.id, {}};
    for (const FormatParameter& parameter : entry.parameters)
        spec.parameters[parameter.name] = parameter.default_value;
    return spec;
}

/// A family as a heading.
QString heading(const std::string& family) {
    static const std::map<std::string, QString> known = {
        {"float", "Floating point"}, {"integer", "Integer"}, {"microscaling", "Microscaling"}};
    const auto found = known.find(family);
    return found == known.end() ? QString::fromStdString(family) : found->second;
}

/// Why a format cannot be chosen; empty where it can.
QString whyNot(const Format& entry) {
    return entry.importance == Importance::required
               ? QStringLiteral("Rounds only with an importance matrix, and none is loaded")
               : QString();
}

} // namespace

FormatPicker::FormatPicker(QWidget* parent, std::span<const Format> table) : QDialog(parent), table_(table) {
    setObjectName("formatPicker");
    resize(900, 600);

    search_ = new QLineEdit(this);
    search_->setObjectName("formatSearch");
    search_->setPlaceholderText("Find a format by name, bits or words");
    search_->setAccessibleName("Find a format");
    search_->setClearButtonEnabled(true);
    search_->installEventFilter(this);

    list_ = new QTreeWidget(this);
    list_->setObjectName("formatList");
    list_->setAccessibleName("Formats by family");
    list_->setColumnCount(3);
    list_->setHeaderLabels({"Format", "Bits/weight", "What it is"});
    list_->headerItem()->setToolTip(1, "All bits that are stored for a weight, scales and zero points included, in a "
                                       "matrix of 4096 columns.");
    list_->headerItem()->setTextAlignment(1, Qt::AlignRight | Qt::AlignVCenter);
    list_->setUniformRowHeights(true);
    list_->setTextElideMode(Qt::ElideRight);
    list_->setIndentation(14);

    title_ = new QLabel(this);
    title_->setWordWrap(true);
    QFont bold = font();
    bold.setBold(true);
    title_->setFont(bold);
    facts_ = new QLabel(this);
    facts_->setObjectName("formatFacts");
    facts_->setWordWrap(true);
    facts_->setTextInteractionFlags(Qt::TextSelectableByMouse);

    auto* side = new QWidget(this);
    side->setFixedWidth(248);
    auto* column = new QVBoxLayout(side);
    column->setContentsMargins(8, 0, 0, 0);
    column->addWidget(title_);
    auto* form = new QWidget(side);
    editors_ = new QFormLayout(form);
    editors_->setContentsMargins(0, 6, 0, 6);
    column->addWidget(form);
    column->addWidget(facts_);
    column->addStretch();

    auto* upper = new QHBoxLayout;
    auto* left = new QVBoxLayout;
    left->addWidget(search_);
    left->addWidget(list_);
    upper->addLayout(left, 1);
    upper->addWidget(side);

    auto* buttons = new QDialogButtonBox(this);
    apply_ = buttons->addButton(QString(), QDialogButtonBox::AcceptRole);
    apply_->setObjectName("formatApply");
    apply_->setDefault(true);
    buttons->addButton("Close", QDialogButtonBox::RejectRole);

    auto* layout = new QVBoxLayout(this);
    layout->addLayout(upper, 1);
    layout->addWidget(buttons);

    fill();
    connect(search_, &QLineEdit::textChanged, this, &FormatPicker::filter);
    connect(list_, &QTreeWidget::currentItemChanged, this, [this](QTreeWidgetItem* item) {
        if (const QString id = item ? item->data(0, id_role).toString() : QString(); !id.isEmpty())
            showFormat(default_spec(entryOf(id.toStdString())));
        else
            clearEditors();
    });
    connect(list_, &QTreeWidget::itemDoubleClicked, this, [this](QTreeWidgetItem* item) {
        if (!item->data(0, id_role).toString().isEmpty())
            apply();
    });
    connect(buttons, &QDialogButtonBox::accepted, this, &FormatPicker::apply);
    connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
}

void FormatPicker::fill() {
    std::map<std::string, QTreeWidgetItem*> families;
    for (const Format& entry : table_) {
        QTreeWidgetItem*& family = families[entry.family];
        if (family == nullptr) {
            family = new QTreeWidgetItem(list_, {heading(entry.family)});
            family->setFirstColumnSpanned(true);
            family->setFlags(Qt::ItemIsEnabled);
            QFont bold = font();
            bold.setBold(true);
            family->setFont(0, bold);
        }
        const double bits = entry.nominal_bits(default_spec(entry));
        const QString title = QString::fromStdString(entry.title), reason = whyNot(entry);
        auto* item = new QTreeWidgetItem(family);
        item->setText(0, QString::fromStdString(entry.id));
        item->setText(1, significant(bits));
        item->setText(2, title);
        item->setTextAlignment(1, Qt::AlignRight | Qt::AlignVCenter);
        item->setData(0, id_role, QString::fromStdString(entry.id));
        item->setToolTip(1, full(bits));
        item->setToolTip(2, title);
        if (reason.isEmpty())
            continue;
        item->setFlags(Qt::NoItemFlags);
        for (int column = 0; column < list_->columnCount(); ++column)
            item->setToolTip(column, reason);
        item->setData(0, Qt::AccessibleDescriptionRole, reason);
    }
    list_->expandAll();
    list_->header()->setStretchLastSection(true);
    list_->header()->setSectionResizeMode(0, QHeaderView::ResizeToContents);
    list_->header()->setSectionResizeMode(1, QHeaderView::ResizeToContents);
}

template <class Visit>
void FormatPicker::forEachItem(Visit visit) const {
    for (int i = 0; i < list_->topLevelItemCount(); ++i)
        for (int j = 0; j < list_->topLevelItem(i)->childCount(); ++j)
            visit(list_->topLevelItem(i)->child(j));
}

QTreeWidgetItem* FormatPicker::itemOf(const std::string& id) const {
    QTreeWidgetItem* found = nullptr;
    forEachItem([&](QTreeWidgetItem* item) {
        if (item->data(0, id_role).toString().toStdString() == id)
            found = item;
    });
    return found;
}

const Format& FormatPicker::entryOf(const std::string& id) const {
    return *std::ranges::find(table_, id, &Format::id);
}

/// Shows what matches and goes to the first of it, so that Return adds what was searched for.
void FormatPicker::filter(const QString& text) {
    QTreeWidgetItem* first = nullptr;
    std::map<QTreeWidgetItem*, bool> any;
    forEachItem([&](QTreeWidgetItem* item) {
        QTreeWidgetItem* family = item->parent();
        bool matches = family->text(0).contains(text, Qt::CaseInsensitive);
        for (int column = 0; column < list_->columnCount(); ++column)
            matches |= item->text(column).contains(text, Qt::CaseInsensitive);
        item->setHidden(!matches);
        any[family] |= matches;
        if (matches && first == nullptr && !item->isDisabled())
            first = item;
    });
    for (const auto& [family, shown] : any)
        family->setHidden(!shown);
    const QTreeWidgetItem* current = list_->currentItem();
    if (!text.isEmpty() && (current == nullptr || current->isHidden() || current->parent() == nullptr))
        list_->setCurrentItem(first);
}

/// From the search the arrow keys go on in the list.
bool FormatPicker::eventFilter(QObject* watched, QEvent* event) {
    if (watched != search_ || event->type() != QEvent::KeyPress)
        return QDialog::eventFilter(watched, event);
    const int key = static_cast<QKeyEvent*>(event)->key();
    if (key != Qt::Key_Down && key != Qt::Key_Up && key != Qt::Key_PageDown && key != Qt::Key_PageUp)
        return false;
    QCoreApplication::sendEvent(list_, event);
    return true;
}

void FormatPicker::markPresent(const std::vector<FormatSpec>& present) {
    forEachItem([&](QTreeWidgetItem* item) {
        const std::string id = item->data(0, id_role).toString().toStdString();
        const bool compared = std::ranges::find(present, id, &FormatSpec::id) != present.end();
        item->setText(0, QString::fromStdString(id) + (compared ? QStringLiteral(" ✓") : QString()));
        item->setIcon(0, swatch(Theme::instance().format(default_spec(entryOf(id)))));
    });
}

void FormatPicker::showToAdd(const std::vector<FormatSpec>& present) {
    editing_.reset();
    setWindowTitle("Compare with…");
    apply_->setText("Add");
    markPresent(present);
    search_->clear();
    if (format_ == nullptr) {
        const auto fresh = std::ranges::find_if(table_, [&](const Format& entry) {
            return whyNot(entry).isEmpty() && std::ranges::find(present, entry.id, &FormatSpec::id) == present.end();
        });
        choose(fresh != table_.end() ? fresh->id : table_.front().id);
    }
    reveal(search_);
}

void FormatPicker::showToEdit(const FormatSpec& spec) {
    setWindowTitle("Change " + QString::fromStdString(spec.text()));
    apply_->setText("Apply");
    markPresent({spec});
    search_->clear();
    choose(spec.id);
    showFormat(spec);
    editing_ = spec;
    reveal(list_);
}

void FormatPicker::choose(const std::string& id) {
    if (QTreeWidgetItem* item = itemOf(id))
        list_->setCurrentItem(item);
}

/// Opens with the chosen format in sight, and the name of its family where there is room.
void FormatPicker::reveal(QWidget* focus) {
    show();
    raise();
    activateWindow();
    focus->setFocus();
    if (QTreeWidgetItem* item = list_->currentItem(); item != nullptr && item->parent() != nullptr) {
        list_->scrollToItem(item->parent());
        list_->scrollToItem(item);
    }
}

void FormatPicker::showFormat(const FormatSpec& spec) {
    clearEditors();
    format_ = &entryOf(spec.id);
    values_ = spec.parameters;
    title_->setText(QString::fromStdString(format_->title));
    for (const FormatParameter& parameter : format_->parameters)
        addParameter(*editors_, parameter, values_.at(parameter.name),
                     [this, name = parameter.name](const std::string& value) {
                         values_[name] = value;
                         describe();
                     });
    describe();
}

void FormatPicker::clearEditors() {
    format_ = nullptr;
    while (editors_->rowCount() > 0)
        editors_->removeRow(0);
    values_.clear();
    title_->clear();
    facts_->clear();
    apply_->setEnabled(false);
}

std::optional<FormatSpec> FormatPicker::spec() const {
    if (format_ == nullptr)
        return std::nullopt;
    // Through the parser, which checks what belongs together and spells values in one way.
    return parse_spec(FormatSpec{format_->id, values_}.text());
}

void FormatPicker::describe() {
    try {
        const FormatSpec chosen = *spec();
        const std::size_t block = format_->block(chosen);
        const QString reason = whyNot(*format_);
        QStringList lines;
        if (!reason.isEmpty())
            lines += reason.toHtmlEscaped() + '.';
        lines += "<b>" + significant(format_->nominal_bits(chosen), 4) + thin_space + "bits/weight</b>";
        if (block > 1)
            lines += "Blocks of " + QString::number(block) + " weights";
        if (!format_->scale.empty())
            lines += "Scale: " + QString::fromStdString(format_->scale).toHtmlEscaped();
        if (!format_->bit_exact_with.empty())
            lines += "Same bytes as " + QString::fromStdString(format_->bit_exact_with).toHtmlEscaped();
        if (!format_->source.empty())
            lines += "Definition: " + QString::fromStdString(format_->source).toHtmlEscaped();
        facts_->setText(lines.join("<br>"));
        apply_->setEnabled(reason.isEmpty());
    } catch (const Error& error) {
        facts_->setText(QString::fromUtf8(error.what()).toHtmlEscaped());
        apply_->setEnabled(false);
    }
}

void FormatPicker::apply() {
    if (!apply_->isEnabled())
        return;
    const auto chosen = spec();
    if (!chosen)
        return;
    if (editing_)
        emit edited(*editing_, *chosen);
    else
        emit added(*chosen);
    accept();
}

} // namespace qs::gui
