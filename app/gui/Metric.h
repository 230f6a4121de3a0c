#pragma once

#include <QString>

#include <span>

#include "core/analysis/report.h"

namespace qs::gui {

/// One way to say how far a reconstruction is from its weights (PRODUCT.md section 4), as menus, columns and axes
/// name it.
struct Metric {
    QString id;   ///< JSON name, e.g. "sqnr_db"
    QString name; ///< "SQNR"
    QString unit; ///< "dB"; empty where it has none
    QString help; ///< one sentence for a tooltip
    bool higher_is_better;
    bool logarithmic; ///< its values span decades over a model
    /// A spread of values (of their logarithms where logarithmic) below this is too small to be worth all colours.
    double small_spread;
    double (*value)(const FormatResult&);

    /// "SQNR (dB)"
    QString title() const { return unit.isEmpty() ? name : name + " (" + unit + ')'; }
};

/// The metrics in the order in which menus list them; SQNR first.
std::span<const Metric> metrics();
/// The metric of this id, SQNR if there is none.
const Metric& metric(const QString& id);

} // namespace qs::gui
