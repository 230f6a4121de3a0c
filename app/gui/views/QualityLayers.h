#pragma once

#include "app/gui/views/QualityPage.h"

class QComboBox;

namespace qs::gui {

/// The error of each linear layer's output on the text, above the error of its weights: the same layers, a line for
/// each format. A click selects the tensor.
class QualityLayers : public QualityPage {
    Q_OBJECT
public:
    QualityLayers(Session* session, const QualityData& data, QWidget* parent = nullptr);

    QString name() const override { return tr("Layer errors"); }
    void fill() override;
    QByteArray csv() const override;

    /// Those on the axis, in its order.
    const std::vector<LinearTensor>& places() const { return places_; }

private:
    struct Line {
        Variant variant;
        QCPGraph *output, *weight;
    };

    void layOut();
    void findPlaces();
    void fillLines();
    void fitValues();
    void showSelection();
    double outputError(const Variant& variant, const LinearTensor& place) const;
    double weightError(const Variant& variant, const LinearTensor& place) const;
    std::optional<std::size_t> placeAt(double key) const;
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;

    QComboBox* role_;
    QCPAxisRect* outputPane_ = nullptr;
    QCPAxisRect* weightPane_ = nullptr;
    std::vector<QCPItemRect*> bands_;
    std::vector<Line> lines_;
    std::vector<LinearTensor> places_;
    std::vector<Variant> laidOutVariants_;
    const RunnableModel* laidOut_ = nullptr;
    std::map<QCPAxisRect*, bool> logChosen_; ///< once the user has switched
};

} // namespace qs::gui
