#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "app/gui/Background.h"
#include "app/gui/plot/StackedBars.h"
#include "app/gui/views/View.h"
#include "core/memory/ledger.h"

class QCheckBox;
class QComboBox;
class QLabel;
class QSlider;
class QSpinBox;
class QTableWidget;

namespace qs::gui {

/// A slider over powers of two with a field beside it in which any whole number can be typed.
class LogSlider : public QWidget {
    Q_OBJECT
public:
    LogSlider(int leastPower, int greatestPower, QWidget* parent = nullptr);

    std::uint64_t value() const;
    void setValue(std::uint64_t value);
    QSlider* slider() { return slider_; }
    QSpinBox* field() { return field_; }

signals:
    void changed(std::uint64_t value);

private:
    std::uint64_t valueAt(int position) const;
    int positionOf(std::uint64_t value) const;

    QSlider* slider_;
    QSpinBox* field_;
};

/// What a model takes in each format, as stacked bars against the capacity of a GPU, and the table of naive and true
/// sizes: for the open checkpoint, a built-in card or a config.json, over context, batch and type of the KV cache.
class MemoryView : public View {
    Q_OBJECT
public:
    explicit MemoryView(Session* session, QWidget* parent = nullptr);

    QString title() const override { return tr("Memory"); }
    Plot* activePlot() override { return plot_; }
    QByteArray csv() const override;

    struct Row {
        FormatSpec spec;
        Ledger ledger;
        Fit fit;
    };
    const std::vector<Row>& rows() const { return rows_; }
    const StackedBars* bars() const { return bars_; }
    MemoryOptions options() const;

protected:
    void refresh() override;
    bool idle() const override { return !job_.busy() && !cardJob_.busy(); }

private:
    struct Answer {
        std::vector<Row> rows;
        std::optional<FormatSpec> best;
    };

    QWidget* buildControls();
    void buildPlot();
    void buildTable();
    void fillModels();
    void chooseConfig();
    void takeModel();
    void useCard(std::shared_ptr<const ModelCard> card);
    void compute();
    void showAnswer(Answer answer);
    void fillBars();
    void fillTable();
    void fitRange();
    void setUnit(double largest);
    const Gpu* gpu() const;
    std::optional<ReadoutText> readoutAt(QPointF position) const;

    Plot* plot_;
    QComboBox* model_;
    QComboBox* gpu_;
    QComboBox* cache_;
    QCheckBox* flash_;
    LogSlider* context_;
    LogSlider* batch_;
    QLabel* caption_;
    QTableWidget* table_;
    StackedBars* bars_ = nullptr;

    Background cardJob_{this}, job_{this};
    std::shared_ptr<const Checkpoint> checkpoint_;
    std::shared_ptr<const ModelCard> card_;
    QString source_;            ///< data of the chosen item of model_
    bool contextTyped_ = false; ///< the user has chosen a context
    std::vector<Row> rows_;
    std::optional<FormatSpec> best_;
};

} // namespace qs::gui
