#pragma once

#include <QTimer>

#include "app/gui/Background.h"
#include "app/gui/Inbox.h"
#include "app/gui/plot/TokenText.h"
#include "app/gui/views/QualityPage.h"
#include "core/model/continuations.h"

class QBoxLayout;
class QDoubleSpinBox;
class QLineEdit;
class QSpinBox;
class QToolButton;

namespace qs::gui {

/// A prompt continued by the original and by each format, one below the other, token by token: each token on a tint as
/// deep as its model finds it probable; under the cursor what every model thinks of it; framed where a format first
/// chooses otherwise than the original.
class QualityText : public QualityPage {
    Q_OBJECT
public:
    QualityText(Session* session, const QualityData& data, QWidget* parent = nullptr);

    QString name() const override { return tr("Text"); }
    void fill() override;
    QByteArray csv() const override;

    void start();
    void stop();
    bool busy() const { return job_.busy(); }
    /// The original's, then those of models(): as far as they have come.
    const std::vector<Continuation>& texts() const { return texts_; }
    const std::vector<Variant>& models() const { return models_; }
    const std::vector<TokenText*>& rows() const { return rows_; }

signals:
    void failed(const qs::gui::Failure& failure);

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void buildControls(QBoxLayout* column);
    void collect();
    QString makingText() const;
    void ended();
    void layOut();
    void fitHeights();
    void fillRow(std::size_t model);
    void showButtons();
    QString nameOfModel(std::size_t model) const;
    QColor colourOf(std::size_t model) const;
    QString verdict(std::size_t model) const;
    QString piece(int token) const;
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;

    QLineEdit* prompt_;
    QSpinBox* tokens_;
    QDoubleSpinBox* temperature_;
    QDoubleSpinBox* topP_;
    QSpinBox* seed_;
    QToolButton* run_;

    Background job_{this};
    QTimer ticks_;
    std::shared_ptr<Inbox<std::vector<Continuation>>> inbox_;
    std::shared_ptr<const RunnableModel> model_; ///< that texts_ are of
    std::vector<Variant> models_;
    std::vector<Continuation> texts_;
    QString written_; ///< the prompt of texts_
    bool laidOut_ = false;
    std::vector<QCPAxisRect*> panes_;
    std::vector<TextRow*> headings_;
    std::vector<TokenText*> rows_;
};

} // namespace qs::gui
