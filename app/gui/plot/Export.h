#pragma once

#include <qcustomplot.h>

#include <QByteArray>
#include <QString>

namespace qs::gui {

/// Writes `data` beside `path`, then renames: the file is complete or absent. False with a reason in `error`.
bool writeWhole(const QString& path, const QByteArray& data, QString* error);

/// The picture of a plot as the bytes of a file: PNG at twice the size on screen, SVG or PDF with text as text.
QByteArray toPng(QCustomPlot& plot);
QByteArray toSvg(QCustomPlot& plot);
QByteArray toPdf(QCustomPlot& plot);

/// A CSV cell: quoted where it holds a comma, a quote or a line break (RFC 4180).
QByteArray csvText(const QString& text);
/// A CSV cell with all digits of a number; empty for NaN.
QByteArray csvNumber(double value);

} // namespace qs::gui
