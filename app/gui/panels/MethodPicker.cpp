#include "app/gui/panels/MethodPicker.h"

#include <QDialogButtonBox>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QSignalBlocker>
#include <QTreeWidget>
#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/panels/ParameterEditor.h"
#include "core/model/variants.h"

namespace qs::gui {

MethodPicker::MethodPicker(QWidget* parent) : QDialog(parent), methods_(runnable_methods(true)) {
    setObjectName("methodPicker");
    setWindowTitle(tr("Methods"));
    resize(760, 340);

    list_ = new QTreeWidget(this);
    list_->setObjectName("methodList");
    list_->setAccessibleName(tr("Methods to compare"));
    list_->setColumnCount(2);
    list_->setHeaderLabels({tr("Method"), tr("How codes are chosen")});
    list_->setRootIsDecorated(false);
    list_->setUniformRowHeights(true);

    title_ = new QLabel(this);
    title_->setWordWrap(true);
    QFont bold = font();
    bold.setBold(true);
    title_->setFont(bold);
    facts_ = new QLabel(this);
    facts_->setObjectName("methodFacts");
    facts_->setWordWrap(true);
    facts_->setTextInteractionFlags(Qt::TextSelectableByMouse);

    auto* side = new QWidget(this);
    side->setFixedWidth(264);
    auto* column = new QVBoxLayout(side);
    column->setContentsMargins(8, 0, 0, 0);
    column->addWidget(title_);
    editors_ = new QFormLayout;
    editors_->setContentsMargins(0, 6, 0, 6);
    column->addLayout(editors_);
    column->addWidget(facts_);
    column->addStretch();

    auto* upper = new QHBoxLayout;
    upper->addWidget(list_, 1);
    upper->addWidget(side);
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, this);
    auto* layout = new QVBoxLayout(this);
    layout->addLayout(upper, 1);
    layout->addWidget(buttons);

    fill();
    connect(list_, &QTreeWidget::currentItemChanged, this,
            [this](QTreeWidgetItem* item) { showMethod(list_->indexOfTopLevelItem(item)); });
    connect(list_, &QTreeWidget::itemChanged, this, &MethodPicker::changed);
    connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
    setChosen({parse_method("rtn")});
    list_->setCurrentItem(list_->topLevelItem(0));
}

void MethodPicker::fill() {
    for (const MethodSpec& spec : methods_) {
        auto* item = new QTreeWidgetItem(list_);
        item->setText(0, QString::fromStdString(spec.id));
        item->setText(1, QString::fromStdString(method(spec.id).title));
        item->setToolTip(1, item->text(1));
        item->setCheckState(0, Qt::Unchecked);
    }
    list_->header()->setSectionResizeMode(0, QHeaderView::ResizeToContents);
    list_->header()->setStretchLastSection(true);
}

bool MethodPicker::canBeChosen(const MethodSpec& method) const {
    return !combine(formats_, {method}).empty();
}

void MethodPicker::setFormats(const std::vector<FormatSpec>& formats) {
    if (formats == formats_)
        return;
    formats_ = formats;
    const QSignalBlocker quiet(list_);
    for (int row = 0; row < list_->topLevelItemCount(); ++row) {
        const MethodSpec& spec = methods_[static_cast<std::size_t>(row)];
        QTreeWidgetItem* item = list_->topLevelItem(row);
        const bool can = canBeChosen(spec);
        const QString reason =
            can ? QString()
                : tr("Takes none of the formats above, but %1").arg(QString::fromStdString(method(spec.id).formats));
        item->setFlags(can ? Qt::ItemIsEnabled | Qt::ItemIsSelectable | Qt::ItemIsUserCheckable : Qt::NoItemFlags);
        item->setToolTip(0, reason);
        item->setToolTip(1, can ? item->text(1) : reason);
        item->setData(0, Qt::AccessibleDescriptionRole, reason);
    }
    describe(list_->indexOfTopLevelItem(list_->currentItem()));
}

std::vector<MethodSpec> MethodPicker::chosen() const {
    std::vector<MethodSpec> chosen;
    for (int row = 0; row < list_->topLevelItemCount(); ++row)
        if (list_->topLevelItem(row)->checkState(0) == Qt::Checked && !list_->topLevelItem(row)->isDisabled())
            chosen.push_back(methods_[static_cast<std::size_t>(row)]);
    return chosen;
}

void MethodPicker::setChosen(const std::vector<MethodSpec>& methods) {
    {
        const QSignalBlocker quiet(list_);
        for (int row = 0; row < list_->topLevelItemCount(); ++row) {
            MethodSpec& own = methods_[static_cast<std::size_t>(row)];
            const auto found = std::ranges::find(methods, own.id, &MethodSpec::id);
            if (found != methods.end())
                own = *found;
            list_->topLevelItem(row)->setCheckState(0, found != methods.end() ? Qt::Checked : Qt::Unchecked);
        }
    }
    showMethod(list_->indexOfTopLevelItem(list_->currentItem()));
    emit changed();
}

void MethodPicker::showMethod(int row) {
    while (editors_->rowCount() > 0)
        editors_->removeRow(0);
    if (row < 0)
        return;
    MethodSpec& spec = methods_[static_cast<std::size_t>(row)];
    title_->setText(QString::fromStdString(method(spec.id).title));
    for (const Parameter& parameter : method(spec.id).parameters)
        addParameter(*editors_, parameter, spec.parameters.at(parameter.name),
                     [this, &value = spec.parameters.at(parameter.name)](const std::string& text) {
                         value = text;
                         emit changed();
                     });
    describe(row);
}

/// What the method takes, and which of the formats above it leaves out.
void MethodPicker::describe(int row) {
    if (row < 0)
        return;
    const MethodSpec& spec = methods_[static_cast<std::size_t>(row)];
    const Method& entry = method(spec.id);
    QStringList lines{tr("Takes %1").arg(QString::fromStdString(entry.formats).toHtmlEscaped())};
    QStringList left_out;
    for (const FormatSpec& format : formats_)
        if (!entry.takes(format))
            left_out += QString::fromStdString(format.text());
    if (!left_out.isEmpty())
        lines += tr("Leaves out %1").arg(left_out.join(", ").toHtmlEscaped());
    if (entry.calibrates)
        lines += tr("Looks at the inputs of layers on the calibration text");
    lines += tr("Definition: %1").arg(QString::fromStdString(entry.source).toHtmlEscaped());
    facts_->setText(lines.join("<br>"));
}

} // namespace qs::gui
