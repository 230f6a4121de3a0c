#pragma once

#include <QWidget>

#include <map>
#include <memory>
#include <vector>

#include "app/gui/Session.h"
#include "app/gui/plot/Plot.h"
#include "core/model/skills.h"
#include "core/model/tokenizer.h"
#include "core/model/variants.h"

namespace qs::gui {

/// A checkpoint that can be run: with its tokenizer, and what belongs to it.
struct RunnableModel {
    std::shared_ptr<const Checkpoint> checkpoint;
    Decoder decoder;
    std::unique_ptr<const Tokenizer> tokenizer;
    std::vector<LinearTensor> linears; ///< in the order in which they are used
    std::optional<ModelMaterial> material;
    std::vector<Skill> skills;
};

/// What the pages of the Quality view show; the view owns it.
struct QualityData {
    std::shared_ptr<const RunnableModel> model;
    std::vector<Variant> variants; ///< that are compared and can be made
    std::vector<Variant> left_out; ///< that cannot, see why_not()
    ScoreSummary reference;        ///< without tokens before the first results
    std::map<Variant, VariantResult> results;
    std::vector<SkillScore> reference_skills;
    std::map<Variant, std::vector<SkillScore>> skills;
    bool running = false;

    const VariantResult* result(const Variant& variant) const {
        const auto found = results.find(variant);
        return found == results.end() ? nullptr : &found->second;
    }
};

/// A variant as it is written on the screen.
QString nameOf(const Variant& variant);

/// A page of the Quality view: one plot over its data.
class QualityPage : public QWidget {
    Q_OBJECT
public:
    QualityPage(Session* session, const QualityData& data, QWidget* parent = nullptr);

    virtual QString name() const = 0;
    /// Draws what the data hold now.
    virtual void fill() = 0;
    virtual QByteArray csv() const = 0;
    Plot* plot() const { return plot_; }

signals:
    void formatPicked(const qs::FormatSpec& spec);

protected:
    Session* session() const { return session_; }
    const QualityData& data() const { return data_; }
    /// Gives a pane of bars a row for each variant, the first on top, with their names on the left.
    void setVariantRows(QCPAxisRect* pane, int rowHeight);
    bool selected(const Variant& variant) const { return session_->selectedSpec() == variant.format; }

private:
    Session* session_;
    const QualityData& data_;
    Plot* plot_;
};

} // namespace qs::gui
