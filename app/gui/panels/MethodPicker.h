#pragma once

#include <QDialog>

#include <vector>

#include "core/formats/format_spec.h"
#include "core/methods/method_spec.h"

class QFormLayout;
class QLabel;
class QTreeWidget;
class QTreeWidgetItem;

namespace qs::gui {

/// The methods that models can be made with: a check for each that is compared, and an editor for the parameters of the
/// one that is looked at. What no format of the comparison takes is listed too, and says why. Takes effect at once;
/// stays open beside the window until it is closed.
class MethodPicker : public QDialog {
    Q_OBJECT
public:
    explicit MethodPicker(QWidget* parent = nullptr);

    /// The formats of the comparison, by which methods can be chosen or not.
    void setFormats(const std::vector<FormatSpec>& formats);
    /// Those that are checked and that some format takes, with their parameters.
    std::vector<MethodSpec> chosen() const;
    /// Checks exactly these.
    void setChosen(const std::vector<MethodSpec>& methods);

signals:
    void changed();

private:
    void fill();
    void showMethod(int row);
    void describe(int row);
    bool canBeChosen(const MethodSpec& method) const;

    std::vector<MethodSpec> methods_; ///< a row each
    std::vector<FormatSpec> formats_;
    QTreeWidget* list_;
    QLabel* title_;
    QFormLayout* editors_;
    QLabel* facts_;
};

} // namespace qs::gui
