#pragma once

#include <QIcon>
#include <QString>

namespace qs::gui {

/// One of the program's own icons (resources/icons), drawn in the theme's text colour at any size.
QIcon icon(const QString& name);
/// A square of one colour, the same in a selected row, which the style would tint.
QIcon swatch(const QColor& colour);
/// The program's own, in its own colours.
QIcon applicationIcon();

} // namespace qs::gui
