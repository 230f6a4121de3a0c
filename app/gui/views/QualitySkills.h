#pragma once

#include "app/gui/plot/DeviationBars.h"
#include "app/gui/views/QualityPage.h"

namespace qs::gui {

/// How many of the demo model's questions each format still answers: a small plot of bars for each skill.
class QualitySkills : public QualityPage {
    Q_OBJECT
public:
    QualitySkills(Session* session, const QualityData& data, QWidget* parent = nullptr);

    QString name() const override { return tr("Skills"); }
    void fill() override;
    QByteArray csv() const override;

    const std::vector<DeviationBars*>& bars() const { return bars_; }

private:
    void layOut();
    void shareWidth();
    void fillSkill(std::size_t skill);
    const SkillScore* score(const Variant& variant, std::size_t skill) const;
    std::optional<ReadoutText> readoutAt(QCPAxisRect* pane, QPointF position) const;

    const RunnableModel* laidOut_ = nullptr;
    std::vector<QCPAxisRect*> panes_;
    std::vector<DeviationBars*> bars_;
};

} // namespace qs::gui
