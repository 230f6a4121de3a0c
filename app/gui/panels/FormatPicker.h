#pragma once

#include <QDialog>

#include <map>
#include <optional>
#include <span>

#include "core/formats/registry.h"

class QFormLayout;
class QLabel;
class QLineEdit;
class QPushButton;
class QTreeWidget;
class QTreeWidgetItem;

namespace qs::gui {

/// The registry by family, with an editor for the parameters of the chosen format. Adds a format to the comparison or
/// changes one that is in it; stays open beside the window until it is closed. What cannot be chosen is listed too, and
/// says why.
class FormatPicker : public QDialog {
    Q_OBJECT
public:
    /// `table` is what to offer, the registry or rows of it.
    explicit FormatPicker(QWidget* parent = nullptr, std::span<const Format> table = formats());

    /// To add formats; `present` are marked in the list.
    void showToAdd(const std::vector<FormatSpec>& present);
    /// To change the parameters of `spec`.
    void showToEdit(const FormatSpec& spec);
    /// The format with the parameters that the editor shows; nothing while a family is chosen.
    std::optional<FormatSpec> spec() const;

signals:
    void added(const qs::FormatSpec& spec);
    void edited(const qs::FormatSpec& before, const qs::FormatSpec& after);

private:
    void fill();
    template <class Visit>
    void forEachItem(Visit visit) const;
    QTreeWidgetItem* itemOf(const std::string& id) const;
    const Format& entryOf(const std::string& id) const;
    void filter(const QString& text);
    void markPresent(const std::vector<FormatSpec>& present);
    void choose(const std::string& id);
    void reveal(QWidget* focus);
    void showFormat(const FormatSpec& spec);
    void clearEditors();
    void describe();
    void apply();
    bool eventFilter(QObject* watched, QEvent* event) override;

    std::span<const Format> table_;
    QLineEdit* search_;
    QTreeWidget* list_;
    QLabel* title_;
    QFormLayout* editors_;
    QLabel* facts_;
    QPushButton* apply_;
    const Format* format_ = nullptr;
    std::map<std::string, std::string> values_;
    std::optional<FormatSpec> editing_;
};

} // namespace qs::gui
