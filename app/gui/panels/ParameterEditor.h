#pragma once

#include <QString>

#include <functional>
#include <string>

#include "core/formats/parameters.h"

class QFormLayout;

namespace qs::gui {

/// A name of the tables as it is written on the screen: "act_order" is "act order".
QString readable(const std::string& name);

/// Adds an editor for one parameter of a format or a method to a form, of the kind that the table tells, with its help
/// as the tooltip. `set` is given each new value in the spelling that the parser reads.
void addParameter(QFormLayout& form, const Parameter& parameter, const std::string& value,
                  std::function<void(const std::string&)> set);

} // namespace qs::gui
