#pragma once

#include <QString>

#include <optional>
#include <span>

#include "core/model/scores.h"

namespace qs::gui {

/// One way to say what a format does to a model's predictions, as menus, axes and columns name it.
struct ScoreMetric {
    QString id; ///< JSON name of `eval`
    QString name;
    QString unit; ///< empty where it has none
    QString help; ///< one sentence for a tooltip
    /// Its values span decades over formats.
    bool logarithmic;
    double (*value)(const ScoreSummary&);
    double (*error)(const ScoreSummary&); ///< standard error; null where there is none
    /// The value of a model that predicts what the original does, where that does not depend on the text.
    std::optional<double> ideal;

    QString title() const { return unit.isEmpty() ? name : name + " (" + unit + ')'; }
};

/// In the order in which menus list them; perplexity first.
std::span<const ScoreMetric> scoreMetrics();

} // namespace qs::gui
