#pragma once

#include <QWidget>

#include "app/gui/Session.h"

class QGridLayout;
class QLabel;
class QTableView;
class QToolButton;

namespace qs::gui {

class ResultsModel;

/// All figures of the selected tensor, or of the model where none is selected.
class InspectorPanel : public QWidget {
    Q_OBJECT
public:
    explicit InspectorPanel(Session* session, QWidget* parent = nullptr);

    ResultsModel* results() const { return results_; }
    QTableView* table() const { return table_; }
    QSize sizeHint() const override { return {286, 600}; }

private:
    struct Fact {
        QString name, value, tip, help;
    };

    void refresh();
    void showTensor(std::size_t tensor);
    void showModel();
    void showFacts(const std::vector<Fact>& facts);
    void showNotes();
    void showMeaning();
    void fitTable();
    void followSelectedFormat();
    void showMenu(const QPoint& position);
    void copyAll() const;

    Session* session_;
    ResultsModel* results_;
    QLabel* title_;
    QLabel* subtitle_;
    QToolButton* toModel_;
    QWidget* figures_; ///< all below the head, hidden where nothing is open
    QWidget* factsBox_;
    QGridLayout* facts_;
    std::vector<std::pair<QLabel*, QLabel*>> factLabels_;
    QTableView* table_;
    QLabel* notes_;
    QLabel* meaning_;
};

/// One sentence that says what the selected format costs and saves here, next to the best of the others.
QString meaning(const FormatResult& chosen, const std::vector<const FormatResult*>& others);

} // namespace qs::gui
