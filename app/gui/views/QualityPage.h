#pragma once

#include <QWidget>

#include <map>
#include <memory>
#include <vector>

#include "app/gui/Session.h"
#include "app/gui/plot/Plot.h"
#include "app/gui/views/RunnableModel.h"
#include "core/model/variants.h"

class QBoxLayout;
class QHBoxLayout;
class QLabel;
class QTableWidget;

namespace qs::gui {

/// What the pages of the Quality view show; the view owns it.
struct QualityData {
    std::shared_ptr<const RunnableModel> model;
    TextChoice texts;              ///< that are chosen now
    std::vector<Variant> variants; ///< that are compared and can be made, by format
    std::vector<Variant> left_out; ///< that cannot, see why_not()
    ScoreSummary reference;        ///< without tokens before the first results
    std::map<Variant, VariantResult> results;
    std::vector<SkillScore> reference_skills;
    std::map<Variant, std::vector<SkillScore>> skills;
    bool running = false;
    /// Where a text is still to be chosen, what a page without results says of it.
    bool wants_text = false;

    const VariantResult* result(const Variant& variant) const {
        const auto found = results.find(variant);
        return found == results.end() ? nullptr : &found->second;
    }
};

/// A variant as it is written on the screen.
QString nameOf(const Variant& variant);
/// The same without the parameters of its method, which differ in nothing that is compared.
QString labelOf(const Variant& variant);
/// The mark of its method among points, and the style of its line.
QCPScatterStyle::ScatterShape shapeOf(const Variant& variant);
Qt::PenStyle lineOf(const Variant& variant);

/// Columns with their names and tooltips, the first of them text and the others numbers; rows are chosen one at a time.
void setUpTable(QTableWidget* table, const QStringList& names, const QStringList& tips, int textColumns);

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
    /// A row of controls under what a column holds.
    static QHBoxLayout* addControls(QBoxLayout* column);
    /// Adds a control behind its name, which has its key; returns the name.
    static QLabel* addControl(QBoxLayout* row, const QString& name, QWidget* control);
    /// Where there is nothing to see yet, what to do about it.
    QString whatToDo(const QString& evaluate) const;
    /// Whether the variant at a place is the first of its format.
    bool beginsFormat(std::size_t variant) const;
    bool selected(const Variant& variant) const { return session_->selectedSpec() == variant.format; }

private:
    Session* session_;
    const QualityData& data_;
    Plot* plot_;
};

} // namespace qs::gui
