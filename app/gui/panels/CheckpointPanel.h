#pragma once

#include <QWidget>

#include "app/gui/Session.h"

class QLabel;
class QLineEdit;
class QMenu;
class QToolButton;
class QTreeView;

namespace qs::gui {

class CheckpointModel;

/// The tree of the open checkpoint with its search box; its selection is the session's.
class CheckpointPanel : public QWidget {
    Q_OBJECT
public:
    explicit CheckpointPanel(Session* session, QWidget* parent = nullptr);

    CheckpointModel* model() const { return model_; }
    QTreeView* tree() const { return tree_; }
    /// Puts the cursor into the search box.
    void search();
    void setMetric(const QString& id);
    QByteArray saveState() const;
    void restoreState(const QByteArray& state);
    QSize sizeHint() const override { return {318, 600}; }

signals:
    void metricChanged(const QString& id);

protected:
    bool eventFilter(QObject* watched, QEvent* event) override;

private:
    void fitNames();
    bool stepByKey(int key);
    void applySearch();
    void expandHelpfully();
    void followSession();
    void followTree();
    void showMenu(const QPoint& position);
    void showHeaderMenu(const QPoint& position);
    void copyName(const QModelIndex& index) const;
    void copyStatistics(const QModelIndex& index) const;

    Session* session_;
    CheckpointModel* model_;
    QLineEdit* search_;
    QToolButton* flat_;
    QTreeView* tree_;
    QLabel* note_;
    bool following_ = false;
};

/// Statistics and results of a tensor as tab-separated text, unrounded; empty before it was measured.
QString reportText(const Session& session, std::size_t tensor);

} // namespace qs::gui
