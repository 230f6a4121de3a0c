#pragma once

#include <QStringList>

#include "app/gui/views/ElidedCombo.h"

namespace qs::gui {

/// Texts to run a model over: what is always there, those that were chosen lately (the same in all choosers and in the
/// next session), and an entry that opens a file dialog.
class TextChooser : public ElidedCombo {
    Q_OBJECT
public:
    /// `title` is that of the dialog.
    explicit TextChooser(const QString& title, QWidget* parent = nullptr);

    /// What comes first, by name and file; an empty file is a choice too. The last ones come behind those of the user.
    struct Entry {
        QString name, file;
    };
    void setEntries(const QList<Entry>& first, const QList<Entry>& last);
    /// Takes a file and chooses it.
    void addText(const QString& path);
    /// False while only the entry that opens the dialog is chosen.
    bool hasText() const;
    QString text() const; ///< the chosen file
    void openDialog();

signals:
    /// Another text is chosen, by the user or by addText().
    void chosen();

private:
    void fill();

    QString title_;
    QList<Entry> first_, last_;
    QString before_; ///< what was chosen before the dialog's entry
};

} // namespace qs::gui
