#include "app/gui/views/QualitySkills.h"

#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/Numbers.h"
#include "app/gui/plot/Export.h"
#include "app/gui/plot/PlotScroll.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

constexpr int row_height = 20;
/// Room behind the longest bar for its label, as a part of the axis.
constexpr double label_room = 0.85;

QString outOf(const SkillScore& score) {
    return QObject::tr("%1 of %2").arg(score.right).arg(score.asked);
}

} // namespace

QualitySkills::QualitySkills(Session* session, const QualityData& data, QWidget* parent)
    : QualityPage(session, data, parent) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    plot()->setObjectName("qualitySkills");
    column->addWidget(new PlotScroll(plot()), 1);
    plot()->setReadout([this](QCPAxisRect* pane, QPointF position) { return readoutAt(pane, position); });
    connect(plot(), &Plot::paneClicked, this, [this](QCPAxisRect* pane, QPointF position) {
        const auto place = std::ranges::find(panes_, pane);
        if (place == panes_.end())
            return;
        if (const auto row = bars_[static_cast<std::size_t>(place - panes_.begin())]->barAt(position.y()))
            emit formatPicked(this->data().variants[*row].format);
    });
}

const SkillScore* QualitySkills::score(const Variant& variant, std::size_t skill) const {
    const auto found = data().skills.find(variant);
    return found == data().skills.end() || skill >= found->second.size() ? nullptr : &found->second[skill];
}

void QualitySkills::layOut() {
    laidOut_ = data().model.get();
    plot()->clearPanes();
    panes_.clear();
    bars_.clear();
    auto* grid = new QCPLayoutGrid;
    plot()->plotLayout()->addElement(1, 0, grid);
    grid->setRowSpacing(0);
    grid->setColumnSpacing(0);
    for (const Skill& skill : data().model->skills) {
        const int column = static_cast<int>(panes_.size());
        auto* heading = new TextRow(plot());
        heading->setParts({{QString::fromStdString(skill.name), std::nullopt, true}});
        grid->addElement(0, column, heading);
        QCPAxisRect* pane = plot()->addPane(grid, 1, column);
        QCPAxis *x = pane->axis(QCPAxis::atBottom), *y = pane->axis(QCPAxis::atLeft);
        plot()->nameAxis(x, tr("right answers"), QStringLiteral("%"));
        plot()->setTickText(x, [](double share, double step) {
            return share > 1 + step / 2 ? QString() : plainTick(100 * share, 100 * step);
        });
        plot()->setMostTicks(x, 5);
        plot()->setHome(x, QCPRange(0, 1 + label_room));
        y->grid()->setVisible(false);
        y->setTickLabels(column == 0);
        bars_.push_back(new DeviationBars(x, y));
        panes_.push_back(pane);
    }
}

void QualitySkills::fill() {
    if (!data().model)
        return;
    if (laidOut_ != data().model.get())
        layOut();
    for (std::size_t skill = 0; skill < panes_.size(); ++skill)
        fillSkill(skill);
    std::vector<LegendEntry> entries;
    if (!data().reference_skills.empty())
        entries = {{"original", tr("unquantized"), Theme::instance().original(), LegendEntry::Mark::line, false, false,
                    Qt::DashLine},
                   {"error", tr("± standard error"), Theme::instance().text(), LegendEntry::Mark::tick, false}};
    plot()->keys()->setEntries(std::move(entries));
    plot()->setEmpty(!data().reference_skills.empty() ? QString()
                     : data().running                 ? tr("The text comes first, then the questions…")
                                      : whatToDo(tr("Evaluate to ask each format the model's questions.")));
    shareWidth();
    plot()->goHome();
    plot()->replot(QCustomPlot::rpQueuedReplot);
}

/// The first pane has the names too, and is wider by them.
void QualitySkills::shareWidth() {
    if (panes_.empty())
        return;
    double names = 0;
    const QFontMetricsF metrics(plot()->font());
    for (const Variant& variant : data().variants)
        names = std::max(names, metrics.horizontalAdvance(labelOf(variant)));
    const double pane = (plot()->width() - names) / static_cast<double>(panes_.size());
    auto* grid = static_cast<QCPLayoutGrid*>(plot()->plotLayout()->element(1, 0));
    grid->setColumnStretchFactor(0, pane > 0 ? 1 + names / pane : 1);
}

void QualitySkills::fillSkill(std::size_t skill) {
    std::vector<DeviationBars::Bar> bars;
    const bool many = data().variants.size() > session()->formats().size();
    for (std::size_t i = 0; i < data().variants.size(); ++i) {
        const Variant& variant = data().variants[i];
        DeviationBars::Bar bar;
        bar.begins = many && beginsFormat(i);
        bar.colour = Theme::instance().format(variant.format);
        bar.strong = selected(variant);
        if (const SkillScore* found = score(variant, skill)) {
            bar.value = found->share();
            bar.error = found->share_stderr();
            bar.label = QStringLiteral("%1/%2").arg(found->right).arg(found->asked);
        }
        bars.push_back(std::move(bar));
    }
    bars_[skill]->setBars(std::move(bars));
    if (skill < data().reference_skills.size())
        bars_[skill]->setLine(DeviationBars::Line{data().reference_skills[skill].share(), 0, {}});
    else
        bars_[skill]->setLine(std::nullopt);
    setVariantRows(panes_[skill], row_height);
}

std::optional<ReadoutText> QualitySkills::readoutAt(QCPAxisRect* pane, QPointF position) const {
    const auto place = static_cast<std::size_t>(std::ranges::find(panes_, pane) - panes_.begin());
    if (place >= panes_.size())
        return std::nullopt;
    const auto row = bars_[place]->barAt(pane->axis(QCPAxis::atLeft)->pixelToCoord(position.y()));
    if (!row)
        return std::nullopt;
    const Variant& variant = data().variants[*row];
    const SkillScore* found = score(variant, place);
    ReadoutText text;
    text.hairLine = false;
    text.title = nameOf(variant) + QStringLiteral(" · ") + QString::fromStdString(data().model->skills[place].name);
    text.rows.push_back(
        {Theme::instance().format(variant.format), tr("right answers"),
         found ? outOf(*found) + QStringLiteral(" · ") + percent(found->share()) : tr("not asked yet")});
    if (place < data().reference_skills.size())
        text.rows.push_back({Theme::instance().original(), tr("unquantized"), outOf(data().reference_skills[place])});
    if (const auto& items = data().model->skills[place].items; !items.empty())
        text.note =
            tr("For example: %1%2")
                .arg(QString::fromStdString(items.front().prompt), QString::fromStdString(items.front().answer));
    return text;
}

QByteArray QualitySkills::csv() const {
    QByteArray csv = "format,method,skill,right,asked\n";
    const auto lines = [&csv](const QString& format, const QString& method, const std::vector<SkillScore>& scores) {
        for (const SkillScore& score : scores)
            csv += csvText(format) + ',' + csvText(method) + ',' + csvText(QString::fromStdString(score.name)) + ',' +
                   QByteArray::number(score.right) + ',' + QByteArray::number(score.asked) + '\n';
    };
    lines(tr("unquantized"), {}, data().reference_skills);
    for (const Variant& variant : data().variants)
        if (const auto found = data().skills.find(variant); found != data().skills.end())
            lines(QString::fromStdString(variant.format.text()), QString::fromStdString(variant.method_text()),
                  found->second);
    return csv;
}

} // namespace qs::gui
