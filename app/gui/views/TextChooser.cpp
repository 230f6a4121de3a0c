#include "app/gui/views/TextChooser.h"

#include <QFileDialog>
#include <QFileInfo>
#include <QSettings>

#include <algorithm>

namespace qs::gui {

namespace {

constexpr qsizetype most_recent = 8;
const QString settings_key = QStringLiteral("texts");
const QString choose_text = QStringLiteral("\nchoose"); // no file is named so

QStringList recentTexts() {
    QStringList texts = QSettings().value(settings_key).toStringList();
    texts.removeIf([](const QString& path) { return !QFileInfo::exists(path); });
    return texts;
}

} // namespace

TextChooser::TextChooser(const QString& title, QWidget* parent) : ElidedCombo(parent), title_(title) {
    setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    setMinimumContentsLength(12);
    fill();
    connect(this, &QComboBox::activated, this, [this] {
        if (!hasText())
            return openDialog();
        before_ = text();
        emit chosen();
    });
}

void TextChooser::setEntries(const QList<Entry>& first, const QList<Entry>& last) {
    first_ = first;
    last_ = last;
    fill();
}

void TextChooser::fill() {
    const QString current = currentData().toString();
    clear();
    for (const Entry& entry : first_)
        addItem(entry.name, entry.file);
    for (const QString& path : recentTexts()) {
        addItem(QFileInfo(path).fileName(), path);
        setItemData(count() - 1, path, Qt::ToolTipRole);
    }
    for (const Entry& entry : last_)
        addItem(entry.name, entry.file);
    addItem(tr("Choose a text…"), choose_text);
    setCurrentIndex(current.isNull() ? 0 : std::max(0, findData(current)));
    if (!hasText() && count() > 1)
        setCurrentIndex(0);
    before_ = text();
}

void TextChooser::addText(const QString& path) {
    QStringList recent = recentTexts();
    recent.removeAll(path);
    recent.prepend(path);
    QSettings().setValue(settings_key, recent.first(std::min(recent.size(), most_recent)));
    fill();
    if (findData(path) < 0) // not there any more: what is run on it says so
        insertItem(0, QFileInfo(path).fileName(), path);
    setCurrentIndex(findData(path));
    before_ = path;
    emit chosen();
}

bool TextChooser::hasText() const {
    return currentIndex() >= 0 && currentData().toString() != choose_text;
}

QString TextChooser::text() const {
    return hasText() ? currentData().toString() : QString();
}

void TextChooser::openDialog() {
    auto* dialog = new QFileDialog(this, title_);
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::ExistingFile);
    dialog->setNameFilters({tr("Texts (*.txt *.md)"), tr("All files (*)")});
    connect(dialog, &QFileDialog::fileSelected, this, &TextChooser::addText);
    connect(dialog, &QFileDialog::rejected, this, [this] { setCurrentIndex(std::max(0, findData(before_))); });
    dialog->open();
}

} // namespace qs::gui
